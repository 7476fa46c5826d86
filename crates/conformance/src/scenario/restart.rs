//! Ends of tasks: the restart policy, health, stop signals.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Scenario, scenario};
use crate::{
    exam::Exam,
    film::{Shot, Task, seconds, time_in},
};

pub const ALL: &[Scenario] = &[
    scenario("C40", "any restarts what ended well", any),
    scenario("C41", "on-failure leaves what ended well", ended_well),
    scenario("C42", "none restarts nothing", none),
    scenario("C43", "attempts are counted", attempts),
    scenario("C44", "history is bounded", history),
    scenario("C45", "a killed container is replaced", killed),
    scenario("C46", "a program that is not there", no_program),
    scenario("C47", "a task that turns unhealthy is replaced", turns_unhealthy),
    scenario("C48", "no health check, no health", no_check),
    scenario("C49", "the last probes", probes),
    scenario("C50", "the stop signal", stop_signal),
    scenario("C51", "the grace period", grace),
];

/// Waits for so many rows that end in this, none of them live.
fn ended(exam: &Exam<'_>, name: &str, count: usize, state: &str) -> Result<Vec<String>> {
    exam.until(&format!("{count} {state} of {name}"), || {
        let rows = exam.rows(name)?;
        let fit = rows.iter().filter(|row| row.contains(state)).count();
        Ok((fit == count && rows.len() == count).then_some(rows))
    })
}

fn any(exam: &Exam<'_>) -> Result<()> {
    let words = "-e EXIT_AFTER=100 -e EXIT_CODE=0 --restart-condition any --restart-delay 1s --restart-max-attempts 1";
    exam.create("c40", words, "sem:1")?;
    ended(exam, "c40", 2, "|Shutdown|Complete|")?;
    let listed = exam.docker("service ls --filter name=c40 --format {{.Replicas}}")?;
    ensure!(listed.out.trim() == "0/1", "{listed:?}");
    Ok(())
}

fn ended_well(exam: &Exam<'_>) -> Result<()> {
    let words =
        "-e EXIT_AFTER=100 -e EXIT_CODE=0 --restart-condition on-failure --restart-delay 0s";
    exam.create("c41", words, "sem:1")?;
    ended(exam, "c41", 1, "|Shutdown|Complete|")?;
    stays(exam, "c41")
}

fn none(exam: &Exam<'_>) -> Result<()> {
    exam.create("c42", "-e EXIT_AFTER=100 --restart-condition none --restart-delay 0s", "sem:1")?;
    ended(exam, "c42", 1, "|Shutdown|Failed|\"task: non-zero exit (1)\"")?;
    stays(exam, "c42")
}

/// No task follows within a second, with a delay of none.
fn stays(exam: &Exam<'_>, name: &str) -> Result<()> {
    let started = Instant::now();
    let shots = exam.film(name, "a second", |_| started.elapsed() > Duration::from_secs(1))?;
    ensure!(shots.iter().all(|shot| shot.tasks.len() == 1), "it was restarted");
    Ok(())
}

fn attempts(exam: &Exam<'_>) -> Result<()> {
    let words =
        "-e FAIL_NOW=5 --restart-condition on-failure --restart-delay 1s --restart-max-attempts 2";
    exam.create("c43", words, "sem:1")?;
    let has_ended =
        |shot: &Shot| shot.tasks.iter().filter(|task| task.state == "failed").count() == 3;
    let shots = exam.film("c43", "three failures", has_ended)?;
    let is_waiting = |task: &Task| task.desired == "ready" && task.state == "ready";
    let has_waiting = |shot: &Shot| shot.tasks.iter().any(is_waiting);
    ensure!(shots.iter().any(has_waiting), "a replacement waits as Ready|Ready");
    let done = &shots[shots.len() - 1];
    for pair in done.tasks.windows(2) {
        let begun = |shot: &&Shot| {
            shot.task(&pair[1].id).is_some_and(|t| !matches!(&*t.desired, "ready") || t.is_over())
        };
        let failed = |shot: &&Shot| shot.task(&pair[0].id).is_some_and(Task::is_over);
        let (failed, begun) = (shots.iter().find(failed), shots.iter().find(begun));
        let gap = failed.zip(begun).map(|(failed, begun)| (begun.at - failed.at).as_secs_f64());
        ensure!(gap.is_some_and(|gap| (0.8..=2.0).contains(&gap)), "restarted after {gap:?} s");
    }
    let rows = ended(exam, "c43", 3, "|Shutdown|Failed|\"task: non-zero exit (5)\"")?;
    let started = Instant::now();
    let after = exam.film("c43", "two seconds", |_| started.elapsed() > Duration::from_secs(2))?;
    ensure!(after.iter().all(|shot| shot.tasks.len() == 3), "one more than {rows:?}");
    Ok(())
}

