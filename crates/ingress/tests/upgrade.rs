//! One ingress takes over from another while clients of every kind are at it: nobody is refused, and
//! nobody is cut.

#[path = "traffic/load.rs"]
mod load;
#[path = "traffic/stage.rs"]
#[expect(dead_code, reason = "the rest is used by other tests")]
mod stage;

use std::time::Duration;

use ingress::control::{Command, Drain, Event};
use load::{Load, echo, echoes};
use stage::{Backend, Stage};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

async fn ends(process: JoinHandle<Result<(), ingress::Error>>) {
    let ended = timeout(PATIENCE, process).await.expect("it ends").expect("no panic");
    ended.expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_or_cut_while_one_successor_after_the_other_takes_over() {
    let mut stage = Stage::new().await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    stage.publish(&one).await;
    stage.publish(&two).await;
    let load = Load::start(stage.port);
    let (mut old, mut slow, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
    for workers in [3, 1, 4] {
        load.goes_on().await;
        slow.push(tokio::spawn(stage::request(stage.port, "POST", "/slow", "x")));
        sockets.push(echo(stage.port).await);
        old.push(stage.upgrade(workers, HOUR).await);
        for socket in &mut sockets {
            echoes(socket).await;
        }
    }
    load.goes_on().await;
    load.end().await;
    assert!(old.iter().all(|process| !process.is_finished()), "they have something in hands");
    one.release();
    two.release();
    for answer in slow {
        let answer = answer.await.expect("ends");
        assert!(answer.contains(" 200 "), "{answer}");
    }
    for socket in &mut sockets {
        echoes(socket).await;
    }
    drop(sockets);
    for process in old {
        ends(process).await;
    }
    assert!(stage::get(stage.port, "/").await.contains(" 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_the_processes_before_have_in_hands() {
    let mut stage = Stage::new().await;
    let (task, other) = (Backend::start("task").await, Backend::start("other").await);
    stage.publish(&task).await;
    let slow = tokio::spawn(stage::request(stage.port, "POST", "/slow", "x"));
    task.await_request().await;
    let old = [stage.upgrade(2, HOUR).await, stage.upgrade(2, HOUR).await];
    stage.publish(&other).await;
    let drain = Drain { task: "task".to_owned(), requests_ms: 20_000, upgraded_ms: 20_000 };
    stage.tell(Command::Drain { drain }).await;
    // Of its own, the last process has nothing of the task: it forgets it at once.
    stage.await_state("task", "").await;
    for _ in 0..50 {
        assert!(stage::get(stage.port, "/").await.ends_with("other"));
    }
    assert!(stage.is_quiet(), "a request is still in the hands of the first process");
    task.release();
    assert!(slow.await.expect("ends").ends_with("task"));
    assert_eq!(stage.next().await, Event::Drained { task: "task".to_owned(), cut: 0 });
    for process in old {
        ends(process).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_gives_up_changes_nothing() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("a").await;
    stage.publish(&backend).await;
    let mut successor = BufReader::new(UnixStream::connect(stage.socket()).await.expect("there"));
    successor.write_all(b"{\"do\":\"hand_over\",\"version\":\"9\"}\n").await.expect("written");
    let mut line = String::new();
    while !line.contains("\"handed\"") {
        line.clear();
        assert_ne!(successor.read_line(&mut line).await.expect("read"), 0, "it answers");
    }
    drop(successor);
    let next = Backend::start("b").await;
    stage.publish(&next).await;
    let drain = Drain { task: "a".to_owned(), requests_ms: 5000, upgraded_ms: 1000 };
    stage.tell(Command::Drain { drain }).await;
    assert_eq!(stage.next().await, Event::Drained { task: "a".to_owned(), cut: 0 });
    for _ in 0..20 {
        assert!(stage::get(stage.port, "/").await.ends_with('b'));
    }
    // The next one that tries succeeds.
    let old = stage.upgrade(2, HOUR).await;
    assert!(stage::get(stage.port, "/").await.ends_with('b'));
    ends(old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_too_long_is_cut_when_the_time_to_leave_is_over() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("a").await;
    stage.publish(&backend).await;
    let mut socket = echo(stage.port).await;
    let old = stage.upgrade(2, Duration::from_millis(50)).await;
    // In its own process the end of this cuts the connection.
    ends(old).await;
    drop(backend);
    let _ = socket.write_all(b"x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_without_anybody_to_succeed_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = ingress::Config {
        socket: folder.path().join("nobody"),
        saved: folder.path().join("table.json"),
        address: [127, 0, 0, 1].into(),
        workers: 1,
        takes_over: Some(HOUR),
        node: None,
    };
    let (_shutdown, ends) = tokio::sync::watch::channel(false);
    let error = ingress::run(config, ends).await.expect_err("nobody is there").to_string();
    assert!(error.starts_with("no ingress listens on `"), "{error}");
}
