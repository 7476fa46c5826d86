//! Clients that misbehave cost themselves, and nobody else.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
};
use net::{Accept, Limits, TcpOptions, serve, tcp_listener, unix_listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// `/full` and `/quiet` go on for ever, with and without content. Counts those that are open.
struct Endless {
    is_full: bool,
    open: Arc<AtomicUsize>,
}

impl Endless {
    fn new(is_full: bool, open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self { is_full, open: Arc::clone(open) }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.is_full {
            true => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096]))))),
            false => Poll::Pending,
        }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Server {
    open: Arc<AtomicUsize>,
    _ends: watch::Sender<bool>,
}

fn start(listener: impl Accept + Sync, limits: Limits) -> Server {
    let (sender, ends) = watch::channel(false);
    let open = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&open);
    let respond = move |request: Request<Incoming>| {
        let counted = Arc::clone(&counted);
        async move {
            Response::new(match request.uri().path() {
                "/full" => Endless::new(true, &counted).boxed(),
                "/quiet" => Endless::new(false, &counted).boxed(),
                path => Full::new(Bytes::from(format!("<{path}>"))).boxed(),
            })
        }
    };
    tokio::spawn(serve::<_, _, _, Infallible>(listener, limits, ends, respond));
    Server { open, _ends: sender }
}

fn on_tcp(limits: Limits) -> (Server, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = tcp_listener(any, TcpOptions::default()).expect("a port");
    let address = listener.local_addr().expect("bound");
    (start(listener, limits), address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("connects")
}

async fn say(stream: &mut (impl AsyncWriteExt + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// Everything until the end, or until `last` was read.
async fn hear(stream: &mut (impl AsyncReadExt + Unpin), last: &str) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let reading = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => text.extend(&buffer[..count]),
            }
            if !last.is_empty() && String::from_utf8_lossy(&text).contains(last) {
                return;
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("comes to an end");
    String::from_utf8_lossy(&text).into_owned()
}

async fn count_of(server: &Server, wanted: usize) {
    let counted = async {
        while server.open.load(Ordering::SeqCst) != wanted {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("seen in time");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let (_server, address) = on_tcp(Limits::default());
    let mut stream = connect(address).await;
    say(&mut stream, &(get("/1") + &get("/2") + &get("/3"))).await;
    let text = hear(&mut stream, "</3>").await;
    let at = |part: &str| text.find(part).expect("answered");
    assert!(at("</1>") < at("</2>") && at("</2>") < at("</3>"), "{text}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_server, address) = on_tcp(Limits { head_bytes: 8 << 10, ..Limits::default() });
    let mut stream = connect(address).await;
    say(&mut stream, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(20 << 10))).await;
    let text = hear(&mut stream, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_cut() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let (_server, address) = on_tcp(limits);
    for said in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut stream = connect(address).await;
        say(&mut stream, said).await;
        let text = hear(&mut stream, "").await;
        assert!(!text.contains("200"), "{text}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_given_up() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let (server, address) = on_tcp(limits);
    let mut stream = connect(address).await;
    say(&mut stream, &get("/full")).await;
    count_of(&server, 1).await;
    count_of(&server, 0).await;
}

#[tokio::test]
async fn who_left_is_noticed_also_when_there_is_nothing_to_tell() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let server = start(unix_listener(&path, 0o600).expect("listens"), Limits::default());
    let mut stream = UnixStream::connect(&path).await.expect("connects");
    say(&mut stream, &get("/quiet")).await;
    count_of(&server, 1).await;
    drop(stream);
    count_of(&server, 0).await;
}

#[tokio::test]
async fn who_closes_only_its_own_half_goes_on_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let server = start(unix_listener(&path, 0o600).expect("listens"), Limits::default());
    let mut stream = UnixStream::connect(&path).await.expect("connects");
    say(&mut stream, &get("/full")).await;
    stream.shutdown().await.expect("closed");
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..200 {
        let read = timeout(PATIENCE, stream.read_exact(&mut buffer)).await.expect("in time");
        read.expect("it goes on");
    }
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_silent_make_room_for_those_who_ask() {
    let (_server, address) = on_tcp(Limits { connections: 8, ..Limits::default() });
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect(address).await);
    }
    for _ in 0..20 {
        // One that comes too early for the others to count as silent is told to come again.
        let asked = async {
            loop {
                let mut stream = connect(address).await;
                say(&mut stream, &get("/here")).await;
                if hear(&mut stream, "</here>").await.contains("</here>") {
                    return;
                }
            }
        };
        timeout(PATIENCE, asked).await.expect("answered");
    }
}

#[tokio::test]
async fn when_all_are_being_answered_the_next_is_told_so() {
    let (server, address) = on_tcp(Limits { connections: 2, ..Limits::default() });
    let mut busy = Vec::new();
    for open in 1..=2 {
        let mut stream = connect(address).await;
        say(&mut stream, &get("/quiet")).await;
        count_of(&server, open).await;
        busy.push(stream);
    }
    let mut stream = connect(address).await;
    let text = hear(&mut stream, "").await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").expect("whole");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
    drop(busy.pop());
}

/// A listener that is out of descriptors for a while.
struct Exhausted {
    listener: TcpListener,
    failures: AtomicUsize,
}

impl Accept for Exhausted {
    type Stream = TcpStream;

    async fn accept_one(&self) -> io::Result<TcpStream> {
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(24));
        }
        self.listener.accept_one().await
    }

    fn descriptor(stream: &TcpStream) -> BorrowedFd<'_> {
        stream.as_fd()
    }
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = tcp_listener(any, TcpOptions::default()).expect("a port");
    let address = listener.local_addr().expect("bound");
    let exhausted = Exhausted { listener, failures: AtomicUsize::new(5) };
    let _server = start(exhausted, Limits::default());
    let mut stream = connect(address).await;
    say(&mut stream, &get("/after")).await;
    assert!(hear(&mut stream, "</after>").await.contains("</after>"));
}
