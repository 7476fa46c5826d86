//! Logs, commands beside a task, files in and out, figures, events.

use std::{
    collections::BTreeMap,
    io::Read,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE, text};

pub const ALL: &[Scenario] = &[
    scenario("C52", "service logs", logs),
    scenario("C53", "logs are followed", follow),
    scenario("C54", "one line a frame", frames),
    scenario("C55", "exec", exec),
    scenario("C56", "exec on a terminal", terminal),
    scenario("C57", "cp in and out", copy),
    scenario("C58", "stats", stats),
    scenario("C66", "events", events),
    scenario("C71", "a command's output without an upgrade", plain_exec),
    scenario("C72", "a container's output without an upgrade", plain_attach),
];

fn logs(exam: &Exam<'_>) -> Result<()> {
    exam.create("c52", "-e LOG_EVERY=100 --update-monitor 1s", "sem:1")?;
    let old = exam.until_running("c52", 1)?;
    let has_lines = |count: usize| {
        exam.until("some lines", || {
            let out = exam.docker("service logs c52")?.out;
            Ok((out.matches("| out 3\n").count() == count).then_some(()))
        })
    };
    has_lines(1)?;
    exam.update("c52", "--force")?;
    exam.until_state("c52", "completed")?;
    has_lines(2)?;
    // Three lines of each task, the one that has gone included.
    let said = exam.docker("service logs --tail 3 c52")?;
    let mut of: BTreeMap<String, usize> = BTreeMap::new();
    for (text, word) in [(&said.out, "out"), (&said.err, "err")] {
        for line in text.lines() {
            let task = prefixed(line, word).with_context(|| format!("{line:?}"))?;
            *of.entry(task).or_default() += 1;
        }
    }
    ensure!(of.len() == 2 && of.values().all(|count| *count <= 3), "{of:?}");
    ensure!(of.keys().any(|task| old[0].starts_with(task.as_str())), "{of:?} of {old:?}");
    let raw = exam.docker("service logs --raw --tail 1 c52")?;
    let both = format!("{}{}", raw.out, raw.err);
    let is_bare = |line: &str| ["out ", "err ", "got "].iter().any(|word| line.starts_with(word));
    ensure!(both.lines().all(is_bare) && !both.is_empty(), "{both}");
    let stamped = exam.docker("service logs -t --tail 1 c52")?;
    let both = format!("{}{}", stamped.out, stamped.err);
    for line in both.lines() {
        let stamp = line.split(' ').next().unwrap_or_default();
        let is_nano = stamp.len() == "2026-11-23T10:12:53.787186801Z".len();
        ensure!(is_nano && stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
    }
    let one = exam.docker(&format!("service logs --tail 2 {}", old[0]))?;
    let count = one.out.lines().count() + one.err.lines().count();
    ensure!(one.code == 0 && count == 2, "{one:?}");
    let missing = exam.docker("service logs nosuch")?;
    ensure!(missing.code == 1, "{missing:?}");
    missing.refused("no such task or service: nosuch")
}

/// The task of `c52.1.ID@HOST    | out 7`, when the line looks like that.
fn prefixed(line: &str, word: &str) -> Option<String> {
    let (head, text) = line.split_once(" | ")?;
    let (task, host) = head.split_once('@')?;
    let id = task.strip_prefix("c52.1.")?;
    let is_id = id.len() == 12 && id.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
    let is_line = match text.strip_prefix(&format!("{word} ")) {
        Some(number) => number.parse::<u32>().is_ok(),
        // What it says as it starts and ends.
        None => {
            word == "out" && ["starting ", "listening ", "got "].iter().any(|w| text.starts_with(w))
        }
    };
    (is_id && is_line && !host.trim().is_empty()).then(|| id.to_owned())
}

fn follow(exam: &Exam<'_>) -> Result<()> {
    exam.create("c53", "-e LOG_EVERY=200", "sem:1")?;
    exam.until_running("c53", 1)?;
    let said = exam.docker_within("service logs -f --tail 0 c53", Duration::from_secs(3))?;
    // Ended by the clock, not by itself. With 2 s of patience there is one second's worth left.
    ensure!(said.code == 124, "{said:?}");
    ensure!(said.out.lines().count() >= 4 && said.err.lines().count() >= 4, "{said:?}");
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
    ensure!(status == 200, "{status}");
    let frames = decoded(&body)?;
    for (_, line) in &frames {
        ensure!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
        for key in ["node.id=", "service.id=", "task.id="] {
            ensure!(line.contains(&format!("com.docker.swarm.{key}")), "{key}: {line}");
        }
    }
    ensure!(frames.len() == 4, "{} frames", frames.len());
    Ok(())
}

/// Whole frames: the number of the stream, and what it says.
fn decoded(bytes: &[u8]) -> Result<Vec<(u8, String)>> {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let length = usize::try_from(length)?;
        ensure!(matches!(header[0], 1 | 2) && after.len() >= length, "{header:?}");
        frames.push((header[0], String::from_utf8_lossy(&after[..length]).into_owned()));
        rest = &after[length..];
    }
    ensure!(rest.is_empty(), "half a frame: {rest:?}");
    Ok(frames)
}

