//! `keel` on a real Docker Swarm of a manager and a worker: releases under requests that never fail,
//! on every node. Needs root and a Docker daemon's binaries; without them the tests say what is
//! missing, and fail in CI.

mod ssh;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stage::{Requests, Stage};

#[test]
fn releases_on_a_swarm_lose_no_request_on_any_node() {
    let Some(stage) = Stage::raise(1, 1) else { return };
    stage.keel(0, &["deploy", "--skip-build", "--version", "1", "st"]).succeeds();
    let requests = Requests::start(stage.entries());
    requests.await_count(200);

    stage.keel(0, &["deploy", "--skip-build", "--version", "2", "st"]).succeeds();
    requests.await_answer("v=2");
    let bad = [("FAIL_NOW", "7")];
    let ran = stage.keel_with(0, &["deploy", "--skip-build", "--version", "3", "st"], &bad);
    assert_eq!(ran.code, 3, "{}", ran.text);
    assert!(ran.text.contains("non-zero exit (7)"), "{}", ran.text);
    stage.keel(0, &["scale", "st_web=2"]).succeeds();
    stage.keel(0, &["scale", "st_web=4"]).succeeds();
    stage.keel(0, &["rollback", "1"]).succeeds();
    requests.await_answer("v=1");

    // Control may die anywhere, and traffic goes on as it was; also where it starts again and nobody
    // tells what runs.
    stage.kill_daemon(0);
    stage.kill_daemon(1);
    requests.await_count(200);
    stage.start_daemon(1);
    requests.await_count(400);
    stage.start_daemon(0);
    stage.keel(0, &["restart", "st_web"]).succeeds();

    let counted = requests.end();
    assert_eq!(counted.failed, Vec::<String>::new(), "of {} requests", counted.answered);
}

#[test]
fn a_node_without_tasks_or_even_docker_goes_on_answering() {
    let Some(stage) = Stage::raise(1, 1) else { return };
    stage.keel(0, &["deploy", "--skip-build", "--version", "1", "st"]).succeeds();
    let requests = Requests::start(stage.entries());
    requests.await_count(200);
    stage.keel(0, &["node", "drain", "node1", "--yes"]).succeeds();
    let at_worker = Requests::start(stage.entries()[1..].to_vec());
    at_worker.await_count(200);
    stage.keel(0, &["deploy", "--skip-build", "--version", "2", "st"]).succeeds();
    at_worker.await_answer("v=2");

    stage.stop_docker(1);
    at_worker.await_count(200);
    // What is released now is known there all the same.
    stage.keel(0, &["deploy", "--skip-build", "--version", "1", "st"]).succeeds();
    at_worker.await_answer("v=1");
    at_worker.await_count(200);
    for requests in [requests, at_worker] {
        let counted = requests.end();
        assert_eq!(counted.failed, Vec::<String>::new(), "of {} requests", counted.answered);
    }
}

#[test]
fn a_manager_without_docker_is_told_by_the_others_what_runs() {
    let Some(stage) = Stage::raise(3, 0) else { return };
    stage.keel(0, &["deploy", "--skip-build", "--version", "1", "st"]).succeeds();
    stage.keel(0, &["node", "drain", "node2", "--yes"]).succeeds();
    let requests = Requests::start(stage.entries()[2..].to_vec());
    requests.await_count(200);
    stage.stop_docker(2);
    for version in ["2", "1"] {
        stage.keel(0, &["deploy", "--skip-build", "--version", version, "st"]).succeeds();
        requests.await_answer(&format!("v={version}"));
    }
    let counted = requests.end();
    assert_eq!(counted.failed, Vec::<String>::new(), "of {} requests", counted.answered);
}

#[test]
fn nodes_are_shown_reached_and_images_brought_to_them() {
    let Some(stage) = Stage::raise(1, 1) else { return };
    // Only the manager has the images; the deploy brings them to the worker.
    stage.keel(0, &["deploy", "--skip-build", "--version", "1", "st"]).succeeds();
    let nodes = stage.keel(0, &["nodes", "--json"]).json();
    let nodes = nodes.as_array().expect("a list");
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| node["keel"].is_string()), "{nodes:?}");
    assert!(nodes.iter().all(|node| node["disk_free_bytes"].as_u64() > Some(0)), "{nodes:?}");

    let tasks = stage.keel(0, &["ps", "st_web", "--json"]).json();
    let far = tasks.as_array().expect("a list").iter().find(|task| task["node"] == "node1");
    let far = far.expect("a task on the worker")["name"].as_str().expect("a name").to_owned();
    let said = stage.keel(0, &["exec", &far, "--", "/app", "echo", "from", "there"]);
    assert_eq!((said.code, said.out.trim()), (0, "from there"), "{}", said.text);
    assert_eq!(stage.keel(0, &["exec", &far, "--", "/app", "exit", "9"]).code, 9);
}

