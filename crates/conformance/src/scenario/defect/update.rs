//! Defects of Swarm's rolling update.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::{Scenario, scenario, update::last};
use crate::{
    exam::Exam,
    film::{Shot, Task},
};

pub const ALL: &[Scenario] = &[
    scenario("B01", "start-first: a crash within the monitor time", crash),
    scenario("B02", "a scale while the new task starts", scale),
    scenario("B06", "a failure while others still start", late_failure),
    scenario("B08", "a task that never becomes ready", never_ready),
    scenario("B09", "stop-first to an image that is missing", missing_image),
    scenario("B10", "a stop longer than a minute", long_stop),
    scenario("B11", "start-first with a port of the host", host_port),
    scenario("B13", "a service that ends well, updated", one_shot),
    scenario("B27", "restarts of a version that paused", paused),
];

/// The new task runs and crashes a second later: the old one is still there, or long gone.
fn crash(exam: &Exam<'_>) -> Result<()> {
    let words = "--update-order start-first --update-monitor 3s --update-failure-action rollback --rollback-monitor 1s";
    exam.create("b01", words, "sem:1")?;
    let old = exam.until_running("b01", 1)?;
    exam.update("b01", "--env-add EXIT_AFTER=1000")?;
    let shots = exam.film("b01", "rolled back", |shot| shot.update() == "rollback_completed")?;
    let is_kept = |shot: &Shot| shot.task(&old[0]).is_some_and(Task::is_serving);
    match exam.is_embedded() {
        true => ensure!(shots.iter().all(is_kept), "the old one left"),
        false => ensure!(!is_kept(last(&shots)?), "the defect is gone: the old one stayed"),
    }
    Ok(())
}

fn scale(exam: &Exam<'_>) -> Result<()> {
    let words = "--update-order start-first --update-monitor 1s --health-start-period 60s --restart-delay 1s";
    exam.create("b02", words, "semh:1")?;
    let old = exam.until_running("b02", 1)?;
    exam.update("b02", "--env-add HEALTHY_AFTER=4000")?;
    let is_starting = |shot: &Shot| shot.others(&old).any(|task| task.state == "starting");
    exam.film("b02", "the new task starts", is_starting)?;
    exam.docker("service scale --detach b02=2")?.fine()?;
    let shots = exam.film("b02", "both new ones run", |shot| {
        shot.others(&old).filter(|task| task.is_serving()).count() == 2
    })?;
    let is_empty = |shot: &&Shot| {
        let is_old_gone = shot.task(&old[0]).is_none_or(Task::is_leaving);
        is_old_gone && !shot.others(&old).any(|task| task.slot == 1 && task.state == "running")
    };
    let is_reproduced = shots.iter().any(|shot| is_empty(&shot));
    ensure!(is_reproduced != exam.is_embedded(), "the old one left early: {is_reproduced}");
    Ok(())
}

/// Slot 1 is healthy after one second and dies; the others take up to four.
fn late_failure(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 4 --update-parallelism 4 --update-monitor 1s --health-start-period 60s --restart-delay 1s -e HEALTHY_AFTER={{.Task.Slot}}000";
    exam.create("b06", words, "semh:1")?;
    let old = exam.until_running("b06", 4)?;
    exam.update("b06", "--env-add A=B")?;
    let first = |shot: &Shot| {
        let new = shot.others(&old).find(|task| task.slot == 1 && task.state == "running");
        new.map(|task| task.id.clone())
    };
    let shots = exam.film("b06", "slot 1 runs", |shot| first(shot).is_some())?;
    let task = first(last(&shots)?).context("slot 1")?;
    let status = exam.get(&format!("/v1.41/tasks/{task}"))?["Status"].clone();
    let container = crate::exam::text(&status["ContainerStatus"]["ContainerID"]);
    exam.docker(&format!("kill {container}"))?.fine()?;
    exam.until_state("b06", if exam.is_embedded() { "paused" } else { "completed" }).map(drop)
}

