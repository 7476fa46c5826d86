//! Defects of Swarm's ways back.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::{
    Scenario, only_embedded, scenario,
    update::{image, last},
};
use crate::{
    exam::Exam,
    film::{Shot, Task},
};

const SOMETIMES: &str = "there it shows only sometimes";

pub const ALL: &[Scenario] = &[
    scenario("B04", "the way back after a bad update and a scale", way_back),
    scenario("B05", "a scale of a paused service", scale_paused),
    only_embedded("B12", "a way back that fails, to be rolled back", stays_paused, SOMETIMES),
    only_embedded("B26", "rows of tasks that never started", rows, "there it is a race"),
];

fn way_back(exam: &Exam<'_>) -> Result<()> {
    exam.create("b04", "--update-monitor 1s --restart-delay 1s --rollback-monitor 1s", "sem:1")?;
    exam.until_running("b04", 1)?;
    exam.update("b04", "--image sem:2")?;
    exam.until_state("b04", "completed")?;
    exam.update("b04", "--image sem:3 --env-add FAIL_NOW=3")?;
    exam.until_state("b04", "paused")?;
    exam.docker("service scale --detach b04=2")?.fine()?;
    exam.docker("service rollback --detach b04")?.fine()?;
    if !exam.is_embedded() {
        let now = image(&exam.service("b04")?);
        ensure!(now == "sem:3", "the defect is gone: {now}");
        return Ok(());
    }
    let done = exam.until_state("b04", "rollback_completed")?;
    ensure!(image(&done) == "sem:2", "{}", image(&done));
    ensure!(done["Spec"]["Mode"]["Replicated"]["Replicas"] == 2, "{}", done["Spec"]["Mode"]);
    exam.until_running("b04", 2).map(drop)
}

fn scale_paused(exam: &Exam<'_>) -> Result<()> {
    exam.create("b05", "--replicas 3 --restart-delay 1s", "semh:1")?;
    let old = exam.until_running("b05", 3)?;
    exam.update("b05", "--image semh:2 --env-add FAIL_NOW=3")?;
    let shots = exam.film("b05", "paused", |shot| shot.update() == "paused")?;
    let good: Vec<String> =
        last(&shots)?.serving().into_iter().filter(|id| old.contains(id)).collect();
    // A Docker daemon may have taken one more slot before it looked at the failure.
    let least = if exam.is_embedded() { 2 } else { 1 };
    ensure!((least..3).contains(&good.len()), "{good:?}");
    exam.docker("service scale --detach b05=4")?.fine()?;
    let is_leaving = |shot: &Shot, id: &String| shot.task(id).is_none_or(Task::is_leaving);
    let is_gone = |shot: &Shot| good.iter().any(|id| is_leaving(shot, id));
    if !exam.is_embedded() {
        return exam.film("b05", "a good task is sent away", is_gone).map(drop);
    }
    let started = Instant::now();
    let shots = exam.film("b05", "two seconds", |_| started.elapsed().as_secs() >= 2)?;
    ensure!(!shots.iter().any(is_gone), "a good task left");
    ensure!(shots.iter().all(|shot| shot.update() == "paused"), "it went on");
    // What is new runs the version that is known to be good.
    exam.until("slot 4 runs", || {
        let rows = exam.rows("b05")?;
        Ok(rows.iter().find(|row| *row == "b05.4|semh:1|Running|Running|").map(drop))
    })
}

/// `docker service create` knows no rollback of a rollback; the API does.
fn stays_paused(exam: &Exam<'_>) -> Result<()> {
    let second = 1_000_000_000_u64;
    let spec = json!({
        "Name": "b12",
        "TaskTemplate": {
            "ContainerSpec": { "Image": "sem:1", "Env": ["FAIL_NOW=3"] },
            "RestartPolicy": { "Condition": "any", "Delay": second },
        },
        "Mode": { "Replicated": { "Replicas": 1 } },
        "UpdateConfig": { "Parallelism": 1, "Monitor": second },
        "RollbackConfig": {
            "Parallelism": 1, "Monitor": 4 * second, "FailureAction": "rollback",
        },
    });
    let (status, _, body) = exam.api("POST", "/v1.41/services/create", &spec.to_string())?;
    ensure!(status == 201, "{status} {body}");
    exam.film("b12", "it fails", |shot| shot.tasks.iter().any(|task| task.state == "failed"))?;
    exam.update("b12", "--env-rm FAIL_NOW")?;
    exam.until_state("b12", "completed")?;
    exam.docker("service rollback --detach b12")?.fine()?;
    exam.until_state("b12", "rollback_paused")?;
    let started = Instant::now();
    let shots = exam.film("b12", "two seconds", |_| started.elapsed().as_secs() >= 2)?;
    ensure!(shots.iter().all(|shot| shot.update() == "rollback_paused"), "it was called done");
    Ok(())
}

fn rows(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 2 --update-failure-action rollback --update-monitor 1s --rollback-monitor 1s --restart-delay 0s";
    exam.create("b26", words, "semh:1")?;
    exam.until_running("b26", 2)?;
    exam.update("b26", "--image semh:2 --env-add FAIL_NOW=3")?;
    exam.until_state("b26", "rollback_completed")?;
    let mut rows = exam.rows("b26")?;
    rows.retain(|row| row.contains("|semh:2|"));
    let failed = "|semh:2|Shutdown|Failed|\"task: non-zero exit (3)\"";
    ensure!(rows.len() == 1 && rows[0].ends_with(failed), "{rows:?}");
    Ok(())
}
