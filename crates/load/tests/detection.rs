//! Against a server that misbehaves in one way at a time, the report names that way and no other.

#[path = "toy/server.rs"]
mod toy;

use std::future::pending;
use std::sync::atomic::Ordering;
use std::time::Duration;

use load::Report;
use toy::{Toy, Vice};

async fn report(toy: &Toy) -> Report {
    let report = load::run(toy.plan(), pending()).await.unwrap();
    assert!(report.complete);
    assert_eq!(report.requests, 400, "every request that was due has an outcome");
    assert_eq!(report.requests, report.ok + report.failed + report.cut_requests);
    assert_eq!(report.in_flight, 0);
    report
}

/// The one cause all failures have, and how many there are.
fn only_cause(report: &Report) -> (&str, u64) {
    let causes: Vec<_> = report.failed_by_cause.iter().collect();
    assert_eq!(causes.len(), 1, "{:?}", report.failed_by_cause);
    (causes[0].0, *causes[0].1)
}

#[tokio::test]
async fn a_well_behaved_server_gets_a_clean_report() {
    let toy = Toy::start(Vice::None, "/").await;
    let report = report(&toy).await;
    assert!(report.is_clean(), "{:?}", report.failures);
    assert_eq!(report.ok, 400);
    assert_eq!(report.writes.acknowledged_writes, toy.posts.load(Ordering::Relaxed));
    assert!((190.0..=201.0).contains(&report.rate_achieved), "{}", report.rate_achieved);
    assert_eq!(report.by_kind["slow"].requests, 10);
    // 32 kept connections at most, a fresh one for every other request, one for the login.
    let connections = toy.connections.load(Ordering::Relaxed);
    assert!((201..=240).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_reset_is_a_failure_and_its_write_is_unacknowledged() {
    let toy = Toy::start(Vice::Reset, "/api/treatments").await;
    let report = report(&toy).await;
    let (cause, failed) = only_cause(&report);
    assert_eq!(cause, "broken");
    assert!(failed > 0 && failed == report.failed);
    let posts = report.failures.iter().filter(|failure| failure.kind == "create").count() as u64;
    assert!(posts > 0);
    assert_eq!(report.writes.unacknowledged_writes, posts);
    assert_eq!(
        report.writes.acknowledged_writes + posts,
        toy.posts.load(Ordering::Relaxed),
        "nothing was sent a second time"
    );
}

#[tokio::test]
async fn half_a_body_is_a_failure() {
    let toy = Toy::start(Vice::HalfABody, "/api/health").await;
    let report = report(&toy).await;
    assert_eq!(only_cause(&report).0, "broken");
    assert!(report.failures.iter().all(|failure| failure.kind == "health"));
}

#[tokio::test]
async fn an_error_status_is_a_failure_with_its_number() {
    let toy = Toy::start(Vice::Fail, "/api/health").await;
    let report = report(&toy).await;
    assert_eq!(only_cause(&report).0, "status 500");
}

#[tokio::test]
async fn somebody_elses_answer_is_a_failure() {
    let toy = Toy::start(Vice::MixUp, "/api/treatments").await;
    let report = report(&toy).await;
    assert_eq!(only_cause(&report).0, "content");
}

#[tokio::test]
async fn silence_is_a_failure_after_the_timeout() {
    let toy = Toy::start(Vice::Hang, "/api/treatments").await;
    let report = report(&toy).await;
    assert_eq!(only_cause(&report).0, "timeout");
    assert!(report.failures.iter().all(|failure| failure.after_ms >= 1000.0));
}

#[tokio::test]
async fn a_cut_named_by_the_proxy_is_told_apart_with_its_task_and_request() {
    let toy = Toy::start(Vice::Cut, "/api/treatments").await;
    let report = report(&toy).await;
    assert_eq!(report.failed, 0);
    assert!(report.cut_requests > 0 && !report.is_clean());
    let is_named =
        |cut: &load::report::CutRequest| cut.task == "task1" && cut.request_id == "proxy-7";
    assert!(report.cut.iter().all(is_named));
    let posts = report.cut.iter().filter(|cut| cut.kind == "create").count() as u64;
    assert_eq!(report.writes.unacknowledged_writes, posts);
}

#[tokio::test]
async fn a_kept_connection_closed_while_idle_is_replaced_without_a_failure() {
    let toy = Toy::start(Vice::CloseAfterwards, "/api/").await;
    let report = report(&toy).await;
    assert!(report.is_clean(), "{:?}", report.failures);
}

#[tokio::test]
async fn a_connection_closed_at_once_is_a_failure() {
    let toy = Toy::start(Vice::CloseAtOnce, "/").await;
    let report = report(&toy).await;
    assert!(report.failed > 0);
    let is_about_connections = |cause: &String| cause == "connect" || cause == "broken";
    assert!(report.failed_by_cause.keys().all(is_about_connections));
}

#[tokio::test]
async fn nothing_listening_is_an_error_before_the_run() {
    let toy = Toy::start(Vice::None, "/").await;
    let mut plan = toy.plan();
    plan.api = vec![load::Target::parse("http://127.0.0.1:1").unwrap()];
    let error = load::run(plan, pending()).await.unwrap_err().to_string();
    assert!(error.contains("log in at http://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn websockets_live_their_life_and_end_cleanly() {
    let toy = Toy::start(Vice::None, "/").await;
    let mut plan = toy.plan();
    plan.websockets = 4;
    plan.websocket_life = Duration::from_millis(1500);
    let report = load::run(plan, pending()).await.unwrap();
    assert_eq!((report.websockets_cut, report.websockets_open), (0, 0));
    assert!(report.websockets >= 4);
    assert_eq!(report.websocket_messages, 2 * report.websockets);
}

#[tokio::test]
async fn a_websocket_closed_before_its_time_is_cut_and_names_its_replica() {
    let toy = Toy::start(Vice::CutWebSockets, "/").await;
    let mut plan = toy.plan();
    plan.websockets = 2;
    plan.websocket_life = Duration::from_millis(2500);
    let report = load::run(plan, pending()).await.unwrap();
    assert!(report.websockets_cut >= 2);
    assert!(!report.is_clean());
    assert_eq!(report.websocket_cuts[0].instance.as_deref(), Some("toy-1"));
}

#[tokio::test]
async fn a_server_that_stalls_shows_in_the_latency_of_every_request_due_meanwhile() {
    // Slow requests hang; the others must not wait for them,
    // and the schedule goes on all the while.
    let toy = Toy::start(Vice::Hang, "/api/slow").await;
    let mut plan = toy.plan();
    plan.slow_rate = 50.0;
    let report = load::run(plan, pending()).await.unwrap();
    assert_eq!(report.requests, 400);
    assert!(report.by_kind["slow"].latency.max_ms >= 1000.0);
    assert!(report.by_kind["health"].latency.p50_ms < 500.0);
}

#[tokio::test]
async fn a_snapshot_is_a_whole_report_that_says_it_is_not_final() {
    let toy = Toy::start(Vice::None, "/").await;
    let folder = tempfile::tempdir().unwrap();
    let mut plan = toy.plan();
    plan.snapshot = Some(folder.path().join("snapshot.json"));
    load::run(plan.clone(), pending()).await.unwrap();
    let text = std::fs::read_to_string(plan.snapshot.unwrap()).unwrap();
    let snapshot: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(snapshot["complete"], false);
    assert!(snapshot["requests"].as_u64().unwrap() > 0);
    assert!(snapshot["lost_writes"].is_null());
}

#[tokio::test]
async fn a_run_ends_when_told_to_and_finishes_what_is_in_flight() {
    let toy = Toy::start(Vice::None, "/").await;
    let mut plan = toy.plan();
    plan.duration = None;
    let posts = toy.posts.clone();
    let stop = async move {
        let mut often = tokio::time::interval(Duration::from_millis(10));
        while posts.load(Ordering::Relaxed) < 20 {
            often.tick().await;
        }
    };
    let report = load::run(plan, stop).await.unwrap();
    assert!(report.is_clean());
    assert_eq!(report.writes.acknowledged_writes, toy.posts.load(Ordering::Relaxed));
}
