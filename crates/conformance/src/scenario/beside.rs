//! Logs, commands beside a task, files in and out, figures, events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE};

pub const ALL: &[Scenario] = &[
    scenario("C52", "service logs", logs),
    scenario("C53", "logs are followed", follow),
    scenario("C54", "one line a frame", frames),
    scenario("C55", "exec", exec),
    scenario("C56", "exec on a terminal", terminal),
    scenario("C57", "cp in and out", copy),
    scenario("C58", "stats", stats),
    scenario("C66", "events", events),
];

fn remove(exam: &Exam<'_>, name: &str) -> Result<()> {
    exam.docker(&format!("service rm {name}"))?.fine().map(drop)
}

/// The container of a service with one replica.
fn container(exam: &Exam<'_>, name: &str) -> Result<String> {
    exam.until_running(name, 1)?;
    let words = format!("ps -q --filter label=com.docker.swarm.service.name={name}");
    Ok(exam.docker(&words)?.fine()?.trim().to_owned())
}

fn logs(exam: &Exam<'_>) -> Result<()> {
    exam.create("c52", "-e LOG_EVERY=100", "sem:1")?;
    exam.until_running("c52", 1)?;
    exam.until("some lines", || {
        Ok(exam.docker("service logs c52")?.out.contains("out 3").then_some(()))
    })?;
    let said = exam.docker("service logs --tail 3 c52")?;
    let raw = exam.docker("service logs --raw --tail 1 c52")?;
    let stamped = exam.docker("service logs -t --tail 1 c52")?;
    let missing = exam.docker("service logs nosuch")?;
    remove(exam, "c52")?;
    ensure!(said.out.lines().all(|l| l.starts_with("c52.1.") && l.contains("| out ")), "{said:?}");
    ensure!(said.err.lines().all(|l| l.contains("| err ")), "{said:?}");
    ensure!(said.out.lines().count() + said.err.lines().count() <= 3, "{said:?}");
    let raw = format!("{}{}", raw.out, raw.err);
    ensure!(raw.starts_with("out ") || raw.starts_with("err "), "{raw}");
    let stamped = format!("{}{}", stamped.out, stamped.err);
    ensure!(stamped.starts_with("20") && stamped.contains("Z "), "{stamped}");
    missing.refused("no such task or service: nosuch")
}

fn follow(exam: &Exam<'_>) -> Result<()> {
    exam.create("c53", "-e LOG_EVERY=200", "sem:1")?;
    exam.until_running("c53", 1)?;
    let said = exam.docker_within("service logs -f --tail 0 c53", Duration::from_secs(3))?;
    remove(exam, "c53")?;
    ensure!(said.out.lines().count() >= 3, "{said:?}");
    Ok(())
}

/// The details name node, service and task; a frame is one line of one stream.
fn frames(exam: &Exam<'_>) -> Result<()> {
    exam.create("c54", "-e LOG_EVERY=50", "sem:1")?;
    exam.until_running("c54", 1)?;
    exam.until("some lines", || {
        Ok(exam.docker("service logs c54")?.out.contains("out 3").then_some(()))
    })?;
    let path = "/v1.41/services/c54/logs?stdout=1&stderr=1&details=1&tail=4";
    let (status, body) = exam.bytes("GET", path)?;
    remove(exam, "c54")?;
    ensure!(status == 200, "{status}");
    let (mut rest, mut count) = (body.as_slice(), 0);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let length = usize::try_from(length)?;
        ensure!(matches!(header[0], 1 | 2) && after.len() >= length, "{header:?}");
        let line = String::from_utf8_lossy(&after[..length]).into_owned();
        ensure!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
        for key in ["node.id=", "service.id=", "task.id="] {
            ensure!(line.contains(&format!("com.docker.swarm.{key}")), "{key}: {line}");
        }
        (rest, count) = (&after[length..], count + 1);
    }
    ensure!(count == 4 && rest.is_empty(), "{count} frames");
    Ok(())
}

