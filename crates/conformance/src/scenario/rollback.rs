//! Ways back: by itself after a failure, and by hand.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    Scenario, scenario,
    update::{image, last},
};
use crate::{
    exam::{Exam, text},
    film::{Shot, seconds},
};

pub const ALL: &[Scenario] = &[
    scenario("C32", "a failed update goes back", rolls_back),
    scenario("C33", "an unhealthy version never replaces the old", unhealthy),
    scenario("C34", "back by hand after an automatic rollback", after_rollback),
    scenario("C35", "back by hand, twice", by_hand),
    scenario("C38", "a way back that fails", rollback_fails),
];

const BACK: &str =
    "--update-failure-action rollback --update-monitor 2s --rollback-monitor 2s --restart-delay 1s";

fn rolls_back(exam: &Exam<'_>) -> Result<()> {
    exam.create("c32", &format!("--replicas 3 {BACK}"), "semh:1")?;
    let before = exam.until_running("c32", 3)?;
    let words = "service update --no-resolve-image --image semh:2 --env-add FAIL_NOW=3 c32";
    let (said, shots) = exam.meanwhile(words, || {
        exam.film("c32", "rolled back", |shot| shot.update() == "rollback_completed")
    })?;
    let why = "update rolled back due to failure or early termination of task ";
    // 0 is the client's verdict on a rollback that went well.
    ensure!(said.code == 0 && said.out.contains(&format!("rollback: {why}")), "{said:?}");
    let mut states: Vec<String> = shots.iter().map(Shot::update).collect();
    states.dedup();
    states.retain(|state| !state.is_empty());
    // The embedded engine may be on its way back before the camera looks again.
    let is_late = exam.is_embedded() && states.first().is_some_and(|s| s == "rollback_started");
    let wanted = ["updating", "rollback_started", "rollback_completed"];
    ensure!(states == wanted[usize::from(is_late)..], "{states:?}");
    let message = |shot: &&Shot| {
        shot.update() != "rollback_started"
            || text(&shot.service["UpdateStatus"]["Message"]).starts_with(why)
    };
    ensure!(shots.iter().all(|shot| message(&shot)), "the reason of the way back");
    let starts = shots.iter().map(|shot| &shot.service["UpdateStatus"]["StartedAt"]);
    let mut starts: Vec<&Value> = starts.filter(|at| !at.is_null()).collect();
    starts.dedup();
    ensure!(starts.len() == 1, "it started once: {starts:?}");
    let done = last(&shots)?;
    ensure!(image(&done.service) == "semh:1", "{}", image(&done.service));
    // There was one version before, so there is none to go back to now.
    ensure!(done.service["PreviousSpec"].is_null(), "{}", done.service["PreviousSpec"]);
    let after = done.serving();
    let kept = before.iter().filter(|id| after.contains(id)).count();
    // A Docker daemon may have taken one more slot before it looked at the failure (B27).
    let least = if exam.is_embedded() { 2 } else { 1 };
    ensure!(after.len() == 3 && (least..3).contains(&kept), "{kept} slots kept their task");
    Ok(())
}

/// Swarm's restart supervisor may leave a row of a task that never started (B26).
fn unhealthy(exam: &Exam<'_>) -> Result<()> {
    let words = format!("--replicas 2 --update-order start-first {BACK}");
    exam.create("c33", &words, "semh:1")?;
    let before = exam.until_running("c33", 2)?;
    exam.update("c33", "--env-add HEALTHY_AFTER=3600000 --env-add TERM_CODE=143")?;
    let shots = exam.film("c33", "rolled back", |shot| shot.update() == "rollback_completed")?;
    for id in &before {
        let is_there = |shot: &Shot| shot.task(id).is_some_and(|task| task.is_serving());
        ensure!(shots.iter().all(is_there), "the old ones served all the time");
    }
    let rows = exam.rows("c33")?;
    let error = "\"task: non-zero exit (143): dockerexec: unhealthy container\"";
    ensure!(rows.iter().any(|row| row.ends_with(error)), "{rows:?}");
    let tasks = last(&shots)?.others(&before);
    let spurious = tasks.filter(|task| task.state == "shutdown" && task.exit_code.is_none());
    ensure!(!exam.is_embedded() || spurious.count() == 0, "{rows:?}");
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
    if !exam.is_embedded() {
        ensure!(again.code == 1, "{again:?}");
        return again.refused("does not have a previous spec");
    }
    again.fine()?;
    exam.until("version 1", || Ok((image(&exam.service("c34")?) == "semh:1").then_some(())))
}

fn by_hand(exam: &Exam<'_>) -> Result<()> {
    exam.create("c35", "--update-monitor 1s --rollback-monitor 1s", "sem:1")?;
    exam.until_running("c35", 1)?;
    exam.update("c35", "--image sem:2")?;
    let mut before = exam.until_state("c35", "completed")?;
    for wanted in ["sem:1", "sem:2"] {
        exam.docker("service rollback --detach c35")?.fine()?;
        let was = seconds(&before["UpdateStatus"]["StartedAt"]);
        let is_new = |shot: &Shot| seconds(&shot.service["UpdateStatus"]["StartedAt"]) > was;
        let shots =
            exam.film("c35", "back", |shot| is_new(shot) && shot.update() == "rollback_completed")?;
        let status = |shot: &&Shot| shot.update() == "rollback_started" && is_new(shot);
        let messages = shots.iter().filter(status).map(|s| &s.service["UpdateStatus"]["Message"]);
        let messages: Vec<&Value> = messages.collect();
        let is_right = messages.iter().all(|message| *message == "manually requested rollback");
        ensure!(is_right && !messages.is_empty(), "{messages:?}");
        let service = &last(&shots)?.service;
        let was = if wanted == "sem:1" { "sem:2" } else { "sem:1" };
        let previous = image(&serde_json::json!({ "Spec": service["PreviousSpec"] }));
        ensure!(image(service) == wanted && previous == was, "{} {previous}", image(service));
        before = service.clone();
    }
    let rows = exam.rows("c35")?;
    ensure!(rows.iter().any(|row| row == "c35.1|sem:2|Running|Running|"), "{rows:?}");
    Ok(())
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
    ensure!(service["UpdateStatus"]["State"] == "rollback_paused", "{}", service["UpdateStatus"]);
    let is_told = said.err.lines().any(|line| line.starts_with("service rollback paused: "));
    ensure!(said.code == 1 && is_told, "{said:?}");
    Ok(())
}
