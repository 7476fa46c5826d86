//! Defects of what Swarm does when a task ends or turns unhealthy.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::super::{Scenario, only_embedded, scenario, update::last};
use crate::{
    exam::{Exam, text},
    film::Shot,
};

pub const ALL: &[Scenario] = &[
    scenario("B03", "unhealthy, and its exit code is 0", ends_well),
    scenario("B14", "a window shorter than the delay", window),
    only_embedded("B15", "why a slot stays empty", told, "it does not say"),
    scenario("B16", "a job's attempts, and what is left of it", attempts),
    scenario("B17", "unhealthy, where the order is start-first", replaced_first),
];

fn ends_well(exam: &Exam<'_>) -> Result<()> {
    let words = "-e UNHEALTHY_AFTER=2500 --restart-condition on-failure --restart-delay 0s";
    exam.create("b03", words, "semh:1")?;
    let first = exam.until_running("b03", 1)?;
    let is_over = |shot: &Shot| shot.task(&first[0]).is_some_and(|task| task.is_over());
    let shots = exam.film("b03", "its end", is_over)?;
    let task = last(&shots)?.task(&first[0]).cloned().context("its row")?;
    if !exam.is_embedded() {
        ensure!(task.state == "complete", "the defect is gone: {task:?}");
        return Ok(());
    }
    ensure!(task.state == "failed" && task.error.contains("unhealthy container"), "{task:?}");
    exam.film("b03", "another", |shot| shot.serving().iter().any(|id| *id != first[0])).map(drop)
}

/// The embedded engine makes so many tasks in six seconds, and no more; a Docker daemon makes more.
fn makes(exam: &Exam<'_>, service: &str, limit: usize) -> Result<()> {
    let seen = RefCell::new(BTreeSet::new());
    let started = Instant::now();
    exam.film(service, "tasks beyond the limit", |shot| {
        let mut seen = seen.borrow_mut();
        seen.extend(shot.tasks.iter().map(|task| task.id.clone()));
        match exam.is_embedded() {
            true => started.elapsed() >= Duration::from_secs(6),
            false => seen.len() > limit + 1,
        }
    })?;
    let made = seen.into_inner().len();
    ensure!(!exam.is_embedded() || made == limit, "{made} tasks");
    Ok(())
}

/// Two restarts are allowed within a second; each comes a second after the one before.
fn window(exam: &Exam<'_>) -> Result<()> {
    let words = "-e FAIL_NOW=3 --restart-delay 1s --restart-max-attempts 2 --restart-window 1s";
    exam.create("b14", words, "sem:1")?;
    makes(exam, "b14", 3)
}

/// One more attempt is allowed, and a removed job leaves nothing on the node.
fn attempts(exam: &Exam<'_>) -> Result<()> {
    let words = "--mode replicated-job -e EXIT_AFTER=100 -e EXIT_CODE=3 --restart-delay 200ms \
                 --restart-max-attempts 1";
    exam.create("b16", words, "sem:1")?;
    if exam.is_embedded() {
        makes(exam, "b16", 2)?;
    } else {
        // It makes more only when something else happens to the service.
        let has_failed = |shot: &Shot| shot.tasks.iter().any(|task| task.state == "failed");
        exam.film("b16", "a failure", has_failed)?;
    }
    let names = exam.rows("b16")?;
    let in_slot = names.iter().all(|row| row.trim_start_matches(" \\_ ").starts_with("b16.1|"));
    ensure!(in_slot == exam.is_embedded(), "{names:?}");
    exam.docker("service rm b16")?.fine()?;
    let left = || -> Result<usize> {
        let label = "label=com.docker.swarm.service.name=b16";
        let ids = exam.docker(&format!("ps -aq --filter {label}"))?.fine()?;
        Ok(ids.lines().count())
    };
    if exam.is_embedded() {
        return exam.until("nothing is left", || Ok((left()? == 0).then_some(())));
    }
    std::thread::sleep(Duration::from_secs(1));
    ensure!(left()? > 0, "the defect is gone");
    Ok(())
}

fn told(exam: &Exam<'_>) -> Result<()> {
    exam.create("b15", "-e FAIL_NOW=3 --restart-delay 200ms --restart-max-attempts 1", "sem:1")?;
    let has_ended =
        |shot: &Shot| shot.tasks.iter().filter(|task| task.state == "failed").count() == 2;
    exam.film("b15", "two failures", has_ended)?;
    let tasks = exam.get("/evenkeel/v1/tasks")?;
    let of = |task: &&serde_json::Value| text(&task["Name"]).starts_with("b15.1.");
    let why: Vec<String> =
        tasks.as_array().into_iter().flatten().filter(of).map(|t| text(&t["Parked"])).collect();
    let wanted = "stopped: 1 restart, last error: task: non-zero exit (3)";
    ensure!(why.len() == 2 && why.iter().all(|why| why.contains(wanted)), "{why:?}");
    Ok(())
}

fn replaced_first(exam: &Exam<'_>) -> Result<()> {
    let words =
        "-e UNHEALTHY_AFTER=3000 --update-order start-first --update-monitor 1s --restart-delay 0s";
    exam.create("b17", words, "semh:1")?;
    let first = exam.until_running("b17", 1)?;
    let shots =
        exam.film("b17", "another", |shot| shot.serving().iter().any(|id| *id != first[0]))?;
    let is_empty = |shot: &Shot| !shot.tasks.iter().any(|task| task.state == "running");
    let was_empty = shots.iter().any(is_empty);
    ensure!(was_empty != exam.is_embedded(), "nobody ran for a while: {was_empty}");
    Ok(())
}
