//! How a server ends: requests in flight are answered, new ones are not lost, the deadline holds.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use net::{Limits, TcpOptions, serve, tcp_listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    /// A request for `/slow` arrived.
    arrived: Arc<Notify>,
    /// Lets `/slow` be answered.
    release: Arc<Notify>,
    ended: JoinHandle<()>,
}

fn start(limits: Limits) -> Server {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = tcp_listener(any, TcpOptions::default()).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (shutdown, ends) = watch::channel(false);
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (a, r) = (Arc::clone(&arrived), Arc::clone(&release));
    let respond = move |request: Request<Incoming>| {
        let (a, r) = (Arc::clone(&a), Arc::clone(&r));
        async move {
            if request.uri().path() == "/slow" {
                a.notify_one();
                r.notified().await;
            }
            let body = Full::new(Bytes::from_static(b"done")).map_err(|e: Infallible| match e {});
            Response::new(body.boxed())
        }
    };
    let ended = tokio::spawn(serve::<_, _, _, Infallible>(listener, limits, ends, respond));
    Server { address, shutdown, arrived, release, ended }
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("written");
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 1024];
    while !text.ends_with(b"done") {
        let count = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("in time");
        let count = count.expect("read");
        if count == 0 {
            break;
        }
        text.extend(&buffer[..count]);
    }
    String::from_utf8(text).expect("text").to_lowercase()
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_told_to_close() {
    let server = start(Limits { drain: PATIENCE, ..Limits::default() });
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    ask(&mut stream, "/slow").await;
    timeout(PATIENCE, server.arrived.notified()).await.expect("arrives");
    server.shutdown.send_replace(true);
    server.release.notify_one();
    let text = answer(&mut stream).await;
    assert!(text.contains("connection: close") && text.ends_with("done"), "{text}");
    timeout(PATIENCE, server.ended).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn a_kept_connection_gets_its_next_request_answered_within_the_grace() {
    let limits = Limits { drain: PATIENCE, idle_grace: PATIENCE, ..Limits::default() };
    let server = start(limits);
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    ask(&mut stream, "/").await;
    assert!(!answer(&mut stream).await.contains("connection: close"));
    server.shutdown.send_replace(true);
    ask(&mut stream, "/").await;
    assert!(answer(&mut stream).await.contains("connection: close"));
    timeout(PATIENCE, server.ended).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let limits = Limits {
        drain: Duration::from_millis(50),
        idle_grace: Duration::from_millis(10),
        ..Limits::default()
    };
    let server = start(limits);
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    ask(&mut stream, "/slow").await;
    timeout(PATIENCE, server.arrived.notified()).await.expect("arrives");
    server.shutdown.send_replace(true);
    timeout(PATIENCE, server.ended).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn a_full_house_still_ends() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let mut first = TcpStream::connect(server.address).await.expect("connects");
    ask(&mut first, "/").await;
    answer(&mut first).await;
    let _waiting = TcpStream::connect(server.address).await.expect("queued by the system");
    server.shutdown.send_replace(true);
    timeout(PATIENCE, server.ended).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn a_client_that_closes_its_half_still_gets_its_answer() {
    let server = start(Limits::default());
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    ask(&mut stream, "/slow").await;
    stream.shutdown().await.expect("half closed");
    timeout(PATIENCE, server.arrived.notified()).await.expect("arrives");
    server.release.notify_one();
    assert!(answer(&mut stream).await.ends_with("done"));
}
