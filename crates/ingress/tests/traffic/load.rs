//! Clients of every kind that go on and accept no failure.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Clients that go on until they are told to end.
pub struct Load {
    clients: JoinSet<Result<(), String>>,
    ends: Arc<AtomicBool>,
    /// Answers that came.
    answers: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(port: u16) -> Self {
        let mut load =
            Self { clients: JoinSet::new(), ends: Arc::default(), answers: Arc::default() };
        for number in 0..6 {
            let (ends, answers) = (Arc::clone(&load.ends), Arc::clone(&load.answers));
            load.clients.spawn(async move {
                let mut kept = None;
                while !ends.load(Ordering::SeqCst) {
                    let (method, keeps) = (["GET", "POST"][number % 2], number < 4);
                    let asked = ask(port, method, keeps, &mut kept).await;
                    asked.map_err(|error| format!("{method}, kept {keeps}: {error}"))?;
                    answers.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            });
        }
        load
    }

    /// Waits for some more answers.
    pub async fn goes_on(&self) {
        let from = self.answers.load(Ordering::SeqCst);
        let more = timeout(PATIENCE, async {
            while self.answers.load(Ordering::SeqCst) < from + 200 {
                assert!(self.clients.len() == 6, "the clients go on");
                tokio::task::yield_now().await;
            }
        });
        assert!(more.await.is_ok(), "{} answers", self.answers.load(Ordering::SeqCst));
    }

    pub async fn end(mut self) {
        self.ends.store(true, Ordering::SeqCst);
        while let Some(client) = self.clients.join_next().await {
            assert_eq!(client.expect("no panic"), Ok(()));
        }
    }
}

/// One request over the connection that was kept, or over a new one.
async fn ask(
    port: u16,
    method: &str,
    keeps: bool,
    kept: &mut Option<BufReader<TcpStream>>,
) -> io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?),
    };
    let connection = if keeps { "keep-alive" } else { "close" };
    let text = format!(
        "{method} / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::Error::other(format!("ended after {head:?}")));
        }
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|text| text.lines().next());
    let mut body = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    if !head.contains(" 200 ") {
        return Err(io::Error::other(head));
    }
    if keeps && !head.contains("connection: close") {
        *kept = Some(stream);
    }
    Ok(())
}

/// A connection on which everything comes back.
pub async fn echo(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let text = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("switched"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

pub async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.expect("written");
    let mut back = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("comes back");
    assert_eq!(&back, b"hello");
}
