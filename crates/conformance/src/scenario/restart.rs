//! Ends of tasks: the restart policy, health, stop signals.

use anyhow::{Result, ensure};

use super::{Scenario, scenario};
use crate::exam::{Exam, text};

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

fn remove(exam: &Exam<'_>, name: &str) -> Result<()> {
    exam.docker(&format!("service rm {name}"))?.fine().map(drop)
}

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
    let rows = ended(exam, "c40", 2, "|Complete|");
    remove(exam, "c40")?;
    rows.map(drop)
}

fn ended_well(exam: &Exam<'_>) -> Result<()> {
    let words =
        "-e EXIT_AFTER=100 -e EXIT_CODE=0 --restart-condition on-failure --restart-delay 0s";
    exam.create("c41", words, "sem:1")?;
    let rows = ended(exam, "c41", 1, "|Shutdown|Complete|");
    remove(exam, "c41")?;
    rows.map(drop)
}

fn none(exam: &Exam<'_>) -> Result<()> {
    exam.create("c42", "-e EXIT_AFTER=100 --restart-condition none", "sem:1")?;
    let rows = ended(exam, "c42", 1, "|Shutdown|Failed|\"task: non-zero exit (1)\"");
    remove(exam, "c42")?;
    rows.map(drop)
}

fn attempts(exam: &Exam<'_>) -> Result<()> {
    let words =
        "-e FAIL_NOW=5 --restart-condition on-failure --restart-delay 1s --restart-max-attempts 2";
    exam.create("c43", words, "sem:1")?;
    let rows = ended(exam, "c43", 3, "|Failed|\"task: non-zero exit (5)\"");
    remove(exam, "c43")?;
    rows.map(drop)
}

fn history(exam: &Exam<'_>) -> Result<()> {
    exam.create("c44", "-e FAIL_NOW=1 --restart-delay 100ms", "sem:1")?;
    let first = exam
        .until("the first task", || Ok(exam.tasks("c44")?.first().map(|task| text(&task["ID"]))))?;
    exam.until("the first task is forgotten", || {
        Ok((!exam.tasks("c44")?.iter().any(|task| task["ID"] == first.as_str())).then_some(()))
    })?;
    let count = exam.rows("c44")?.len();
    remove(exam, "c44")?;
    ensure!(count <= 6, "{count} rows");
    Ok(())
}

fn killed(exam: &Exam<'_>) -> Result<()> {
    exam.create("c45", "--restart-delay 0s", "sem:1")?;
    for (words, expected) in [
        ("kill", "|Failed|\"task: non-zero exit (137)\""),
        ("stop", "|Complete|"),
        ("rm -f", "|Failed|\"task: non-zero exit (137)\""),
    ] {
        let before = exam.until_running("c45", 1)?;
        let ids = exam.docker("ps -q --filter label=com.docker.swarm.service.name=c45")?.fine()?;
        exam.docker(&format!("{words} {}", ids.trim()))?.fine()?;
        exam.until("another task", || {
            Ok(exam.running("c45")?.into_iter().find(|id| *id != before[0]))
        })?;
        let rows = exam.rows("c45")?;
        ensure!(rows.iter().any(|row| row.contains(expected)), "{words}: {rows:?}");
    }
    remove(exam, "c45")
}

fn no_program(exam: &Exam<'_>) -> Result<()> {
    exam.create("c46", "--restart-condition none --entrypoint /nope", "sem:1")?;
    let task = exam.until("failed", || {
        let tasks = exam.tasks("c46")?;
        Ok(tasks.into_iter().find(|task| task["Status"]["State"] == "failed"))
    });
    remove(exam, "c46")?;
    let error = text(&task?["Status"]["Err"]);
    ensure!(error.starts_with("starting container failed"), "{error}");
    Ok(())
}

fn turns_unhealthy(exam: &Exam<'_>) -> Result<()> {
    let words = "-e UNHEALTHY_AFTER=3000 -e TERM_CODE=143 --restart-condition on-failure --restart-delay 0s";
    exam.create("c47", words, "semh:1")?;
    let first = exam.until_running("c47", 1)?;
    let rows = exam.until("replaced", || {
        let is_other = exam.running("c47")?.iter().any(|id| *id != first[0]);
        let rows = exam.rows("c47")?;
        let error = "dockerexec: unhealthy container";
        Ok((is_other && rows.iter().any(|row| row.contains(error))).then_some(()))
    });
    remove(exam, "c47")?;
    rows
}

fn no_check(exam: &Exam<'_>) -> Result<()> {
    exam.create("c48a", "", "sem:1")?;
    exam.create("c48b", "--no-healthcheck", "semh:1")?;
    for name in ["c48a", "c48b"] {
        exam.until_running(name, 1)?;
        let label = format!("label=com.docker.swarm.service.name={name}");
        let status =
            exam.docker(&format!("ps --filter {label} --format {{{{.Status}}}}"))?.fine()?;
        ensure!(status.contains("Up") && !status.contains("health"), "{name}: {status}");
    }
    remove(exam, "c48a")?;
    remove(exam, "c48b")
}

fn probes(exam: &Exam<'_>) -> Result<()> {
    exam.create("c49", "", "semh:1")?;
    exam.until_running("c49", 1)?;
    let id = text(&exam.tasks("c49")?[0]["Status"]["ContainerStatus"]["ContainerID"]);
    let health = exam.get(&format!("/v1.41/containers/{id}/json"))?["State"]["Health"].clone();
    remove(exam, "c49")?;
    ensure!(health["Status"] == "healthy" && health["FailingStreak"] == 0, "{health}");
    let log = health["Log"].as_array().cloned().unwrap_or_default();
    ensure!((1..=5).contains(&log.len()) && log[log.len() - 1]["ExitCode"] == 0, "{health}");
    Ok(())
}

fn stop_signal(exam: &Exam<'_>) -> Result<()> {
    exam.create("c50", "--stop-signal SIGUSR1 -e TRAP=10 --update-monitor 1s", "sem:1")?;
    exam.until_running("c50", 1)?;
    exam.update("c50", "--force")?;
    exam.until_state("c50", "completed")?;
    let rows = exam.rows("c50")?;
    let log = exam.docker("service logs c50")?.fine()?;
    remove(exam, "c50")?;
    ensure!(rows.iter().any(|row| row.contains("|Shutdown|Shutdown|")), "{rows:?}");
    ensure!(log.contains("got signal 10"), "{log}");
    Ok(())
}

fn grace(exam: &Exam<'_>) -> Result<()> {
    exam.create("c51", "-e TERM_IGNORE=1 --update-monitor 1s", "sem:1")?;
    exam.docker("service update --detach --stop-grace-period 2s c51")?.fine()?;
    exam.until("settled", || {
        let service = exam.service("c51")?;
        Ok((service["UpdateStatus"]["State"] != "updating").then_some(()))
    })?;
    exam.until_running("c51", 1)?;
    exam.update("c51", "--force")?;
    exam.until_state("c51", "completed")?;
    let tasks = exam.tasks("c51")?;
    remove(exam, "c51")?;
    let codes: Vec<_> =
        tasks.iter().map(|task| &task["Status"]["ContainerStatus"]["ExitCode"]).collect();
    ensure!(codes.iter().any(|code| **code == 137), "{codes:?}");
    Ok(())
}
