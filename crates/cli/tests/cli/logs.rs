//! Logs: where they go, and what happens when they cannot go there any more.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    engine::{Engine, frame},
    keel, said,
};

fn engine_with_log(is_endless: bool) -> Engine {
    let engine = Engine::start();
    let lines = [frame("task1", "one"), frame("task1", "two")].concat();
    if is_endless {
        engine.endless("GET /services/svc1/logs", lines);
    } else {
        engine.answer("GET /services/svc1/logs", 200, lines);
    }
    engine
}

#[test]
fn lines_name_their_replica_and_times_come_when_asked_for() {
    let engine = engine_with_log(false);
    let of = |arguments: &[&str]| {
        said(keel(arguments).env("DOCKER_HOST", engine.host()).output().expect("runs")).out
    };
    assert_eq!(of(&["logs", "ala_api"]), "ala_api.1 | one\nala_api.1 | two\n");
    assert_eq!(of(&["logs", "-q", "ala_api"]), "one\ntwo\n");
    assert!(of(&["logs", "-t", "ala_api"]).starts_with("2026-11-23T10:00:00.000000001Z ala_api.1"));
}

#[test]
fn a_full_disk_on_the_clients_side_is_an_error_that_says_so() {
    let engine = engine_with_log(false);
    let full = File::options().write(true).open("/dev/full").expect("a device that is full");
    let mut command = keel(&["logs", "ala_api"]);
    let said = said(
        command
            .env("DOCKER_HOST", engine.host())
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .expect("runs"),
    );
    assert_eq!(said.code, 1);
    insta::assert_snapshot!(said.err);
}

#[test]
fn nobody_reading_any_more_is_no_error() {
    let engine = engine_with_log(false);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = keel(&["logs", "ala_api"]);
    command.env("DOCKER_HOST", engine.host()).stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().expect("runs");
    let said = said(child.wait_with_output().expect("ends"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn ctrl_c_ends_a_followed_log_with_its_own_exit_code() {
    let engine = engine_with_log(true);
    let mut command = keel(&["logs", "-f", "ala_api"]);
    command.env("DOCKER_HOST", engine.host()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "ala_api.1 | one");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("told to end");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}

#[test]
fn a_followed_log_goes_on_after_the_engine_was_away() {
    let engine = engine_with_log(false);
    let mut command = keel(&["logs", "-f", "ala_api"]);
    command.env("DOCKER_HOST", engine.host()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("read");
    assert_eq!((next().as_str(), next().as_str()), ("ala_api.1 | one", "ala_api.1 | two"));
    engine.endless("GET /services/svc1/logs", frame("task1", "three"));
    loop {
        // The old lines may come once more before the new answer is in place.
        if next() == "ala_api.1 | three" {
            break;
        }
    }
    child.kill().expect("ended");
    child.wait().expect("ends");
}