/// The reaper is given a quarter of a second after each creation.
fn history(exam: &Exam<'_>) -> Result<()> {
    exam.create("c44", "-e FAIL_NOW=1 --restart-delay 1s", "sem:1")?;
    let seen = std::cell::RefCell::new(Vec::<String>::new());
    let shots = exam.film("c44", "eight tasks were made", |shot| {
        let mut seen = seen.borrow_mut();
        let new: Vec<String> = shot.others(&seen).map(|task| task.id.clone()).collect();
        seen.extend(new);
        seen.len() >= 8
    })?;
    let made = seen.into_inner();
    for shot in &shots {
        let there: Vec<usize> =
            shot.tasks.iter().filter_map(|t| made.iter().position(|id| *id == t.id)).collect();
        // The newest ones, without a gap: the oldest go first.
        ensure!(there.windows(2).all(|pair| pair[1] == pair[0] + 1), "{there:?}");
        ensure!(there.len() <= 6, "{there:?}");
    }
    exam.until("five are left", || Ok((exam.rows("c44")?.len() == 5).then_some(())))
}

fn killed(exam: &Exam<'_>) -> Result<()> {
    exam.create("c45", "--restart-delay 0s", "sem:1")?;
    for (words, code, state) in
        [("kill", 137, "failed"), ("stop", 0, "complete"), ("rm -f", 137, "failed")]
    {
        let id = exam.container("c45")?;
        let before = exam.running("c45")?;
        exam.docker(&format!("{words} {id}"))?.fine()?;
        let shots = exam.film("c45", "another task", |shot| {
            shot.serving().iter().any(|id| !before.contains(id))
        })?;
        let task = shots.last().and_then(|shot| shot.task(&before[0])).context("its row")?;
        ensure!(task.state == state && task.exit_code == Some(code), "{words}: {task:?}");
        let error = if code == 0 { "" } else { "task: non-zero exit (137)" };
        ensure!(task.error == error, "{words}: {task:?}");
    }
    Ok(())
}

fn no_program(exam: &Exam<'_>) -> Result<()> {
    exam.create("c46", "--restart-condition none --entrypoint /nope", "sem:1")?;
    let is_failed = |shot: &Shot| shot.tasks.iter().any(|task| task.state == "failed");
    let shots = exam.film("c46", "failed", is_failed)?;
    let tasks = &shots[shots.len() - 1].tasks;
    ensure!(tasks.len() == 1, "{tasks:?}");
    ensure!(tasks[0].error.starts_with("starting container failed"), "{tasks:?}");
    Ok(())
}

fn turns_unhealthy(exam: &Exam<'_>) -> Result<()> {
    let words = "-e UNHEALTHY_AFTER=3000 -e TERM_CODE=143 --restart-condition on-failure --restart-delay 0s";
    exam.create("c47", words, "semh:1")?;
    let first = exam.until_running("c47", 1)?;
    let shots =
        exam.film("c47", "replaced", |shot| shot.serving().iter().any(|id| *id != first[0]))?;
    let task = shots.last().and_then(|shot| shot.task(&first[0])).context("its row")?;
    let error = "task: non-zero exit (143): dockerexec: unhealthy container";
    ensure!(task.state == "failed" && task.error == error, "{task:?}");
    // Two probes a second apart after the third second. A daemon's containers may start and end
    // slowly.
    let lived = task.since - task.made;
    let most = if exam.is_embedded() { 8.0 } else { 20.0 };
    ensure!((3.9..=most).contains(&lived), "failed {lived:.1} s after it was made");
    Ok(())
}

