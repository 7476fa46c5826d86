//! Requests through a running ingress: drained, cut, refused, restored. Backends are tiny servers
//! in this process that can be killed.

#[path = "traffic/stage.rs"]
#[expect(dead_code, reason = "the rest is used by other tests")]
mod stage;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ingress::control::{Command, Drain, Event};
use stage::{Backend, Stage};

fn drain(task: &str) -> Command {
    let drain = Drain { task: task.to_owned(), requests_ms: 5000, upgraded_ms: 1000 };
    Command::Drain { drain }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_endpoint_finishes_what_it_has_and_gets_nothing_new() {
    let mut stage = Stage::new().await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    stage.publish(&old).await;
    let slow = tokio::spawn(stage::get(stage.port, "/slow"));
    old.await_request().await;
    stage.publish(&new).await;
    stage.tell(drain("old")).await;
    for _ in 0..50 {
        let answer = stage::get(stage.port, "/").await;
        assert!(answer.ends_with("new"), "{answer}");
    }
    old.release();
    assert!(slow.await.expect("ends").ends_with("old"));
    assert_eq!(stage.next().await, Event::Drained { task: "old".to_owned(), cut: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_dies_right_after_its_drain_loses_nothing() {
    let mut stage = Stage::new().await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    stage.publish(&old).await;
    let port = stage.port;
    let load = tokio::spawn(async move {
        let mut answers = Vec::new();
        for _ in 0..300 {
            answers.push(stage::request(port, "POST", "/", "x").await);
        }
        answers
    });
    old.await_request().await;
    stage.publish(&new).await;
    stage.tell(drain("old")).await;
    assert_eq!(stage.next().await, Event::Drained { task: "old".to_owned(), cut: 0 });
    old.kill();
    let answers = load.await.expect("ends");
    let lost: Vec<&String> = answers.iter().filter(|a| !a.contains(" 200 ")).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let seen = old.seen.load(Ordering::SeqCst) + new.seen.load(Ordering::SeqCst);
    assert_eq!(seen, 300, "each request was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_dying_endpoint_had_is_named_and_never_sent_again() {
    let mut stage = Stage::new().await;
    let (first, second) = (Backend::start("first").await, Backend::start("second").await);
    stage.publish(&first).await;
    let write = tokio::spawn(stage::request(stage.port, "POST", "/slow", "x"));
    let read = tokio::spawn(stage::get(stage.port, "/slow"));
    first.await_request().await;
    first.await_request().await;
    stage.publish(&second).await;
    second.release();
    first.kill();
    let write = write.await.expect("ends");
    assert!(write.contains(" 502 ") && write.contains("x-evenkeel-cut: first"), "{write}");
    assert!(read.await.expect("ends").ends_with("second"), "a read may be asked again");
    assert_eq!(second.seen.load(Ordering::SeqCst), 1, "only the read went there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_repeated_waits_for_nobody_on_probation() {
    let mut stage = Stage::new().await;
    let (proven, fresh) = (Backend::start("proven").await, Backend::start("fresh").await);
    stage.publish(&proven).await;
    stage.publish_on_probation(&fresh, Duration::from_secs(600)).await;
    for _ in 0..20 {
        let answer = stage::request(stage.port, "POST", "/", "x").await;
        assert!(answer.ends_with("proven"), "{answer}");
    }
    let mut reads = Vec::new();
    for _ in 0..20 {
        reads.push(stage::get(stage.port, "/").await);
    }
    assert!(reads.iter().any(|answer| answer.ends_with("fresh")), "reads go to both");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_there_is_a_page_that_says_so() {
    let stage = Stage::new().await;
    let answer = stage::get(stage.port, "/").await;
    assert!(answer.contains(" 503 ") && answer.contains("retry-after"), "{answer}");
    assert!(answer.contains("not available"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_told_on_and_the_answer_has_no_hop_headers() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("echo").await;
    stage.publish(&backend).await;
    let answer = stage::get(stage.port, "/headers").await.to_lowercase();
    assert!(answer.contains("x-forwarded-for: 127.0.0.1"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_lengths_is_refused() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("a").await;
    stage.publish(&backend).await;
    let smuggled =
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nabcd";
    let answer = stage::raw(stage.port, smuggled).await;
    assert!(answer.contains(" 400 "), "{answer}");
    assert_eq!(backend.seen.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_and_the_others_serve() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("a").await;
    stage.publish(&backend).await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    stage.routes(&[stage.port, port]).await;
    match stage.next().await {
        Event::ListenFailed { published_port, reason } => {
            assert_eq!((published_port, reason.as_str()), (port, "address already in use"));
        }
        other => panic!("{other:?}"),
    }
    assert!(stage::get(stage.port, "/").await.ends_with('a'));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_that_starts_anew_serves_from_its_last_table_before_anybody_speaks() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("kept").await;
    stage.publish(&backend).await;
    stage.await_saved("kept").await;
    let stage = stage.again().await;
    let started = tokio::time::Instant::now();
    loop {
        let answer = stage::try_get(stage.port, "/").await.unwrap_or_default();
        if answer.ends_with("kept") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{answer}");
        tokio::task::yield_now().await;
    }
    drop(Arc::new(stage));
}
