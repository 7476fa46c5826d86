//! Endpoints that stop to accept, answer badly, fall silent, or move, while nobody tells the ingress.

#[path = "traffic/stage.rs"]
#[expect(dead_code, reason = "the rest is used by other tests")]
mod stage;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ingress::{
    control::{Command, Event},
    endpoint::Description,
    table::{Protocol, Route},
};
use socket2::{Domain, Socket, Type};
use stage::{Backend, Stage, about};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn publish(stage: &mut Stage, endpoint: Description) {
    let task = endpoint.task.clone();
    stage.tell(Command::Publish { endpoint }).await;
    assert_eq!(stage.next().await, Event::Published { task });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_endpoint_that_refuses_is_suspect_and_one_that_accepts_again_is_ready() {
    let mut stage = Stage::new().await;
    let backend = Backend::start("a").await;
    stage.publish(&backend).await;
    backend.kill();
    stage.await_state("a", "suspect").await;
    let again = Backend::start_at("a", backend.port).await;
    stage.await_state("a", "ready").await;
    assert!(stage::get(stage.port, "/").await.ends_with('a'));
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_answered_badly_keeps_an_endpoint_out_and_takes_it_out() {
    let mut stage = Stage::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (is_well, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
    let (wellness, asks) = (Arc::clone(&is_well), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (wellness, asks) = (Arc::clone(&wellness), Arc::clone(&asks));
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                assert!(head.starts_with(b"GET /health?deep=1 HTTP/1.1\r\n"));
                let status = if wellness.load(Ordering::SeqCst) { "204 Well" } else { "503 Ill" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                asks.add_permits(1);
            });
        }
    });
    let probe = Some("/health?deep=1".to_owned());
    let endpoint = Description { probe, ..about("a", port) };
    stage.tell(Command::Publish { endpoint }).await;
    let asked = timeout(PATIENCE, asked.acquire_many(3)).await.expect("in time");
    asked.expect("open").forget();
    assert!(stage.is_quiet(), "it is not published");
    assert_eq!(stage.shown("a").await["state"], "joining");
    is_well.store(true, Ordering::SeqCst);
    assert_eq!(stage.next().await, Event::Published { task: "a".to_owned() });
    is_well.store(false, Ordering::SeqCst);
    stage.await_state("a", "suspect").await;
    is_well.store(true, Ordering::SeqCst);
    stage.await_state("a", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_silent_endpoint_has_in_hands_is_cut_and_asked_elsewhere_where_that_is_safe() {
    let mut stage = Stage::new().await;
    // The kernel completes a connection or two for it, and is then as silent as a lost node.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    socket.listen(0).expect("listens");
    socket.set_nonblocking(true).expect("set");
    let listener = TcpListener::from_std(socket.into()).expect("listens");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(Semaphore::new(0));
    // Accepts until two requests have come, then nothing any more.
    let accepting = tokio::spawn(async move {
        let mut all = Vec::new();
        while asked.available_permits() < 2 {
            let Ok(Ok((mut stream, _))) =
                timeout(Duration::from_millis(5), listener.accept()).await
            else {
                continue;
            };
            let asked = Arc::clone(&asked);
            all.push(tokio::spawn(async move {
                if stream.read_u8().await.is_ok() {
                    asked.add_permits(1);
                    // Holds the request, and never answers.
                    std::future::pending::<()>().await;
                }
            }));
        }
        (listener, all)
    });
    publish(&mut stage, about("silent", port)).await;
    let read = tokio::spawn(stage::get(stage.port, "/"));
    let write = tokio::spawn(stage::request(stage.port, "POST", "/", "x"));
    let held = timeout(PATIENCE, accepting).await.expect("both came").expect("no panic");
    let other = Backend::start("other").await;
    stage.publish(&other).await;
    let since = Instant::now();
    stage.await_state("silent", "suspect").await;
    let write = write.await.expect("ends");
    assert!(write.contains(" 502 ") && write.contains("x-evenkeel-cut: silent"), "{write}");
    assert!(read.await.expect("ends").ends_with("other"));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    assert_eq!(other.seen.load(Ordering::SeqCst), 1, "the write was not sent again");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_moved_is_served_at_its_new_address_and_its_counts_stay() {
    let mut stage = Stage::new().await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    publish(&mut stage, about("t", old.port)).await;
    let slow = tokio::spawn(stage::request(stage.port, "POST", "/slow", "x"));
    old.await_request().await;
    publish(&mut stage, about("t", new.port)).await;
    for _ in 0..20 {
        assert!(stage::get(stage.port, "/").await.ends_with("new"));
    }
    old.release();
    assert!(slow.await.expect("ends").ends_with("old"), "what it had goes on");
    let gone = timeout(PATIENCE, async {
        while stage.endpoints("t").await != 1 {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("the old one goes");
    assert!(stage.is_quiet(), "nobody is told: the task is not drained");
    assert_eq!(stage.requests().await, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_connection_begins_with_who_the_client_is_where_that_is_wanted() {
    let mut stage = Stage::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (told, tells) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut text = vec![0; 28 + 4];
            // A look at its health says nothing.
            if stream.read_exact(&mut text).await.is_ok() {
                let _ = stream.write_all(b"pong").await;
                let _ = told.send(text);
                return;
            }
        }
    });
    let published_port = stage.port;
    let route = |protocol| Route {
        published_port,
        target_port: 80,
        protocol,
        service: "s".to_owned(),
        address: None,
    };
    publish(&mut stage, about("a", port)).await;
    stage.tell(Command::Routes { routes: vec![route(Protocol::TcpProxy)] }).await;
    // Commands are applied in order: once this is answered, the one before has been.
    publish(&mut stage, about("a", port)).await;
    let mut client =
        tokio::net::TcpStream::connect(("127.0.0.1", published_port)).await.expect("in");
    let ours = client.local_addr().expect("an address").port();
    client.write_all(b"ping").await.expect("written");
    let text = timeout(PATIENCE, tells).await.expect("in time").expect("told");
    assert_eq!(&text[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(&text[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(text[24..26], ours.to_be_bytes());
    assert_eq!(text[26..28], published_port.to_be_bytes());
    assert_eq!(&text[28..], b"ping");
    let mut back = [0; 4];
    timeout(PATIENCE, client.read_exact(&mut back)).await.expect("in time").expect("answered");
    assert_eq!(&back, b"pong");
}
