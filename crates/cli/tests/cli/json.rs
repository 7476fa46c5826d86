//! What is shown, as tables and as JSON with stable keys.

use serde_json::Value;

use super::{
    Said,
    engine::{Engine, frame},
    keel, said,
};

fn ask(engine: &Engine, arguments: &[&str]) -> Said {
    said(keel(arguments).env("DOCKER_HOST", engine.host()).output().expect("runs"))
}

fn json(engine: &Engine, arguments: &[&str]) -> Value {
    let said = ask(engine, arguments);
    assert_eq!(said.code, 0, "{}", said.err);
    serde_json::from_str(&said.out).expect("is JSON")
}

#[test]
fn everything_that_is_shown_is_there_as_json() {
    let engine = Engine::start();
    insta::assert_json_snapshot!("ls", json(&engine, &["ls", "--json"]));
    insta::assert_json_snapshot!("ps", json(&engine, &["ps", "--json"]));
    insta::assert_json_snapshot!("images", json(&engine, &["images", "--json"]));
    insta::assert_json_snapshot!("stats", json(&engine, &["stats", "--json"]));
    let version = json(&engine, &["version", "--json"]);
    assert_eq!(version["engine"]["Version"], "1.2.3");
    let inspected = json(&engine, &["inspect", "ala_api", "--json"]);
    assert_eq!(inspected[0]["Spec"]["Name"], "ala_api");
    assert_eq!(json(&engine, &["releases", "--json"]), Value::Array(Vec::new()));
}

#[test]
fn a_failed_task_is_shown_with_its_reason_and_its_last_words() {
    let engine = Engine::start();
    let said = ask(&engine, &["ps", "ala_api"]);
    // How long ago it was differs from day to day, and the width of its column with it.
    let filters = vec![(r"(Running|Failed) .*? ago *", "$1 [...] ago "), (r"STATE +E", "STATE E")];
    insta::with_settings!({ filters => filters }, {
        insta::assert_snapshot!(said.out);
    });
}

#[test]
fn tables_are_aligned_and_carry_no_colour() {
    let engine = Engine::start();
    let listed = ask(&engine, &["ls"]);
    assert!(!listed.out.contains('\u{1b}'));
    insta::assert_snapshot!(listed.out);
}

#[test]
fn scripts_get_names_alone_with_q() {
    let engine = Engine::start();
    assert_eq!(ask(&engine, &["ls", "-q"]).out, "ala_api\n");
    assert_eq!(ask(&engine, &["ps", "-q"]).out, "task1\ntask0\n");
    assert_eq!(ask(&engine, &["images", "-q"]).out, "ala-api:v2\n");
}

#[test]
fn secrets_are_not_shown() {
    let engine = Engine::start();
    let said = ask(&engine, &["inspect", "ala_api"]);
    assert!(said.out.contains("JWT_SECRET=(hidden)") && !said.out.contains("hush"), "{}", said.out);
}

#[test]
fn docker_has_no_traffic_figures_and_that_is_said() {
    let engine = Engine::start();
    engine.answer("GET /evenkeel/v1/stats", 404, b"{\"message\":\"page not found\"}".to_vec());
    engine.answer("GET /evenkeel/v1/tasks", 404, b"{\"message\":\"page not found\"}".to_vec());
    let said = ask(&engine, &["stats"]);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("error[not-keels-engine]: "), "{}", said.err);
    let tasks = json(&engine, &["ps", "--json"]);
    assert_eq!(tasks[0]["traffic"], Value::Null);
    assert_eq!(tasks[0]["release"], "v2");
}

#[test]
fn log_lines_are_json_one_by_one() {
    let engine = Engine::start();
    let lines = [frame("task1", "one"), frame("task1", "two")].concat();
    engine.answer("GET /services/svc1/logs", 200, lines);
    let said = ask(&engine, &["logs", "ala_api", "--json"]);
    let lines: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["text"], "two");
    assert_eq!(lines[1]["task"], "ala_api.1");
    assert_eq!(lines[1]["time"], "2026-11-23T10:00:00.000000001Z");
}
