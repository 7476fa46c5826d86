//! Rolling updates, forward and back.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Scenario, scenario};
use crate::exam::{Exam, text};

pub const ALL: &[Scenario] = &[
    scenario("C25", "stop-first, one slot at a time", stop_first),
    scenario("C26", "start-first keeps what serves", start_first),
    scenario("C27", "parallelism 0 is all at once", all_at_once),
    scenario("C28", "settings replace no task", settings),
    scenario("C29", "the task's own fields replace every task", replaces),
    scenario("C30", "force replaces every task", force),
    scenario("C31", "a failed update pauses", pause),
    scenario("C32", "a failed update goes back", rolls_back),
    scenario("C33", "an unhealthy version never replaces the old", unhealthy),
    scenario("C34", "back by hand after an automatic rollback", after_rollback),
    scenario("C35", "back by hand, twice", by_hand),
    scenario("C36", "continue replaces every slot", continues),
    scenario("C37", "a newer update takes over", supersedes),
    scenario("C38", "a way back that fails", rollback_fails),
    scenario("C39", "an image that is missing", missing_image),
];

fn image(service: &Value) -> String {
    text(&service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])
}

fn remove(exam: &Exam<'_>, name: &str) -> Result<()> {
    exam.docker(&format!("service rm {name}"))?.fine().map(drop)
}

fn stop_first(exam: &Exam<'_>) -> Result<()> {
    exam.create("c25", "--replicas 2 --update-monitor 1s", "semh:1")?;
    let old = exam.until_running("c25", 2)?;
    exam.update("c25", "--image semh:2")?;
    let done = exam.until_state("c25", "completed")?;
    let rows = exam.rows("c25")?;
    let new = exam.running("c25")?;
    remove(exam, "c25")?;
    ensure!(done["UpdateStatus"]["Message"] == "update completed", "{}", done["UpdateStatus"]);
    ensure!(rows.len() == 4 && new.iter().all(|id| !old.contains(id)), "{rows:?}");
    let of = |row: &str| rows.iter().filter(|known| known.as_str() == row).count();
    ensure!(of("c25.1|semh:2|Running|Running|") == 1, "{rows:?}");
    ensure!(of("c25.1|semh:1|Shutdown|Shutdown|") == 1, "{rows:?}");
    Ok(())
}

fn start_first(exam: &Exam<'_>) -> Result<()> {
    let words =
        "--replicas 2 --update-order start-first --update-parallelism 2 --update-monitor 2s";
    exam.create("c26", words, "semh:1")?;
    exam.until_running("c26", 2)?;
    exam.update("c26", "--image semh:2")?;
    exam.until("completed, never below two", || {
        let running = exam.running("c26")?.len();
        ensure!(running >= 2, "only {running} run");
        Ok((exam.service("c26")?["UpdateStatus"]["State"] == "completed").then_some(()))
    })?;
    remove(exam, "c26")
}

fn all_at_once(exam: &Exam<'_>) -> Result<()> {
    exam.create("c27", "--replicas 3 --update-parallelism 0 --update-monitor 1s", "sem:1")?;
    let old = exam.until_running("c27", 3)?;
    exam.update("c27", "--image sem:2")?;
    exam.until_state("c27", "completed")?;
    let new = exam.running("c27")?;
    remove(exam, "c27")?;
    ensure!(new.len() == 3 && new.iter().all(|id| !old.contains(id)), "{new:?}");
    Ok(())
}

fn settings(exam: &Exam<'_>) -> Result<()> {
    exam.create("c28", "", "sem:1")?;
    let before = exam.until_running("c28", 1)?;
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
        ensure!(exam.running("c28")? == before, "{words}");
    }
    remove(exam, "c28")
}

