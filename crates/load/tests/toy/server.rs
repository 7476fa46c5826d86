//! A toy of the API that misbehaves on demand, byte by byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use load::{Plan, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What the toy does to the requests it picks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vice {
    /// None: answers as it should.
    None,
    /// Reads the request, then resets the connection.
    Reset,
    /// Announces more than it sends, then closes.
    HalfABody,
    /// Answers 500.
    Fail,
    /// Answers with somebody else's treatment.
    MixUp,
    /// Reads the request and says nothing.
    Hang,
    /// Answers as a proxy whose backend died.
    Cut,
    /// Answers as it should, then closes the connection without having announced it.
    CloseAfterwards,
    /// Closes connections as soon as they are accepted.
    CloseAtOnce,
    /// Closes WebSockets after their second message.
    CutWebSockets,
}

pub struct Toy {
    pub target: Target,
    /// Requests for treatments that were read, whatever became of them.
    pub posts: Arc<AtomicU64>,
    pub connections: Arc<AtomicU64>,
}

/// Which request, as far as the toy cares.
struct Asked {
    method: String,
    path: String,
    body: Vec<u8>,
    key: Option<String>,
}

impl Toy {
    /// Every seventh request for `path` gets the vice.
    pub async fn start(vice: Vice, path: &'static str) -> Toy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let toy = Toy {
            target: Target::parse(&url).unwrap(),
            posts: Arc::default(),
            connections: Arc::default(),
        };
        let (posts, connections) = (toy.posts.clone(), toy.connections.clone());
        let picked = Arc::new(AtomicU64::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                // The first connection is the login's.
                if vice == Vice::CloseAtOnce && number > 0 && number.is_multiple_of(10) {
                    continue;
                }
                let picks = Picks { vice, path, picked: picked.clone(), posts: posts.clone() };
                tokio::spawn(converse(stream, picks));
            }
        });
        toy
    }

    pub fn plan(&self) -> Plan {
        let mut plan = Plan::new(vec![self.target.clone()], 200);
        plan.duration = Some(Duration::from_secs(2));
        plan.websockets = 0;
        plan.slow_rate = 5.0;
        plan.slow = Duration::from_millis(100);
        plan.timeout = Duration::from_secs(1);
        plan
    }
}

struct Picks {
    vice: Vice,
    path: &'static str,
    picked: Arc<AtomicU64>,
    posts: Arc<AtomicU64>,
}

impl Picks {
    fn vice(&self, asked: &Asked) -> Vice {
        let is_meant = asked.path.starts_with(self.path);
        let is_picked = is_meant && self.picked.fetch_add(1, Ordering::Relaxed) % 7 == 6;
        if is_picked { self.vice } else { Vice::None }
    }
}

async fn converse(mut stream: TcpStream, picks: Picks) {
    while let Some(asked) = read(&mut stream).await {
        if asked.method == "POST" && asked.path == "/api/treatments" {
            picks.posts.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(key) = &asked.key {
            return speak(stream, key, picks.vice == Vice::CutWebSockets).await;
        }
        let (status, body) = answer(&asked);
        let vice = picks.vice(&asked);
        let sent = match vice {
            Vice::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Vice::Hang => std::future::pending().await,
            Vice::HalfABody => respond(&mut stream, status, "", body.len() + 10, &body).await,
            Vice::Fail => respond(&mut stream, 500, "", 0, "").await,
            Vice::MixUp => {
                let other = r#"{"id":"00000000-0000-4000-8000-000000000000"}"#;
                respond(&mut stream, status, "", other.len(), other).await
            }
            Vice::Cut => {
                let header = "X-Evenkeel-Cut: task1\r\nX-Request-Id: proxy-7\r\n";
                respond(&mut stream, 502, header, 0, "").await
            }
            Vice::None | Vice::CloseAfterwards | Vice::CloseAtOnce | Vice::CutWebSockets => {
                respond(&mut stream, status, "", body.len(), &body).await
            }
        };
        if sent.is_err() || matches!(vice, Vice::HalfABody | Vice::CloseAfterwards) {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut text = Vec::new();
    let end = loop {
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(text[..end].to_vec()).ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = text.split_off(end);
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Asked { method, path, body, key: header("sec-websocket-key") })
}

fn answer(asked: &Asked) -> (u16, String) {
    let path = asked.path.split('?').next().unwrap();
    match (asked.method.as_str(), path) {
        ("POST", "/api/login") => (200, r#"{"token":"t"}"#.to_owned()),
        ("GET", "/api/health") => (200, r#"{"status":"ok"}"#.to_owned()),
        ("GET", "/api/slow") => {
            let tag = asked.path.split("tag=").nth(1).unwrap();
            (200, format!(r#"{{"tag":"{tag}"}}"#))
        }
        ("GET", "/api/treatments") => (200, "[]".to_owned()),
        ("POST", "/api/treatments") => (201, String::from_utf8(asked.body.clone()).unwrap()),
        ("GET", path) => (200, format!(r#"{{"id":"{}"}}"#, path.rsplit('/').next().unwrap())),
        _ => (404, String::new()),
    }
}

async fn respond(
    stream: &mut TcpStream,
    status: u16,
    headers: &str,
    length: usize,
    body: &str,
) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status} Toy\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(text.as_bytes()).await
}

async fn speak(mut stream: TcpStream, key: &str, cuts: bool) {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Toy\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         X-Instance: toy-1\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut messages = 0;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            messages += 1;
            if socket.send(message).await.is_err() || (cuts && messages == 2) {
                return;
            }
        }
    }
}
