//! The backend as a process, without a database: start, health, stop, and misbehaviour on demand.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

struct Backend {
    process: Child,
    log: Lines<BufReader<ChildStdout>>,
    port: u16,
}

fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ala-backend"));
    command.env_clear().stdout(Stdio::piped());
    command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("JWT_SECRET", "test")]);
    // Nothing listens on port 1: the database is away.
    command.env("DATABASE_URL", "postgres://ala_user:secret@127.0.0.1:1/ala_production");
    command.env("MIGRATIONS_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    command.envs(settings.iter().copied());
    command
}

impl Backend {
    fn start(settings: &[(&str, &str)]) -> Backend {
        let mut process = command(settings).spawn().unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = log.find(|line| line.as_ref().unwrap().contains("\"listening\"")).unwrap();
        let line = line.unwrap();
        let port = line.rsplit(':').next().unwrap().trim_end_matches("\"}").parse().unwrap();
        Backend { process, log, port }
    }

    fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        self.send(path).read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        // Reading the log to its end waits for the process without polling.
        let _: Vec<_> = self.log.by_ref().collect();
        self.process.wait().unwrap().code()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn without_its_database_the_service_runs_but_is_not_healthy() {
    let backend = Backend::start(&[]);
    let answer = backend.get("/api/health");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let body: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4);
    assert_eq!(body["database"], "disconnected");
    assert_eq!(body["priority"], "unreachable");
    let timestamp = body["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
    assert!(backend.get("/api/treatments").starts_with("HTTP/1.1 503"));
}

#[test]
fn the_health_command_fails_with_the_service() {
    let backend = Backend::start(&[]);
    let port = backend.port.to_string();
    let output = command(&[("PORT", &port)]).arg("health").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("disconnected"));
    let output = command(&[("PORT", "1")]).arg("health").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_terminated_service_finishes_its_request_and_exits_with_zero() {
    let mut backend = Backend::start(&[]);
    let mut slow = backend.send("/api/slow?seconds=1&tag=a");
    // Once a later request is answered, the slow one is being worked on.
    backend.get("/api/version");
    backend.terminate();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(r#"{"slept_seconds":1.0,"tag":"a"}"#), "{answer}");
    assert_eq!(backend.exit_code(), Some(0));
}

#[test]
fn a_request_that_takes_too_long_does_not_keep_a_terminated_service() {
    let mut backend = Backend::start(&[("SHUTDOWN_SECONDS", "1.5")]);
    let _slow = backend.send("/api/slow?seconds=30");
    backend.get("/api/version");
    let started = Instant::now();
    backend.terminate();
    assert_eq!(backend.exit_code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_rude_service_drops_its_request_when_terminated() {
    let mut backend = Backend::start(&[("RUDE", "1")]);
    let mut slow = backend.send("/api/slow?seconds=5");
    backend.get("/api/version");
    backend.terminate();
    let mut answer = String::new();
    let _ = slow.read_to_string(&mut answer);
    assert_eq!(answer, "");
    assert_eq!(backend.exit_code(), Some(143));
}

#[test]
fn a_crash_comes_when_asked_for_and_exits_with_one() {
    let mut backend = Backend::start(&[("CRASH_AFTER_SECONDS", "0.3")]);
    assert_eq!(backend.exit_code(), Some(1));
}

#[test]
fn a_slow_start_delays_listening_and_can_be_interrupted() {
    let started = Instant::now();
    let _backend = Backend::start(&[("SLOW_START_MS", "400")]);
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[test]
fn an_empty_switch_is_off() {
    let backend =
        Backend::start(&[("CRASH_AFTER_SECONDS", ""), ("SLOW_START_MS", ""), ("RUDE", "")]);
    assert!(backend.get("/api/version").contains(r#""version":"dev""#));
}

#[test]
fn a_missing_setting_is_named_without_showing_secrets() {
    let output = command(&[("DATABASE_URL", "")]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("`DATABASE_URL` is not set"), "{said}");
    let output = command(&[("CRASH_AFTER_SECONDS", "soon")]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("a number of seconds"));
}
