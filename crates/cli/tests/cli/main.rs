//! The binary as it is typed: help, errors, JSON, exit codes, and the daemon's life.

mod alone;
mod container;
mod crowd;
mod daemon;
mod engine;
mod errors;
mod help;
mod json;
mod limits;
mod logs;
mod lossless;
mod registry;
mod release;
mod remote;
mod secret;
mod site;
mod ssh;
mod swarm;
mod target;
mod upload;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// `keel` with nothing of the outside: no terminal, no engine but the one that is named.
fn keel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
    command
        .args(arguments)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER_CONFIG", "/nonexistent/docker")
        .env_remove("DOCKER_TLS_VERIFY")
        .env_remove("DOCKER_TLS")
        .env_remove("STACK")
        .env("KEEL_STATE", "/nonexistent/keel")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// What a command said and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn run(arguments: &[&str]) -> Said {
    said(keel(arguments).output().expect("keel runs"))
}

/// Waits for a state, looking again and again.
#[track_caller]
fn await_state(what: &str, mut is_there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(started.elapsed() < PATIENCE, "not seen in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A file with its folder's name in front, for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