#[test]
fn the_logs_of_all_nodes_are_one_and_what_is_missing_is_told() {
    let Some(stage) = Stage::raise(1, 1) else { return };
    let talking = [("LOG_EVERY", "100")];
    let deploy = |version| ["deploy", "--skip-build", "--version", version, "st"];
    stage.keel_with(0, &deploy("1"), &talking).succeeds();
    let nodes = |tasks: &BTreeSet<String>| -> BTreeSet<String> {
        let all = stage.keel(0, &["ps", "st_web", "--json"]).json();
        let of = |task: &&Value| task["id"].as_str().is_some_and(|id| tasks.contains(id));
        all.as_array().into_iter().flatten().filter(of).map(|t| t["node"].to_string()).collect()
    };

    let ran = stage.keel(0, &["logs", "st_web", "--json"]);
    ran.succeeds();
    let lines = ran.json_lines();
    // Docker itself writes lines of the two streams in another order than it dates them.
    let out = lines.iter().filter(|line| line["stream"] == "stdout");
    let times: Vec<&str> = out.map(|line| line["time"].as_str().unwrap_or("")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let told = whole(&lines);
    assert_eq!((told.len(), nodes(&told).len()), (4, 2), "{told:?}");

    // Swarm's own log would end here without a word.
    stage.kill_daemon(1);
    let cut = stage.keel(0, &["logs", "st_web", "--json"]);
    assert!(cut.code != 0 && cut.text.contains("on node node1"), "{}: {}", cut.code, cut.text);
    assert_eq!(nodes(&whole(&cut.json_lines())).len(), 1);
    stage.start_daemon(1);

    let ran = stage.keel_beside(0, &["logs", "st_web", "--json", "-f"], || {
        stage.keel_with(0, &deploy("2"), &talking).succeeds();
        stage.docker(&["service", "rm", "st_web"]);
    });
    ran.succeeds();
    let told = whole(&ran.json_lines());
    assert!(told.len() >= 8, "old and new tasks: {told:?}");
}

#[test]
fn over_ssh_the_whole_swarm_is_in_reach() {
    let Some(stage) = Stage::raise(1, 1) else { return };
    let Some(login) = stage.login(true) else { return };
    let talking = [("LOG_EVERY", "100")];
    // The worker gets its images over the manager's daemon.
    let deploy = ["deploy", "--skip-build", "--version", "1", "st"];
    stage.keel_over(&login, &deploy, &talking).succeeds();
    let requests = Requests::start(stage.entries());
    requests.await_count(200);
    let tasks = stage.keel_over(&login, &["ps", "st_web", "--json"], &[]).json();
    for task in tasks.as_array().expect("a list") {
        let name = task["name"].as_str().expect("a name");
        let said = stage.keel_over(&login, &["exec", name, "--", "/app", "echo", "hello"], &[]);
        assert_eq!((said.code, said.out.trim()), (0, "hello"), "{}", said.text);
    }
    let lines = stage.keel_over(&login, &["logs", "st_web", "--json"], &[]).json_lines();
    assert_eq!(whole(&lines).len(), 4);
    let nodes = stage.keel_over(&login, &["nodes", "--json"], &[]).json();
    let nodes = nodes.as_array().expect("a list");
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node["keel"].is_string()), "{nodes:?}");
    let deploy = ["deploy", "--skip-build", "--version", "2", "st"];
    stage.keel_over(&login, &deploy, &talking).succeeds();
    requests.await_answer("v=2");
    let counted = requests.end();
    assert_eq!(counted.failed, Vec::<String>::new(), "of {} requests", counted.answered);
    drop(login);

    // Without `keel` over there it is Docker's own, which leads to no other node, and says so.
    let Some(login) = stage.login(false) else { return };
    let tasks = stage.keel_over(&login, &["ps", "st_web", "--json"], &[]).json();
    let is_far = |task: &&Value| task["node"] == "node1" && task["desired_state"] == "running";
    let far = tasks.as_array().expect("a list").iter().find(is_far);
    let far = far.expect("a task on the worker")["name"].as_str().expect("a name").to_owned();
    let said = stage.keel_over(&login, &["exec", &far, "--", "/app", "echo", "hello"], &[]);
    assert!(said.code == 1 && said.text.contains("runs on node node1"), "{}", said.text);
}

/// Tasks in a log, each with all its lines from the first on, in order.
fn whole(lines: &[Value]) -> BTreeSet<String> {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let text = line["text"].as_str().unwrap_or("");
        let Some(number) = text.strip_prefix("out ").and_then(|n| n.parse::<u64>().ok()) else {
            continue;
        };
        let last = last.entry(line["task_id"].as_str().unwrap_or("").to_owned()).or_default();
        assert_eq!(number, *last + 1, "a line is missing, doubled or late: {line}");
        *last = number;
    }
    last.into_keys().collect()
}

#[test]
fn a_stack_is_adopted_without_a_restart_and_given_back() {
    let Some(stage) = Stage::raise(1, 0) else { return };
    stage.docker(&["stack", "deploy", "-c", &stage.file("plain.yml"), "st"]);
    stage.await_running("st_web", 2);
    let before = stage.running("st_web");
    stage.keel(0, &["adopt", "st"]).succeeds();
    assert_eq!(stage.running("st_web"), before, "a task was replaced");
    let releases = stage.keel(0, &["releases", "st", "--json"]).json();
    assert_eq!(releases[0]["version"], "1", "{releases}");
    let again = stage.keel(0, &["adopt", "st"]);
    assert_eq!(again.code, 6, "{}", again.text);

    stage.keel(0, &["release-control", "st", "--yes"]).succeeds();
    let spec = stage.docker(&["service", "inspect", "st_web", "--format", "{{json .Spec}}"]);
    assert!(!spec.contains("evenkeel."), "{spec}");
}
