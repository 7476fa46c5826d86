//! Defects at Swarm's edges: traffic, versions of objects, stacks, logs, what is shown.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::{Scenario, only_embedded, scenario, update::last};
use crate::exam::{Exam, PATIENCE, text};

const NO_TRAFFIC: &str = "without IPVS its ports carry no traffic";

pub const ALL: &[Scenario] = &[
    only_embedded("B18", "requests while tasks are replaced", requests, NO_TRAFFIC),
    only_embedded("B19", "the client's address", address, NO_TRAFFIC),
    scenario("B20", "a version read before the engine's own writes", version),
    scenario("B23", "a spec posted back with its defaults", defaults),
    only_embedded("B24", "a stack removed and deployed at once", stack, "there it is a race"),
    only_embedded("B25", "a followed log over tasks and to its end", log, "it may hang for ever"),
    scenario("B28", "a port of the host is shown once", shown_once),
];

/// The body of one answer over a new connection.
fn ask(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// A request every few milliseconds while both tasks are replaced, stop-first.
fn requests(exam: &Exam<'_>) -> Result<()> {
    let words = "--replicas 2 --publish 18118:8080 --update-monitor 1s";
    exam.create("b18", words, "semh:1")?;
    exam.until_running("b18", 2)?;
    exam.until("the port answers", || Ok(ask(18118, "/").ok()))?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let asking = scope.spawn(|| {
            let (mut bodies, mut failed) = (Vec::new(), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                match ask(18118, "/") {
                    Ok(body) => bodies.push(body),
                    Err(error) => failed.push(format!("{error:#}")),
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            (bodies, failed)
        });
        let updated = exam.update("b18", "--image semh:2");
        let updated = updated.and_then(|()| exam.until_state("b18", "completed"));
        is_over.store(true, Ordering::Relaxed);
        let (bodies, failed) = asking.join().unwrap_or_default();
        updated?;
        ensure!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), bodies.len());
        for version in ["v=1\n", "v=2\n"] {
            ensure!(bodies.iter().any(|body| body == version), "nobody answered {version:?}");
        }
        Ok(())
    })
}

fn address(exam: &Exam<'_>) -> Result<()> {
    exam.create("b19", "--publish 18119:8080", "sem:1")?;
    exam.until_running("b19", 1)?;
    let body = exam.until("the port answers", || Ok(ask(18119, "/from").ok()))?;
    ensure!(body.trim() == "127.0.0.1", "{body}");
    Ok(())
}

fn version(exam: &Exam<'_>) -> Result<()> {
    exam.create("b20", "--update-monitor 1s", "sem:1")?;
    exam.until_running("b20", 1)?;
    exam.update("b20", "--force")?;
    let shots = exam.film("b20", "updating", |shot| !shot.update().is_empty())?;
    let read = &last(&shots)?.service;
    exam.until_state("b20", "completed")?;
    let mut spec = read["Spec"].clone();
    spec["Labels"] = json!({ "a": "b" });
    let path = format!("/v1.41/services/b20/update?version={}", read["Version"]["Index"]);
    let (status, _, body) = exam.api("POST", &path, &spec.to_string())?;
    let wanted = if exam.is_embedded() { 200 } else { 500 };
    ensure!(status == wanted, "{status} {body}");
    Ok(())
}

fn defaults(exam: &Exam<'_>) -> Result<()> {
    exam.create("b23", "--update-monitor 1s", "sem:1")?;
    let before = exam.until_running("b23", 1)?;
    // Bare, as a client that states no settings makes it; the docker client states them all.
    let bare = json!({ "Name": "b23b", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } } });
    let (status, _, body) = exam.api("POST", "/v1.41/services/create", &bare.to_string())?;
    ensure!(status == 201 && before.len() == 1, "{status} {body}");
    let before = exam.until_running("b23b", 1)?;
    let full = exam.service("b23b?insertDefaults=true")?;
    let path = format!("/v1.41/services/b23b/update?version={}", full["Version"]["Index"]);
    let (status, _, body) = exam.api("POST", &path, &full["Spec"].to_string())?;
    ensure!(status == 200, "{status} {body}");
    if !exam.is_embedded() {
        let is_other = |shot: &crate::film::Shot| shot.serving().iter().any(|id| *id != before[0]);
        return exam.film("b23b", "restarted for nothing", is_other).map(drop);
    }
    let service = exam.service("b23b")?;
    ensure!(service["UpdateStatus"].is_null(), "{}", service["UpdateStatus"]);
    ensure!(exam.tasks("b23b")?.len() == 1 && exam.running("b23b")? == before, "a task came");
    Ok(())
}

fn stack(exam: &Exam<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stack.yml");
    let text = "version: '3.8'\nservices:\n  web:\n    image: sem:1\n    stop_grace_period: 3s\n\
        \x20   ports: ['18124:8080']\n    environment: {TERM_DELAY: 1000}\n";
    std::fs::write(&file, text)?;
    let deploy = format!("stack deploy --resolve-image never -c {} b24", file.display());
    for _ in 0..2 {
        exam.docker(&deploy)?.fine()?;
        exam.until_running("b24_web", 1)?;
        exam.docker("stack rm b24")?.fine()?;
        let networks = exam.docker("network ls --filter name=b24_default -q")?.fine()?;
        ensure!(networks.is_empty(), "the network is still there");
    }
    Ok(())
}

fn log(exam: &Exam<'_>) -> Result<()> {
    exam.create("b25", "-e LOG_EVERY=100 --update-monitor 1s --restart-delay 0s", "sem:1")?;
    exam.until_running("b25", 1)?;
    let has_lines = |count: usize| {
        exam.until("lines", || {
            let out = exam.docker("service logs b25")?.out;
            Ok((out.matches("| out 3\n").count() == count).then_some(()))
        })
    };
    let (said, ids) = exam.meanwhile("service logs -f b25", || {
        let mut ids = exam.running("b25")?;
        has_lines(1)?;
        exam.update("b25", "--force")?;
        exam.until_state("b25", "completed")?;
        ids.extend(exam.running("b25")?);
        has_lines(2)?;
        exam.docker("service rm b25")?.fine()?;
        Ok(ids)
    })?;
    ensure!(said.code == 0 && ids.len() == 2, "{} {ids:?}", said.code);
    for id in &ids {
        let of = said.out.lines().filter(|line| line.contains(&id[..12]));
        let numbers: Vec<u32> =
            of.filter_map(|line| line.split("| out ").nth(1)?.parse().ok()).collect();
        let is_whole = numbers.iter().zip(1..).all(|(number, wanted)| *number == wanted);
        ensure!(is_whole && numbers.len() >= 3, "{id}: {numbers:?}");
    }
    Ok(())
}

fn shown_once(exam: &Exam<'_>) -> Result<()> {
    exam.create("b28", "--publish mode=host,target=8080,published=18128", "sem:1")?;
    exam.until_running("b28", 1)?;
    let out = exam.client(&["service", "ps", "b28", "--format", "{{.Ports}}"], "", PATIENCE)?;
    let shown = text(&json!(out.fine()?.trim()));
    let port = "*:18128->8080/tcp";
    // A daemon shows it once more where the machine has IPv6.
    let is_fine = shown == port || !exam.is_embedded() && shown == format!("{port},{port}");
    ensure!(is_fine, "{shown}");
    Ok(())
}
