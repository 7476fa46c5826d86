//! Rolling updates, forward.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Scenario, scenario};
use crate::{
    exam::{Exam, text},
    film::{Shot, Task, seconds},
};

pub const ALL: &[Scenario] = &[
    scenario("C25", "stop-first, one slot at a time", stop_first),
    scenario("C26", "start-first keeps what serves", start_first),
    scenario("C27", "parallelism 0 is all at once", all_at_once),
    scenario("C28", "settings replace no task", settings),
    scenario("C29", "the task's own fields replace every task", replaces),
    scenario("C30", "force replaces every task", force),
    scenario("C31", "a failed update pauses", pause),
    scenario("C36", "continue replaces every slot", continues),
    scenario("C37", "a newer update takes over", supersedes),
    scenario("C39", "an image that is missing", missing_image),
];

pub fn image(service: &Value) -> String {
    text(&service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])
}

/// The last look of a film.
pub fn last(shots: &[Shot]) -> Result<&Shot> {
    shots.last().context("a look")
}

/// The new task stays ready until the old one has shut down. On a Docker daemon the old one is sent
/// away in the very transaction that makes the new one; here it stays until that is prepared (B9).
fn stop_first(exam: &Exam<'_>) -> Result<()> {
    exam.create("c25", "--replicas 2", "semh:1")?;
    let old = exam.until_running("c25", 2)?;
    exam.update("c25", "--image semh:2")?;
    let mut states = Vec::new();
    let shots = exam.film("c25", "completed", |shot| shot.update() == "completed")?;
    for shot in &shots {
        states.push((shot.update(), text(&shot.service["UpdateStatus"]["Message"])));
    }
    states.dedup();
    let is_known = |state: &(String, String)| {
        matches!(
            (state.0.as_str(), state.1.as_str()),
            ("", "") | ("updating", "update in progress") | ("completed", "update completed")
        )
    };
    ensure!(states.iter().all(is_known) && states.len() >= 2, "{states:?}");
    let mut first_new = None;
    for shot in &shots {
        for new in shot.others(&old) {
            let beside = shot.tasks.iter().find(|task| task.slot == new.slot && task.id != new.id);
            let Some(beside) = beside else { continue };
            if beside.state != "shutdown" {
                ensure!(new.desired == "ready", "started beside the old one: {new:?} {beside:?}");
            }
            if !exam.is_embedded() {
                ensure!(beside.is_leaving(), "made before the old one was sent away: {beside:?}");
            } else if beside.is_leaving() {
                ensure!(!matches!(&*new.state, "assigned" | "preparing"), "{new:?} {beside:?}");
            }
            // One slot at a time: the second only when the first new task runs.
            let first = first_new.get_or_insert(new.slot);
            let is_first_there =
                |shot: &Shot| shot.others(&old).any(|t| t.slot == *first && t.state == "running");
            ensure!(new.slot == *first || is_first_there(shot), "two slots at once");
        }
    }
    let done = last(&shots)?;
    let new: Vec<&Task> = done.others(&old).filter(|task| task.is_serving()).collect();
    ensure!(new.len() == 2, "{:?}", done.tasks);
    let running = new.iter().map(|task| task.since).fold(0.0, f64::max);
    let took = seconds(&done.service["UpdateStatus"]["CompletedAt"]) - running;
    ensure!((4.8..=7.0).contains(&took), "completed {took:.1} s after the last one ran");
    let mut rows = exam.rows("c25")?;
    rows.sort();
    let row = |slot, row| format!("c25.{slot}|{row}|");
    let wanted = [
        row(1, "semh:1|Shutdown|Shutdown"),
        row(1, "semh:2|Running|Running"),
        row(2, "semh:1|Shutdown|Shutdown"),
        row(2, "semh:2|Running|Running"),
    ];
    ensure!(rows == wanted, "{rows:?}");
    Ok(())
}

/// On the embedded engine the old ones stay for the monitor time beside the new (B1).
fn start_first(exam: &Exam<'_>) -> Result<()> {
    let words =
        "--replicas 2 --update-order start-first --update-parallelism 2 --update-monitor 3s";
    exam.create("c26", words, "semh:1")?;
    let old = exam.until_running("c26", 2)?;
    exam.update("c26", "--image semh:2")?;
    let shots = exam.film("c26", "completed", |shot| shot.update() == "completed")?;
    for shot in &shots {
        let running = shot.tasks.iter().filter(|task| task.state == "running").count();
        ensure!(running >= 2, "only {running} run");
        for new in shot.others(&old).filter(|task| task.state != "running") {
            let beside = shot.tasks.iter().find(|task| task.slot == new.slot && task.id != new.id);
            let is_there = beside.is_some_and(|old| old.is_serving());
            ensure!(is_there, "gone before the new one ran: {beside:?}");
        }
    }
    let both = |shot: &&Shot| shot.serving().len() == 4;
    let overlap = shots.iter().rev().find(both).zip(shots.iter().find(both));
    let overlap = overlap.map_or(Duration::ZERO, |(last, first)| last.at - first.at);
    ensure!(!exam.is_embedded() || overlap >= Duration::from_secs(2), "all four for {overlap:?}");
    Ok(())
}