fn no_check(exam: &Exam<'_>) -> Result<()> {
    exam.create("c48a", "", "sem:1")?;
    // With its check it would not run for half a minute.
    exam.create("c48b", "--no-healthcheck -e HEALTHY_AFTER=30000", "semh:1")?;
    for name in ["c48a", "c48b"] {
        let shots = exam.film(name, "running", |shot| shot.serving().len() == 1)?;
        let id = &shots[shots.len() - 1].serving()[0];
        let starting = time_in(&shots, id, "starting");
        ensure!(starting < Duration::from_secs(10), "{name}: starting for {starting:?}");
        let label = format!("label=com.docker.swarm.service.name={name}");
        let status =
            exam.docker(&format!("ps --filter {label} --format {{{{.Status}}}}"))?.fine()?;
        ensure!(status.contains("Up") && !status.contains("health"), "{name}: {status}");
    }
    Ok(())
}

fn probes(exam: &Exam<'_>) -> Result<()> {
    exam.create("c49", "", "semh:1")?;
    let id = exam.container("c49")?;
    let look = || exam.get(&format!("/v1.41/containers/{id}/json"));
    let health = exam.until("five probes", || {
        let health = look()?["State"]["Health"].clone();
        ensure!(health["Log"].as_array().is_some_and(|log| log.len() <= 5), "{health}");
        Ok(health["Log"].as_array().is_some_and(|log| log.len() == 5).then_some(health))
    })?;
    ensure!(health["Status"] == "healthy" && health["FailingStreak"] == 0, "{health}");
    let last = &health["Log"][4];
    ensure!(last["ExitCode"] == 0 && last["Output"] == "HTTP/1.1 200 OK\n", "{health}");
    for key in ["Start", "End"] {
        ensure!(seconds(&last[key]) > 0.0, "{key}: {health}");
    }
    let status = exam.docker(&format!("ps --filter id={id} --format {{{{.Status}}}}"))?;
    ensure!(status.out.contains("(healthy)"), "{status:?}");
    Ok(())
}

fn stop_signal(exam: &Exam<'_>) -> Result<()> {
    exam.create("c50", "--stop-signal SIGUSR1 -e TRAP=10 --update-monitor 1s", "sem:1")?;
    let first = exam.until_running("c50", 1)?;
    exam.update("c50", "--force")?;
    exam.until_state("c50", "completed")?;
    let rows = exam.rows("c50")?;
    ensure!(rows.iter().any(|row| row == "c50.1|sem:1|Shutdown|Shutdown|"), "{rows:?}");
    let old = exam.get(&format!("/v1.41/tasks/{}", first[0]))?["Status"].clone();
    ensure!(old["ContainerStatus"]["ExitCode"] == 0, "{old}");
    let log = exam.docker("service logs c50")?.fine()?;
    ensure!(log.contains("got signal 10"), "{log}");
    Ok(())
}

fn grace(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --detach --no-resolve-image --name c51 --stop-grace-period 2s -e TERM_IGNORE=1 --update-monitor 1s sem:1";
    exam.docker(words)?.fine()?;
    let first = exam.until_running("c51", 1)?;
    exam.update("c51", "--force")?;
    let shots = exam.film("c51", "completed", |shot| shot.update() == "completed")?;
    let old = |shot: &Shot| shot.task(&first[0]).cloned();
    let sent = shots.iter().find(|shot| old(shot).is_some_and(|task| task.is_leaving()));
    let gone = shots.iter().find(|shot| old(shot).is_some_and(|task| task.is_over()));
    let took = sent.zip(gone).map(|(sent, gone)| (gone.at - sent.at).as_secs_f64());
    ensure!(took.is_some_and(|took| (1.8..6.0).contains(&took)), "stopped within {took:?} s");
    let task = shots.last().and_then(old).context("its row")?;
    ensure!(task.state == "shutdown" && task.desired == "shutdown", "{task:?}");
    ensure!(task.exit_code == Some(137), "{task:?}");
    Ok(())
}
