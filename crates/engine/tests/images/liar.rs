//! A registry on a loopback port that answers as the test wants: wrongly, late, or not at all.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    image::name::Name,
    registry::{Credential, Error, Options, Patience, Pulled, Registry, Teller},
};
use serde_json::json;

use super::make::{Place, config, file, gzip, layer, manifest, sha256};

/// A request as it came: its first line, then its headers in lower case.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub head: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&start))
    }
}

#[derive(Clone, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Promises more than it sends.
    Cut {
        promised: usize,
        body: Vec<u8>,
    },
    /// Takes the request and never answers.
    Stall,
}

pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply::Answer { status: 200, headers: Vec::new(), body: body.into() }
}

pub fn status(status: u16, headers: Vec<(&'static str, String)>) -> Reply {
    Reply::Answer { status, headers, body: Vec::new() }
}

pub struct Liar {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Liar {
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for connection in listener.incoming().flatten() {
                held.extend(serve(connection, &log, &*answer));
            }
        });
        Self { port, seen }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the log").clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

/// One request per connection; gives back a connection that is to stay open.
fn serve(
    mut connection: TcpStream,
    log: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(&Seen) -> Reply,
) -> Option<TcpStream> {
    connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut head = Vec::new();
    let mut byte = [0_u8];
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        // TLS is not spoken here.
        if head[0] == 0x16 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let path = text.split(' ').nth(1).unwrap_or("").to_owned();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    });
    let seen = Seen { path, head: lines.collect() };
    log.lock().expect("the log").push(seen.clone());
    match answer(&seen) {
        Reply::Answer { status, headers, body } => {
            let mut text = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            let _ =
                connection.write_all(text.as_bytes()).and_then(|()| connection.write_all(&body));
            None
        }
        Reply::Cut { promised, body } => {
            let head = format!("HTTP/1.1 200 x\r\ncontent-length: {promised}\r\n\r\n");
            let _ =
                connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
            None
        }
        Reply::Stall => Some(connection),
    }
}

/// An image as a registry has it.
#[derive(Clone)]
pub struct Offer {
    pub tar: Vec<u8>,
    pub blob: Vec<u8>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Offer {
    pub fn new() -> Self {
        // Not compressible, so that a part of it is a part.
        let noise: String = (0..4000_u32)
            .map(|at| {
                char::from(b'a' + u8::try_from(at.wrapping_mul(2_654_435_761) >> 28).unwrap_or(0))
            })
            .collect();
        let tar = layer(&[file("app", &noise)]);
        let config = config(&[sha256(&tar)]);
        Self::of(tar, config)
    }

    pub fn of(tar: Vec<u8>, config: Vec<u8>) -> Self {
        let blob = gzip(&tar);
        let manifest = manifest(&config, std::slice::from_ref(&blob)).to_string().into_bytes();
        Self { tar, blob, config, manifest }
    }

    /// An honest answer.
    pub fn answer(&self, seen: &Seen) -> Reply {
        match seen.path.as_str() {
            "/v2/" => ok("{}"),
            path if path.contains("/manifests/") => ok(self.manifest.clone()),
            path if path.ends_with(&sha256(&self.config)) => ok(self.config.clone()),
            path if path.ends_with(&sha256(&self.blob)) => ok(self.blob.clone()),
            _ => status(404, Vec::new()),
        }
    }

    pub fn is_layer(&self, seen: &Seen) -> bool {
        seen.path.ends_with(&sha256(&self.blob))
    }
}

pub fn registry(place: &Place) -> Registry {
    let millis = Duration::from_millis;
    let patience = Patience {
        connect: Duration::from_secs(5),
        answer: millis(700),
        stall: millis(700),
        backoff: millis(2),
        whole: Duration::from_secs(20),
    };
    let options = Options { uses_hub: false, patience };
    Registry::new(place.folder.path().join("state"), Arc::clone(&place.store), options)
}

pub fn login() -> Credential {
    let json = json!({ "username": "alice", "password": "pw-of-alice" });
    Credential::read(json.to_string().as_bytes()).expect("a login")
}

/// Pulls `app:1` from a liar, or what `reference` (`@sha256:…`) says.
pub async fn pull(place: &Place, liar: &Liar, reference: &str) -> Result<Pulled, Error> {
    let name = Name::parse(&format!("{}/app{reference}", liar.host())).expect("a name");
    registry(place).pull(&name, &login(), &Teller::default()).await
}