fn all_at_once(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 3 --update-parallelism 0 --update-monitor 1s -e TERM_DELAY=700";
    exam.create("c27", words, "sem:1")?;
    let old = exam.until_running("c27", 3)?;
    exam.update("c27", "--image sem:2")?;
    let shots = exam.film("c27", "completed", |shot| shot.update() == "completed")?;
    for shot in &shots {
        let is_one_there = shot.others(&old).any(|task| task.state == "running");
        let are_sent = shot.tasks.iter().filter(|t| old.contains(&t.id)).all(Task::is_leaving);
        ensure!(!is_one_there || are_sent, "a new one ran before all old were sent away");
    }
    let new = last(&shots)?.serving();
    ensure!(new.len() == 3 && new.iter().all(|id| !old.contains(id)), "{new:?}");
    Ok(())
}

fn settings(exam: &Exam<'_>) -> Result<()> {
    exam.create("c28", "", "sem:1")?;
    exam.until_running("c28", 1)?;
    let ids = || -> Result<Vec<String>> {
        Ok(exam.tasks("c28")?.iter().map(|task| text(&task["ID"])).collect())
    };
    let before = ids()?;
    for words in [
        "--label-add a=b",
        "--update-delay 3s",
        "--rollback-parallelism 2",
        "--constraint-add node.role==manager",
    ] {
        exam.update("c28", words)?;
        let service = exam.service("c28")?;
        ensure!(service["UpdateStatus"].is_null(), "{words}: {}", service["UpdateStatus"]);
        ensure!(service["PreviousSpec"].is_object(), "{words}");
        ensure!(ids()? == before, "{words}");
    }
    Ok(())
}

fn replaces(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 2 --update-parallelism 2 --update-monitor 1s";
    exam.create("c29", words, "sem:1")?;
    let mut before = exam.until_running("c29", 2)?;
    for words in ["--container-label-add a=b", "--env-add A=B", "--publish-add 18029:8080"] {
        exam.update("c29", words)?;
        let after = exam.until("other tasks", || {
            let is_new = |ids: &Vec<String>| ids.iter().all(|id| !before.contains(id));
            Ok(Some(exam.running("c29")?).filter(|ids| ids.len() == 2 && is_new(ids)))
        })?;
        exam.until_state("c29", "completed")?;
        before = after;
    }
    Ok(())
}

fn force(exam: &Exam<'_>) -> Result<()> {
    exam.create("c30", "--replicas 2 --update-parallelism 2 --update-monitor 1s", "sem:1")?;
    let before = exam.until_running("c30", 2)?;
    let counter =
        |service: &Value| service["Spec"]["TaskTemplate"]["ForceUpdate"].as_u64().unwrap_or(0);
    let old = counter(&exam.service("c30")?);
    exam.update("c30", "--force")?;
    let service = exam.until_state("c30", "completed")?;
    let after = exam.running("c30")?;
    ensure!(after.len() == 2 && after.iter().all(|id| !before.contains(id)), "{after:?}");
    ensure!(counter(&service) == old + 1, "{}", counter(&service));
    Ok(())
}

/// What a Docker daemon does after the pause, restarting the bad version again and again, the
/// embedded engine does not; nor does it take one more slot before it looks at the failure (B27).
fn pause(exam: &Exam<'_>) -> Result<()> {
    exam.create("c31", "--replicas 3 --restart-delay 1s", "semh:1")?;
    let before = exam.until_running("c31", 3)?;
    let said = exam.docker("service update --no-resolve-image --env-add FAIL_NOW=3 c31")?;
    let words = "service update paused: update paused due to failure or early termination of task ";
    ensure!(said.code == 1 && said.err.contains(words), "{said:?}");
    let task = said.err.split(words).nth(1).unwrap_or_default().trim().to_owned();
    let service = exam.service("c31")?;
    ensure!(service["UpdateStatus"]["State"] == "paused", "{}", service["UpdateStatus"]);
    if !exam.is_embedded() {
        exam.until("restarts", || {
            let tasks = exam.tasks("c31")?;
            let failed = tasks.iter().filter(|task| task["Status"]["State"] == "failed");
            Ok((failed.count() >= 3).then_some(()))
        })?;
    }
    let tasks = Shot::new(Value::Null, exam.tasks("c31")?).tasks;
    let failed = |task: &&Task| task.state == "failed";
    let slots: BTreeSet<u64> = tasks.iter().filter(failed).map(|task| task.slot).collect();
    let most = if exam.is_embedded() { 1 } else { 2 };
    ensure!((1..=most).contains(&slots.len()), "{slots:?}");
    let culprit = tasks.iter().find(|t| t.id == task).context("the task of the message")?;
    ensure!(slots.contains(&culprit.slot) && culprit.exit_code == Some(3), "{culprit:?}");
    let others: Vec<&Task> = tasks.iter().filter(|task| !slots.contains(&task.slot)).collect();
    let is_untouched = |task: &&Task| before.contains(&task.id) && task.is_serving();
    let is_right = others.len() == 3 - slots.len() && others.iter().all(is_untouched);
    ensure!(is_right, "{others:?}");
    let row_end = "|semh:1|Shutdown|Failed|\"task: non-zero exit (3)\"";
    let rows = exam.rows("c31")?;
    ensure!(rows.iter().any(|row| row.ends_with(row_end)), "{rows:?}");
    // The delay is 1 s, and a task fails at once.
    let of_slot = tasks.iter().filter(failed).filter(|task| task.slot == culprit.slot);
    let mut made: Vec<f64> = of_slot.map(|task| task.since).collect();
    made.sort_by(f64::total_cmp);
    let is_spaced = made.windows(2).all(|pair| (0.9..10.0).contains(&(pair[1] - pair[0])));
    ensure!(is_spaced, "failed at {made:?}");
    Ok(())
}