fn exec(exam: &Exam<'_>) -> Result<()> {
    exam.create("c55", "", "sem:1")?;
    let id = container(exam, "c55")?;
    let said = exam.docker(&format!("exec {id} /app echo hi"))?;
    ensure!(said.out.trim() == "hi" && said.err.trim() == "err:hi" && said.code == 0, "{said:?}");
    let said = exam.docker(&format!("exec {id} /app exit 3"))?;
    ensure!(said.code == 3, "{said:?}");
    let said = exam.client(&["exec", "-i", &id, "/app", "cat"], "hello", PATIENCE)?;
    ensure!(said.out.trim() == "hello", "{said:?}");
    let said = exam.docker(&format!("exec -d {id} /app echo hi"))?;
    ensure!(said.code == 0 && said.out.is_empty(), "{said:?}");
    let said = exam.docker(&format!("exec -e FOO=bar {id} /app env"))?;
    ensure!(said.out.contains("FOO=bar") && said.out.contains("V=1"), "{said:?}");
    let said = exam.docker(&format!("exec {id} /nope"))?;
    ensure!(matches!(said.code, 126 | 127), "{said:?}");
    remove(exam, "c55")?;
    exam.docker("exec nosuch /app env")?.refused("No such container: nosuch")
}

fn terminal(exam: &Exam<'_>) -> Result<()> {
    exam.create("c56", "", "sem:1")?;
    let id = container(exam, "c56")?;
    let host = format!("unix://{}", exam.engine.socket.display());
    let words = format!("docker exec -t {id} /app echo hi");
    let output = std::process::Command::new("script")
        .args(["-qec", &words, "/dev/null"])
        .env("DOCKER_HOST", host)
        .output()
        .context("run script")?;
    remove(exam, "c56")?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    // One stream, with the terminal's line ends (`script` adds its own to them).
    ensure!(out.contains("hi\r") && out.contains("err:hi\r"), "{out:?}");
    Ok(())
}

fn copy(exam: &Exam<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("in"), "content\n")?;
    exam.create("c57", "", "sem:1")?;
    let id = container(exam, "c57")?;
    exam.docker(&format!("cp {} {id}:/f", path("in")))?.fine()?;
    exam.docker(&format!("cp {id}:/f {}", path("out")))?.fine()?;
    exam.docker(&format!("cp {id}:/app {}", path("app")))?.fine()?;
    let missing = exam.docker(&format!("cp {id}:/nosuch {}", path("none")))?;
    let read = exam.docker(&format!("exec {id} /app readfile /f"))?;
    let archive = exam.docker(&format!("cp {id}:/f -"))?;
    remove(exam, "c57")?;
    ensure!(std::fs::read(folder.path().join("out"))? == b"content\n", "it came back as it was");
    let is_file = std::fs::symlink_metadata(folder.path().join("app"))?.is_file();
    ensure!(is_file && std::fs::read(folder.path().join("app"))?.starts_with(b"\x7fELF"), "/app");
    ensure!(read.out == "content\n", "{read:?}");
    ensure!(archive.out.starts_with("f\0") && archive.out.contains("content\n"), "a tar");
    // Clients of different ages have different words for it.
    missing.refused("/nosuch")
}

fn stats(exam: &Exam<'_>) -> Result<()> {
    exam.create("c58", "", "sem:1")?;
    let id = container(exam, "c58")?;
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}";
    let arguments = ["stats", "--no-stream", "--format", format, &id];
    let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
    remove(exam, "c58")?;
    ensure!(out.starts_with("c58.1.") && out.contains('%') && out.lines().count() == 1, "{out}");
    Ok(())
}

fn events(exam: &Exam<'_>) -> Result<()> {
    exam.create("c66", "--update-monitor 1s", "semh:1")?;
    exam.until_running("c66", 1)?;
    exam.update("c66", "--force")?;
    exam.until_state("c66", "completed")?;
    remove(exam, "c66")?;
    let format = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"name\"}}";
    let wanted = [
        "service create c66",
        "container create c66.1.",
        "container start c66.1.",
        "container health_status: healthy c66.1.",
        "service update c66",
        "container kill c66.1.",
        "container die c66.1.",
        "service remove c66",
    ];
    exam.until("all events", || {
        let arguments = ["events", "--since", "2m", "--until", "0s", "--format", format];
        let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
        let lines: Vec<&str> = out.lines().filter(|line| line.contains("c66")).collect();
        let mut rest = lines.iter();
        let in_order = wanted[..5].iter().all(|w| rest.any(|line| line.starts_with(w)));
        let all = wanted.iter().all(|w| lines.iter().any(|line| line.starts_with(w)));
        Ok((in_order && all).then_some(()))
    })
}