fn replaces(exam: &Exam<'_>) -> Result<()> {
    exam.create("c29", "--update-monitor 1s", "sem:1")?;
    let mut before = exam.until_running("c29", 1)?;
    for words in ["--container-label-add a=b", "--env-add A=B", "--publish-add 18029:8080"] {
        exam.update("c29", words)?;
        let after = exam.until("another task", || {
            Ok(Some(exam.running("c29")?).filter(|ids| ids.len() == 1 && *ids != before))
        })?;
        exam.until_state("c29", "completed")?;
        before = after;
    }
    remove(exam, "c29")
}

fn force(exam: &Exam<'_>) -> Result<()> {
    exam.create("c30", "--update-monitor 1s", "sem:1")?;
    let before = exam.until_running("c30", 1)?;
    exam.update("c30", "--force")?;
    let service = exam.until_state("c30", "completed")?;
    let after = exam.running("c30")?;
    remove(exam, "c30")?;
    ensure!(service["Spec"]["TaskTemplate"]["ForceUpdate"] == 1 && after != before, "{after:?}");
    Ok(())
}

fn pause(exam: &Exam<'_>) -> Result<()> {
    exam.create("c31", "--replicas 2 --restart-delay 1s", "semh:1")?;
    let before = exam.until_running("c31", 2)?;
    let words = "service update --no-resolve-image --env-add FAIL_NOW=3 c31";
    let said = exam.docker(words)?;
    let service = exam.service("c31")?;
    let rows = exam.rows("c31")?;
    let after = exam.running("c31")?;
    remove(exam, "c31")?;
    ensure!(service["UpdateStatus"]["State"] == "paused", "{}", service["UpdateStatus"]);
    let words = "update paused due to failure or early termination of task ";
    ensure!(said.code == 1 && said.err.contains(words), "{said:?}");
    let failed = "|semh:1|Shutdown|Failed|\"task: non-zero exit (3)\"";
    ensure!(rows.iter().any(|row| row.ends_with(failed)), "{rows:?}");
    ensure!(before.iter().filter(|id| after.contains(id)).count() == 1, "one slot was touched");
    Ok(())
}

const BACK: &str =
    "--update-failure-action rollback --update-monitor 2s --rollback-monitor 1s --restart-delay 1s";

fn rolls_back(exam: &Exam<'_>) -> Result<()> {
    exam.create("c32", &format!("--replicas 2 {BACK}"), "semh:1")?;
    let before = exam.until_running("c32", 2)?;
    exam.update("c32", "--image semh:2 --env-add FAIL_NOW=3")?;
    exam.until("going back", || {
        let message = text(&exam.service("c32")?["UpdateStatus"]["Message"]);
        let words = "update rolled back due to failure or early termination of task ";
        Ok((message.starts_with(words) || message == "rollback completed").then_some(()))
    })?;
    let service = exam.until_state("c32", "rollback_completed")?;
    let after = exam.until_running("c32", 2)?;
    remove(exam, "c32")?;
    ensure!(image(&service) == "semh:1", "{}", image(&service));
    ensure!(before.iter().filter(|id| after.contains(id)).count() >= 1, "one slot is untouched");
    Ok(())
}

fn unhealthy(exam: &Exam<'_>) -> Result<()> {
    let words = format!("--replicas 2 --update-order start-first {BACK}");
    exam.create("c33", &words, "semh:1")?;
    let before = exam.until_running("c33", 2)?;
    exam.update("c33", "--env-add HEALTHY_AFTER=3600000 --env-add TERM_CODE=143")?;
    exam.until_state("c33", "rollback_completed")?;
    let after = exam.until_running("c33", 2)?;
    let rows = exam.rows("c33")?;
    remove(exam, "c33")?;
    ensure!(after.iter().all(|id| before.contains(id)), "the old ones stayed: {rows:?}");
    let error = "\"task: non-zero exit (143): dockerexec: unhealthy container\"";
    ensure!(rows.iter().any(|row| row.ends_with(error)), "{rows:?}");
    Ok(())
}

