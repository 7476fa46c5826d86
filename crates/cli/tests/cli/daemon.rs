//! The life of engine and ingress: start, second start, death of either, end.

use std::{fs, os::unix::net::UnixStream, path::PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Said, await_state, keel, said, shown};

/// An engine of its own, ended with the test.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("keel-").tempdir().expect("a folder") }
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(keel(arguments).env("KEEL_STATE", self.folder.path()).output().expect("runs"))
    }

    /// Starts it; the engine's process.
    fn start(&self) -> Pid {
        let started = self.run(&["daemon", "--background", "--json"]);
        assert_eq!(started.code, 0, "{}", started.err);
        let answer: Value = serde_json::from_str(&started.out).expect("is JSON");
        let pid = answer["pid"].as_i64().expect("a process");
        Pid::from_raw(i32::try_from(pid).expect("small")).expect("above zero")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process that listens on a socket.
    fn listener(&self, name: &str) -> Option<Pid> {
        let stream = UnixStream::connect(self.path(name)).ok()?;
        Some(rustix::net::sockopt::socket_peercred(&stream).ok()?.pid)
    }

    fn ingress(&self) -> Option<Pid> {
        self.listener("run/ingress.sock")
    }

    /// The engine's log has a text so often.
    fn log_says(&self, text: &str, times: usize) -> bool {
        let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        log.matches(text).count() >= times
    }

    fn is_ready(&self) -> bool {
        let said = self.run(&["version", "--json"]);
        said.code == 0 && said.out.contains("\"ApiVersion\"")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "--stop", "--all", "--yes"]);
    }
}

#[test]
fn it_returns_when_both_are_ready_and_ends_when_told() {
    let place = Place::new();
    place.start();
    assert!(place.is_ready());
    assert!(place.ingress().is_some());
    let stopped = place.run(&["daemon", "--stop", "--all", "--yes"]);
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    assert!(place.ingress().is_none() && place.listener("run/engine.sock").is_none());
}

#[test]
fn a_second_engine_on_the_same_state_is_refused_and_named() {
    let place = Place::new();
    let first = place.start();
    let second = place.run(&["daemon", "--background"]);
    assert_eq!(second.code, 1);
    let pid = first.as_raw_nonzero();
    let expected = format!("error[state-locked]: another keel (process {pid}) runs on");
    assert!(second.err.contains(&expected), "{}", second.err);
    assert!(second.err.contains("hint: "), "{}", second.err);
    assert!(place.is_ready());
}

#[test]
fn the_ingress_outlives_its_engine_and_the_next_one_takes_it_over() {
    let place = Place::new();
    let engine = place.start();
    let ingress = place.ingress().expect("listens");
    kill_process(engine, Signal::KILL).expect("killed");
    await_state("the engine is gone", || place.listener("run/engine.sock").is_none());
    assert_eq!(place.ingress(), Some(ingress));
    let next = place.start();
    assert_ne!(next, engine);
    assert_eq!(place.ingress(), Some(ingress));
    let stopped = place.run(&["daemon", "--stop"]);
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    assert_eq!(place.ingress(), Some(ingress));
    // Without an engine there is nothing but the ingress left to end.
    let all = place.run(&["daemon", "--stop", "--all", "--yes"]);
    assert_eq!(all.code, 0, "{}", all.err);
    assert_eq!(place.ingress(), None);
}

#[test]
fn an_ingress_that_dies_is_started_again_at_once() {
    let place = Place::new();
    place.start();
    let ingress = place.ingress().expect("listens");
    kill_process(ingress, Signal::KILL).expect("killed");
    await_state("another ingress", || place.ingress().is_some_and(|now| now != ingress));
    assert!(place.is_ready());
}

#[test]
fn an_ingress_is_upgraded_in_place_and_its_engine_finds_the_next_one() {
    let place = Place::new();
    place.start();
    let old = place.ingress().expect("listens");
    let upgraded = place.run(&["ingress", "--upgrade", "--json"]);
    assert_eq!(upgraded.code, 0, "{}", upgraded.err);
    let answer: Value = serde_json::from_str(&upgraded.out).expect("is JSON");
    let new = place.ingress().expect("listens");
    assert_ne!(new, old);
    assert_eq!(answer["pid"], new.as_raw_nonzero().get());
    assert_eq!(answer["before"], old.as_raw_nonzero().get());
    await_state("the one before has ended", || is_gone(old));
    await_state("the engine is connected", || {
        place.run(&["stats", "--json"]).code == 0 && place.log_says("connected to the ingress", 2)
    });
    assert_eq!(place.ingress(), Some(new), "the engine started no other");
}