/// What all frames of a stream say together.
fn said(frames: &[(u8, String)], stream: u8) -> String {
    frames.iter().filter(|(of, _)| *of == stream).map(|(_, text)| text.as_str()).collect()
}

fn exec(exam: &Exam<'_>) -> Result<()> {
    exam.create("c55", "", "sem:1")?;
    let id = exam.container("c55")?;
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
    let missing = exam.docker("exec nosuch /app env")?;
    ensure!(missing.code == 1, "{missing:?}");
    missing.refused("No such container: nosuch")
}

fn terminal(exam: &Exam<'_>) -> Result<()> {
    exam.create("c56", "", "sem:1")?;
    let id = exam.container("c56")?;
    let host = format!("unix://{}", exam.engine.socket.display());
    let run = |words: &str| {
        std::process::Command::new("script")
            .args(["-qec", &format!("docker exec -t {id} /app {words}"), "/dev/null"])
            .env("DOCKER_HOST", &host)
            .output()
            .context("run script")
    };
    let output = run("echo hi")?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    // One stream, with the terminal's line ends (`script` adds its own to them).
    ensure!(out.contains("hi\r") && out.contains("err:hi\r"), "{out:?}");
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let code = run("exit 3")?.status.code();
    ensure!(code == Some(3), "{code:?}");
    Ok(())
}

/// Who does not ask for an upgrade gets the output as the answer's body, to the connection's end.
fn plain_exec(exam: &Exam<'_>) -> Result<()> {
    exam.create("c71", "", "sem:1")?;
    let id = exam.container("c71")?;
    let run = |words: &[&str], has_terminal: bool| {
        let asked = json!({
            "AttachStdout": true, "AttachStderr": true, "Tty": has_terminal,
            "Cmd": std::iter::once(&"/app").chain(words).collect::<Vec<_>>(),
        });
        let path = format!("/v1.41/containers/{id}/exec");
        let (status, _, body) = exam.api("POST", &path, &asked.to_string())?;
        ensure!(status == 201, "{status} {body}");
        let exec = text(&serde_json::from_str::<Value>(&body)?["Id"]);
        let how = json!({ "Detach": false, "Tty": has_terminal }).to_string();
        let (status, head, body) = exam.ask("POST", &format!("/v1.41/exec/{exec}/start"), &how)?;
        ensure!(status == 200, "{status} {head} {}", String::from_utf8_lossy(&body));
        is_plain_stream(&head)?;
        let code = exam.get(&format!("/v1.41/exec/{exec}/json"))?["ExitCode"].clone();
        Ok((body, code))
    };
    let (body, code) = run(&["echo", "hi"], false)?;
    let frames = decoded(&body)?;
    ensure!(said(&frames, 1) == "hi\n" && said(&frames, 2) == "err:hi\n", "{frames:?}");
    ensure!(code == 0, "{code}");
    let (body, code) = run(&["exit", "3"], false)?;
    ensure!(code == 3 && body.is_empty(), "{code} {body:?}");
    let (body, _) = run(&["echo", "hi"], true)?;
    let on_terminal = String::from_utf8_lossy(&body).into_owned();
    ensure!(on_terminal.contains("hi\r\n") && !on_terminal.contains('\u{1}'), "{on_terminal:?}");
    Ok(())
}

fn plain_attach(exam: &Exam<'_>) -> Result<()> {
    exam.create("c72", "-e LOG_EVERY=100", "sem:1")?;
    let id = exam.container("c72")?;
    let path = format!("/v1.41/containers/{id}/attach?stream=1&stdout=1&stderr=1");
    // What was said before it is attached does not come: a line of a second later does.
    let last = exam.docker("service logs c72")?.out.matches("| out ").count() + 10;
    let (attached, killed) = std::thread::scope(|scope| {
        let attached = scope.spawn(|| exam.ask("POST", &path, ""));
        let killed = exam.until("ten more lines", || {
            let lines = exam.docker("service logs c72")?.out;
            Ok(lines.contains(&format!("| out {last}\n")).then_some(()))
        });
        let killed = killed.and_then(|()| exam.docker(&format!("kill {id}"))?.fine());
        (attached.join(), killed)
    });
    killed?;
    let (status, head, body) = attached.map_err(|_| anyhow!("the client panicked"))??;
    ensure!(status == 200, "{status} {head}");
    is_plain_stream(&head)?;
    let frames = decoded(&body)?;
    for (stream, name) in [(1, "out"), (2, "err")] {
        let line = format!("{name} {}\n", last - 1);
        ensure!(said(&frames, stream).contains(&line), "{line:?} is not in {frames:?}");
    }
    Ok(())
}