fn continues(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 2 --update-failure-action continue --update-monitor 1s --restart-max-attempts 1 --restart-delay 1s";
    exam.create("c36", words, "sem:1")?;
    let old = exam.until_running("c36", 2)?;
    exam.update("c36", "--env-add FAIL_NOW=3")?;
    let shots = exam.film("c36", "completed", |shot| shot.update() == "completed")?;
    let is_known = |state: &str| matches!(state, "" | "updating" | "completed");
    ensure!(shots.iter().all(|shot| is_known(&shot.update())), "it was never paused");
    let done = last(&shots)?;
    ensure!(!old.iter().any(|id| done.serving().contains(id)), "every slot was replaced");
    for slot in 1..=2 {
        let is_failed = |task: &Task| task.slot == slot && task.state == "failed";
        ensure!(done.tasks.iter().any(is_failed), "slot {slot}: {:?}", done.tasks);
    }
    Ok(())
}

fn supersedes(exam: &Exam<'_>) -> Result<()> {
    exam.create("c37", "--replicas 3 --update-delay 4s --update-monitor 1s", "sem:2")?;
    exam.until_running("c37", 3)?;
    exam.update("c37", "--image sem:3")?;
    exam.until("one on the new version", || {
        let is_new = |row: &&String| row.contains("|sem:3|Running|Running|");
        Ok(exam.rows("c37")?.iter().find(is_new).map(drop))
    })?;
    let first = seconds(&exam.service("c37")?["UpdateStatus"]["StartedAt"]);
    exam.update("c37", "--image sem:1 --update-delay 0s")?;
    let shots = exam.film("c37", "completed", |shot| shot.update() == "completed")?;
    let started = seconds(&last(&shots)?.service["UpdateStatus"]["StartedAt"]);
    ensure!(first > 0.0 && started > first, "{started} after {first}");
    let rows = exam.rows("c37")?;
    let live: Vec<&String> = rows.iter().filter(|row| row.contains("|Running|")).collect();
    let is_new = |row: &&&String| row.contains("|sem:1|Running|Running|");
    ensure!(live.len() == 3 && live.iter().filter(is_new).count() == 3, "{rows:?}");
    // The one completion is of the newer update: the first had two more delays of 4 s to go.
    let before = shots.iter().take(shots.len() - 1);
    ensure!(before.into_iter().all(|shot| shot.update() != "completed"), "completed twice");
    Ok(())
}

/// The registry that the name asks for is a port nobody listens on.
fn missing_image(exam: &Exam<'_>) -> Result<()> {
    let words =
        "service create --no-resolve-image --name c39 --restart-delay 2s 127.0.0.1:1/nosuch:1";
    let said = exam.docker_within(words, Duration::from_secs(9))?;
    ensure!(said.code == 124, "the client waits: {said:?}");
    let tasks = Shot::new(Value::Null, exam.tasks("c39")?).tasks;
    let rejected: Vec<&Task> = tasks.iter().filter(|task| task.state == "rejected").collect();
    ensure!(rejected.len() >= 4, "{tasks:?}");
    for task in &rejected {
        ensure!(task.error.contains("nosuch:1"), "{task:?}");
    }
    // The first replacement is tried as soon as it is made, each later one a delay after another.
    let later = &rejected[1..];
    let span = later[later.len() - 1].since - later[0].since;
    let gap = span / f64::from(u32::try_from(later.len() - 1)?);
    ensure!((1.5..=2.6).contains(&gap), "{gap:.2} s between two tries");
    let rows = exam.rows("c39")?;
    let is_told = |row: &String| row.contains("|Rejected|\"") && row.contains("nosuch:1");
    ensure!(rows.iter().any(is_told), "{rows:?}");
    Ok(())
}