#[test]
fn an_engine_of_another_binary_brings_its_own_ingress() {
    let place = Place::new();
    place.start();
    let old = place.ingress().expect("listens");
    place.run(&["daemon", "--stop"]);
    place.start();
    assert_eq!(place.ingress(), Some(old), "it is the same binary");
    place.run(&["daemon", "--stop"]);
    let other = place.path("other-keel");
    fs::copy(env!("CARGO_BIN_EXE_keel"), &other).expect("copied");
    let started = std::process::Command::new(&other)
        .args(["daemon", "--background"])
        .env("KEEL_STATE", place.folder.path())
        .output();
    assert!(started.expect("runs").status.success());
    let new = place.ingress().expect("listens");
    assert_ne!(new, old);
    let runs = fs::read_link(format!("/proc/{}/exe", new.as_raw_nonzero())).expect("a process");
    assert_eq!(runs, other);
    await_state("the one before has ended", || is_gone(old));
}

#[test]
fn an_upgrade_that_cannot_be_leaves_the_ingress_that_runs() {
    let place = Place::new();
    let nobody = place.run(&["ingress", "--upgrade"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("error[no-ingress]: "), "{}", nobody.err);
    place.start();
    let old = place.ingress().expect("listens");
    // Nothing can be bound beside the socket.
    fs::create_dir(place.path("run/ingress.sock~")).expect("made");
    let refused = place.run(&["ingress", "--upgrade"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("error[ingress-not-upgraded]: "), "{}", refused.err);
    assert!(refused.err.contains("the one before serves on"), "{}", refused.err);
    assert_eq!(place.ingress(), Some(old));
    fs::remove_dir(place.path("run/ingress.sock~")).expect("removed");
    assert_eq!(place.run(&["ingress", "--upgrade"]).code, 0, "it can be again");
}

/// It has ended; its parent may not have heard.
fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_damaged_state_is_told_with_the_way_out() {
    let place = Place::new();
    place.start();
    place.run(&["daemon", "--stop", "--all", "--yes"]);
    fs::write(place.path("state.db"), vec![7; 8192]).expect("written");
    for name in ["state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(place.path(name));
    }
    let refused = place.run(&["daemon", "--background"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("error[state-corrupt]: "), "{}", refused.err);
    assert!(refused.err.contains("state.db.last-good"), "{}", refused.err);
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let inside = file.path().join("state");
    let said =
        said(keel(&["daemon", "--background"]).env("KEEL_STATE", &inside).output().expect("runs"));
    assert_eq!(said.code, 1);
    assert!(said.err.contains(&shown(&inside)), "{}", said.err);
    assert!(said.err.contains("--state-dir"), "{}", said.err);
}

#[test]
fn ending_what_does_not_run_is_no_error() {
    let place = Place::new();
    let said = place.run(&["daemon", "--stop"]);
    assert_eq!(said.code, 0);
    assert!(said.err.contains("no engine runs on"), "{}", said.err);
}

#[test]
fn the_socket_is_its_owner_s_and_for_root_also_the_docker_group_s() {
    let place = Place::new();
    place.start();
    let groups = fs::read_to_string("/etc/group").expect("readable");
    let is_there = groups.lines().any(|line| line.starts_with("docker:"));
    let shared = is_there && rustix::process::geteuid().is_root();
    let mode = |name: &str| {
        let known = fs::metadata(place.path(name)).expect("there");
        std::os::unix::fs::PermissionsExt::mode(&known.permissions()) & 0o777
    };
    let (socket, folder) = if shared { (0o660, 0o710) } else { (0o600, 0o700) };
    assert_eq!((mode("run/engine.sock"), mode("run")), (socket, folder));
    assert_eq!(mode("run/ingress.sock"), 0o600);
}

#[test]
fn the_engine_listens_at_one_more_address_when_asked() {
    let place = Place::new();
    let host = format!("unix://{}", shown(&place.path("more.sock")));
    let started = place.run(&["daemon", "--background", "-H", &host]);
    assert_eq!(started.code, 0, "{}", started.err);
    let seen = place.run(&["-H", &host, "version"]);
    assert!(seen.out.contains(&format!("at {host}")), "{}{}", seen.out, seen.err);
    let refused = Place::new().run(&["daemon", "--background", "-H", "nowhere"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is not an address to listen on"), "{}", refused.err);
}