/// B4: Swarm forgets what was before; here the way back stays.
fn after_rollback(exam: &Exam<'_>) -> Result<()> {
    exam.create("c34", BACK, "semh:1")?;
    exam.until_running("c34", 1)?;
    exam.update("c34", "--image semh:2")?;
    exam.until_state("c34", "completed")?;
    exam.update("c34", "--image semh:3 --env-add FAIL_NOW=3")?;
    exam.until_state("c34", "rollback_completed")?;
    let again = exam.docker("service rollback --detach c34")?;
    let outcome = match exam.is_embedded() {
        true => again.fine().and_then(|_| {
            exam.until("version 1", || Ok((image(&exam.service("c34")?) == "semh:1").then_some(())))
        }),
        false => again.refused("does not have a previous spec"),
    };
    remove(exam, "c34")?;
    outcome
}

fn by_hand(exam: &Exam<'_>) -> Result<()> {
    exam.create("c35", "--update-monitor 1s --rollback-monitor 1s", "sem:1")?;
    exam.until_running("c35", 1)?;
    exam.update("c35", "--image sem:2")?;
    exam.until_state("c35", "completed")?;
    let mut images = Vec::new();
    for _ in 0..2 {
        exam.docker("service rollback --detach c35")?.fine()?;
        let started = exam.service("c35")?["UpdateStatus"]["StartedAt"].clone();
        let service = exam.until("back", || {
            let service = exam.service("c35")?;
            let status = &service["UpdateStatus"];
            let is_this = status["StartedAt"] == started;
            Ok((is_this && status["State"] == "rollback_completed").then_some(service))
        })?;
        images.push(image(&service));
    }
    remove(exam, "c35")?;
    ensure!(images == ["sem:1", "sem:2"], "{images:?}");
    Ok(())
}

fn continues(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 2 --update-failure-action continue --update-monitor 1s --restart-max-attempts 1 --restart-delay 1s";
    exam.create("c36", words, "sem:1")?;
    exam.until_running("c36", 2)?;
    exam.update("c36", "--env-add FAIL_NOW=3")?;
    exam.until_state("c36", "completed")?;
    let left = exam.running("c36")?;
    remove(exam, "c36")?;
    ensure!(left.is_empty(), "every slot was replaced");
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
    exam.update("c37", "--image sem:1 --update-delay 0s")?;
    exam.until("all on the newest", || {
        let rows = exam.rows("c37")?;
        Ok((rows.iter().filter(|row| row.contains("|sem:1|Running|Running|")).count() == 3)
            .then_some(()))
    })?;
    exam.until_state("c37", "completed")?;
    remove(exam, "c37")
}

/// The version before never starts: back by hand ends paused, and says so.
fn rollback_fails(exam: &Exam<'_>) -> Result<()> {
    let words = "--rollback-monitor 3s --rollback-failure-action pause --update-monitor 1s --restart-delay 1s -e FAIL_NOW=3";
    exam.create("c38", words, "sem:1")?;
    exam.until("it fails", || {
        Ok(exam.rows("c38")?.iter().any(|row| row.contains("|Failed|")).then_some(()))
    })?;
    exam.update("c38", "--env-rm FAIL_NOW")?;
    exam.until_state("c38", "completed")?;
    let said = exam.docker("service rollback c38")?;
    let service = exam.service("c38")?;
    remove(exam, "c38")?;
    ensure!(service["UpdateStatus"]["State"] == "rollback_paused", "{}", service["UpdateStatus"]);
    said.refused("service rollback paused: ")
}

fn missing_image(exam: &Exam<'_>) -> Result<()> {
    exam.create("c39", "--restart-delay 1s", "nosuch:1")?;
    let seen = exam.until("rejected", || {
        let rows = exam.rows("c39")?;
        Ok(rows.into_iter().find(|row| row.contains("|Rejected|")))
    });
    remove(exam, "c39")?;
    let seen = seen?;
    ensure!(seen.contains("nosuch:1"), "{seen}");
    Ok(())
}
