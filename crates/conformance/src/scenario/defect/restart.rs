//! Defects of what Swarm does when a task ends or turns unhealthy.

use std::time::Instant;

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

/// Two restarts are allowed within a second; each comes a second after the one before.
fn window(exam: &Exam<'_>) -> Result<()> {
    let words = "-e FAIL_NOW=3 --restart-delay 1s --restart-max-attempts 2 --restart-window 1s";
    exam.create("b14", words, "sem:1")?;
    let seen = std::cell::RefCell::new(Vec::<String>::new());
    let started = Instant::now();
    let count = |shot: &Shot| {
        let mut seen = seen.borrow_mut();
        let new: Vec<String> = shot.others(&seen).map(|task| task.id.clone()).collect();
        seen.extend(new);
        seen.len()
    };
    if !exam.is_embedded() {
        return exam.film("b14", "restarts beyond the limit", |shot| count(shot) >= 5).map(drop);
    }
    exam.film("b14", "six seconds", |shot| {
        count(shot);
        started.elapsed().as_secs() >= 6
    })?;
    let made = seen.into_inner().len();
    ensure!(made == 3, "{made} tasks");
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
