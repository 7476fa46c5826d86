//! What every part of this benchmark asks of an engine: bare requests, the client, waiting.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use conformance::engine::Engine;
use serde_json::{Value, json};

/// A bare request over a connection of its own: the body, and the time until it was there.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Result<(Vec<u8>, Duration)> {
    let started = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = started.elapsed();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    ensure!(head.starts_with("http/1.1 2"), "{method} {path}: {head}");
    let rest = answer.split_off(end + 4);
    Ok((if head.contains("transfer-encoding: chunked") { dechunk(&rest) } else { rest }, took))
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes.len());
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let size = String::from_utf8_lossy(&bytes[..end]);
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let start = end + 1;
        if size == 0 || start + size > bytes.len() {
            break;
        }
        content.extend_from_slice(&bytes[start..start + size]);
        bytes = bytes.get(start + size + 2..).unwrap_or_default();
    }
    content
}

/// A service of the exam's image; what is in `settings` replaces the rest.
pub fn create(
    engine: &Engine,
    name: &str,
    replicas: u64,
    settings: &[(&str, Value)],
) -> Result<()> {
    let mut spec = json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "sem:1", "Env": ["A=B"], "StopGracePeriod": 1_000_000_000_u64,
            },
            "RestartPolicy": { "Condition": "none" },
        },
        "Mode": { "Replicated": { "Replicas": replicas } },
        "UpdateConfig": { "Parallelism": 1 },
        "Labels": { "com.example": name },
    });
    for (path, value) in settings {
        let (parent, key) = path.rsplit_once('/').context("a path")?;
        spec.pointer_mut(parent).context("its parent")?[key] = value.clone();
    }
    ask(&engine.socket, "POST", "/v1.41/services/create", &spec.to_string()).map(drop)
}

pub fn remove(engine: &Engine, name: &str) -> Result<()> {
    ask(&engine.socket, "DELETE", &format!("/v1.41/services/{name}"), "").map(drop)
}

/// How many tasks of a service are in a state.
pub fn count(engine: &Engine, name: &str, state: &str) -> Result<usize> {
    let path = format!("/v1.41/tasks?filters={{%22service%22:[%22{name}%22]}}");
    let tasks: Value = serde_json::from_slice(&ask(&engine.socket, "GET", &path, "")?.0)?;
    let is_so = |task: &&Value| task["Status"]["State"] == state;
    Ok(tasks.as_array().into_iter().flatten().filter(is_so).count())
}

/// Until so many are in the state, or the time is over; how many there are.
pub fn wait(
    engine: &Engine,
    name: &str,
    state: &str,
    wanted: usize,
    patience: Duration,
) -> Result<usize> {
    let started = Instant::now();
    loop {
        let there = count(engine, name, state)?;
        if there >= wanted || started.elapsed() > patience {
            return Ok(there);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The docker client from its start to its end, for at most five minutes.
pub fn client(engine: &Engine, arguments: &[&str]) -> Result<(Vec<u8>, Duration)> {
    let started = Instant::now();
    let output = Command::new("timeout")
        .args(["300", "docker"])
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket.display()))
        .stdin(Stdio::null())
        .output()
        .context("run docker")?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {}: {said}", arguments.join(" "));
    Ok((output.stdout, took))
}