fn is_plain_stream(head: &str) -> Result<()> {
    ensure!(head.contains("content-type: application/vnd.docker.raw-stream"), "{head}");
    ensure!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    Ok(())
}

fn copy(exam: &Exam<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("in"), "content\n")?;
    exam.create("c57", "", "sem:1")?;
    let id = exam.container("c57")?;
    exam.docker(&format!("cp {} {id}:/f", path("in")))?.fine()?;
    exam.docker(&format!("cp {id}:/f {}", path("out")))?.fine()?;
    exam.docker(&format!("cp {id}:/app {}", path("app")))?.fine()?;
    let missing = exam.docker(&format!("cp {id}:/nosuch {}", path("none")))?;
    let read = exam.docker(&format!("exec {id} /app readfile /f"))?;
    let archive = exam.docker(&format!("cp {id}:/f -"))?;
    ensure!(std::fs::read(folder.path().join("out"))? == b"content\n", "it came back as it was");
    let is_file = std::fs::symlink_metadata(folder.path().join("app"))?.is_file();
    ensure!(is_file && std::fs::read(folder.path().join("app"))?.starts_with(b"\x7fELF"), "/app");
    ensure!(read.out == "content\n", "{read:?}");
    let mut archive = tar::Archive::new(archive.out.as_bytes());
    let mut members = Vec::new();
    for member in archive.entries()? {
        let mut member = member?;
        let mut content = String::new();
        member.read_to_string(&mut content)?;
        members.push((member.path()?.display().to_string(), content));
    }
    ensure!(members == [("f".to_owned(), "content\n".to_owned())], "{members:?}");
    // Clients of different ages have different words for it; the engine's own are looked at below.
    ensure!(missing.code == 1, "{missing:?}");
    missing.refused("/nosuch")?;
    let path = format!("/v1.41/containers/{id}/archive?path=/nosuch");
    exam.refuses(("GET", &path, ""), (404, "Could not find the file /nosuch in container"))
}

fn stats(exam: &Exam<'_>) -> Result<()> {
    exam.create("c58", "--replicas 2", "sem:1")?;
    exam.until_running("c58", 2)?;
    let ids = exam.containers("c58")?;
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}";
    let arguments = ["stats", "--no-stream", "--format", format, &ids[0], &ids[1]];
    let started = Instant::now();
    let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    ensure!(out.lines().count() == 2, "{out}");
    for line in out.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        let [name, share, memory, count] = parts.as_slice() else { bail!("{out}") };
        ensure!(name.starts_with("c58.") && share.ends_with('%'), "{out}");
        let used = memory.split(" / ").next().unwrap_or_default();
        ensure!(used.ends_with('B') && !used.starts_with('0'), "{out}");
        ensure!(count.trim().parse::<u32>().is_ok_and(|count| count >= 1), "{out}");
    }
    Ok(())
}

fn events(exam: &Exam<'_>) -> Result<()> {
    exam.create("c66", "--update-monitor 1s", "semh:1")?;
    let first = exam.until_running("c66", 1)?;
    exam.update("c66", "--image semh:2")?;
    exam.until_state("c66", "completed")?;
    exam.docker("service rm c66")?.fine()?;
    let of_service: &[(&str, &[&str])] = &[
        ("create", &[]),
        ("update", &["image.old=semh:1", "image.new=semh:2"]),
        ("update", &["updatestate.new=updating"]),
        ("update", &["updatestate.old=updating", "updatestate.new=completed"]),
        ("remove", &[]),
    ];
    let of_task: &[(&str, &[&str])] = &[
        ("create", &[]),
        ("start", &[]),
        ("health_status: healthy", &[]),
        ("kill", &["signal=15"]),
        ("die", &["exitCode=0"]),
    ];
    let task = format!("c66.1.{}", first[0]);
    exam.until("all events, in order", || {
        let arguments = ["events", "--since", "5m", "--until", "0s", "--format", "{{json .}}"];
        let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
        let events: Vec<Value> = out.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        let service = in_order(&events, "service", "c66", of_service);
        Ok((service && in_order(&events, "container", &task, of_task)).then_some(()))
    })
}

/// Whether events of this name came in this order, with these attributes.
fn in_order(events: &[Value], kind: &str, name: &str, wanted: &[(&str, &[&str])]) -> bool {
    let mut rest = events
        .iter()
        .filter(|event| event["Type"] == kind && event["Actor"]["Attributes"]["name"] == name);
    wanted.iter().all(|(action, attributes)| {
        rest.any(|event| {
            event["Action"] == *action
                && attributes.iter().all(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    event["Actor"]["Attributes"][key] == value
                })
        })
    })
}