fn never_ready(exam: &Exam<'_>) -> Result<()> {
    let words =
        "--health-start-period 600s --label evenkeel.progress_deadline=3s --restart-delay 1s";
    exam.create("b08", words, "semh:1")?;
    exam.until_running("b08", 1)?;
    exam.update("b08", "--env-add HEALTHY_AFTER=3600000")?;
    if !exam.is_embedded() {
        let started = Instant::now();
        let shots = exam.film("b08", "six seconds", |_| started.elapsed().as_secs() >= 6)?;
        ensure!(last(&shots)?.update() == "updating", "the defect is gone");
        return Ok(());
    }
    exam.until_state("b08", "paused")?;
    let rows = exam.rows("b08")?;
    let is_told = |row: &&String| row.contains("not ready within 3s (progress deadline)");
    ensure!(rows.iter().filter(is_told).count() == 1, "{rows:?}");
    Ok(())
}

fn missing_image(exam: &Exam<'_>) -> Result<()> {
    exam.create("b09", "--restart-delay 1s", "sem:1")?;
    let old = exam.until_running("b09", 1)?;
    exam.update("b09", "--image 127.0.0.1:1/nosuch:1")?;
    let shots = exam.film("b09", "paused", |shot| shot.update() == "paused")?;
    let is_kept = |shot: &Shot| shot.task(&old[0]).is_some_and(Task::is_serving);
    match exam.is_embedded() {
        true => ensure!(shots.iter().all(is_kept), "the old one left"),
        false => ensure!(!is_kept(last(&shots)?), "the defect is gone: the old one stayed"),
    }
    Ok(())
}

/// Swarm waits a minute for the old task, whatever its grace period.
fn long_stop(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --detach --no-resolve-image --name b10 --stop-grace-period 90s --update-monitor 1s -e TERM_DELAY=62000 sem:1";
    exam.docker(words)?.fine()?;
    let old = exam.until_running("b10", 1)?;
    exam.update("b10", "--force")?;
    let is_new_there = |shot: &Shot| shot.others(&old).any(|task| task.state == "running");
    let patience = Duration::from_secs(80);
    let shots = exam.film_within("b10", "the new task runs", patience, is_new_there)?;
    let is_old_over = last(&shots)?.task(&old[0]).is_none_or(Task::is_over);
    ensure!(is_old_over == exam.is_embedded(), "the old one had stopped: {is_old_over}");
    // What is left would take another minute to stop.
    exam.docker("service rm b10")?.fine()?;
    for id in exam.containers("b10")? {
        let _ = exam.docker(&format!("kill {id}"))?;
    }
    Ok(())
}

/// The new task waits for the port that the old one has; here the port is the ingress's.
fn host_port(exam: &Exam<'_>) -> Result<()> {
    let words = "--publish mode=host,target=8080,published=18111 --update-order start-first --update-monitor 1s";
    exam.create("b11", words, "sem:1")?;
    exam.until_running("b11", 1)?;
    exam.update("b11", "--image sem:2")?;
    if exam.is_embedded() {
        return exam.until_state("b11", "completed").map(drop);
    }
    let error = "host-mode port already in use on 1 node";
    let is_stuck = |shot: &Shot| shot.tasks.iter().any(|task| task.error.contains(error));
    exam.film("b11", "waits for the port", is_stuck).map(drop)
}

fn one_shot(exam: &Exam<'_>) -> Result<()> {
    let words = "-e EXIT_AFTER=300 -e EXIT_CODE=0 --restart-condition none --update-monitor 1s";
    exam.create("b13", words, "sem:1")?;
    exam.film("b13", "it ended", |shot| shot.tasks.iter().any(|task| task.state == "complete"))?;
    exam.update("b13", "--env-add A=B")?;
    exam.until_state("b13", if exam.is_embedded() { "completed" } else { "paused" }).map(drop)
}

fn paused(exam: &Exam<'_>) -> Result<()> {
    exam.create("b27", "--replicas 3 --restart-delay 300ms", "semh:1")?;
    exam.until_running("b27", 3)?;
    exam.update("b27", "--env-add FAIL_NOW=3")?;
    let failed = |shot: &Shot| shot.tasks.iter().filter(|t| t.state == "failed").count();
    let before = failed(last(&exam.film("b27", "paused", |shot| shot.update() == "paused")?)?);
    if !exam.is_embedded() {
        return exam.film("b27", "restarts", |shot| failed(shot) > before + 1).map(drop);
    }
    let started = Instant::now();
    let shots = exam.film("b27", "two seconds", |_| started.elapsed().as_secs() >= 2)?;
    let last = last(&shots)?;
    ensure!(failed(last) == 1 && last.serving().len() == 2, "{:?}", last.tasks);
    Ok(())
}
