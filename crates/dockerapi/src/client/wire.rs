//! One request: connect, send, read the answer, each with its deadline.

use std::{
    convert::Infallible,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request,
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    Address, Client, ClientError,
    io::Io,
    ssh::{self, Pipe, Refusal, Ssh},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest answer that is taken as a whole: thousands of services.
const ANSWER_LIMIT: usize = 256 << 20;
/// How much of a file is in memory at a time.
const PIECE: usize = 256 << 10;
/// Connections that are kept for the next request.
const KEPT: usize = 2;

type Content = UnsyncBoxBody<Bytes, io::Error>;
/// An open connection that takes one request after the other.
pub(super) type Line = http1::SendRequest<Content>;

/// Connections that cost a login, between two requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<Line>>>);

impl Kept {
    fn take(&self) -> Option<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, line: Line) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(line);
        }
    }
}

/// A body and its `Content-Type`.
pub(super) struct Body {
    kind: Option<&'static str>,
    /// `X-Registry-Auth`.
    auth: Option<String>,
    content: Content,
}

impl Body {
    fn new(kind: Option<&'static str>, content: Content) -> Self {
        Self { kind, auth: None, content }
    }

    /// In the name of somebody at a registry.
    pub(super) fn by(mut self, auth: &str) -> Self {
        self.auth = Some(auth.to_owned());
        self
    }
}

fn sure(never: Infallible) -> io::Error {
    match never {}
}

pub(super) fn nothing() -> Body {
    Body::new(None, Empty::new().map_err(sure).boxed_unsync())
}

pub(super) fn json(value: &Value) -> Body {
    let bytes = Bytes::from(value.to_string());
    Body::new(Some("application/json"), Full::new(bytes).map_err(sure).boxed_unsync())
}

pub(super) fn archive(bytes: Bytes) -> Body {
    Body::new(Some("application/x-tar"), Full::new(bytes).map_err(sure).boxed_unsync())
}

pub(super) async fn file(path: &Path) -> Result<Body, ClientError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|source| ClientError::File { path: path.to_owned(), source })?;
    let pieces = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut piece = Vec::with_capacity(PIECE);
        let count = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok((count > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
    });
    Ok(Body::new(Some("application/x-tar"), StreamBody::new(pieces).boxed_unsync()))
}

impl Client {
    /// The whole answer, or what the engine says is wrong.
    pub(super) async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Body,
        within: Duration,
    ) -> Result<(http::response::Parts, Bytes), ClientError> {
        let (head, body, line) = self.head(method, path, body, within).await?;
        let collected = timeout(within, self.collect(path, body)).await;
        let body = collected.unwrap_or_else(|_| Err(self.timed_out(path, within)))?;
        self.keep(line);
        Ok((head, body))
    }

    /// The answer's head and the body to come, or what the engine says is wrong.
    pub(super) async fn head(
        &self,
        method: Method,
        path: &str,
        body: Body,
        within: Duration,
    ) -> Result<(http::response::Parts, Incoming, Line), ClientError> {
        let (response, line) = self.send(method, path, body, within).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok((head, body, line));
        }
        let collected = timeout(within, self.collect(path, body)).await;
        let text = collected.unwrap_or_else(|_| Err(self.timed_out(path, within)))?;
        self.keep(line);
        Err(ClientError::Api { status: head.status, message: message(head.status, &text) })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        within: Duration,
    ) -> Result<(hyper::Response<Incoming>, Line), ClientError> {
        let mut request = self.request(method, path, body)?;
        loop {
            let (mut line, is_fresh) = self.line().await?;
            match timeout(within, line.try_send_request(request)).await {
                Err(_) => return Err(self.timed_out(path, within)),
                Ok(Ok(response)) => return Ok((response, line)),
                Ok(Err(mut failed)) => match failed.take_message() {
                    // A kept connection had ended: nothing of the request was sent.
                    Some(unsent) if !is_fresh => request = unsent,
                    Some(_) => return Err(self.unreachable(failed.error().to_string())),
                    None => return Err(self.cut(path, failed.error())),
                },
            }
        }
    }

    /// The version before a path of Docker's; ours have none.
    pub(super) fn own_prefix(&self, path: &str) -> &str {
        if path.starts_with("/evenkeel/") { "" } else { self.prefix.as_str() }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Request<Content>, ClientError> {
        let prefix = self.own_prefix(path);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header("Host", "engine");
        if let Some(kind) = body.kind {
            request = request.header("Content-Type", kind);
        }
        if let Some(auth) = body.auth {
            request = request.header("X-Registry-Auth", auth);
        }
        request.body(body.content).map_err(|error| ClientError::Protocol {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// A connection for a request, and whether it is a new one.
    async fn line(&self) -> Result<(Line, bool), ClientError> {
        while let Some(mut line) = self.kept.take() {
            if let Ok(Ok(())) = timeout(CONNECT, line.ready()).await {
                return Ok((line, false));
            }
        }
        let line = match &self.address {
            Address::Ssh(ssh) => self.login(ssh).await?,
            Address::Unix(_) | Address::Tcp(_) | Address::Tls(..) => {
                let io = self.connection().await?;
                handshake(io).await.map_err(|error| self.unreachable(error.to_string()))?
            }
        };
        Ok((line, true))
    }

    fn keep(&self, line: Line) {
        match &self.address {
            Address::Ssh(_) => self.kept.put(line),
            Address::Unix(_) | Address::Tcp(_) | Address::Tls(..) => {}
        }
    }

    /// A login, and a word with the engine: from here on what fails was sent.
    async fn login(&self, ssh: &Ssh) -> Result<Line, ClientError> {
        let mut refusals: Vec<Refusal> = Vec::new();
        for way in ssh.ways() {
            let (pipe, watch) = ssh.start(*way).map_err(|error| self.no_ssh(&error))?;
            let why = match timeout(ssh::LOGIN, greeted(pipe)).await {
                Ok(Ok(line)) => {
                    ssh.remember(*way);
                    return Ok(line);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", ssh::LOGIN.as_secs()),
            };
            let refusal = Refusal::learn(*way, watch, &why).await;
            let is_final = refusal.is_final();
            refusals.push(refusal);
            if is_final {
                break;
            }
        }
        Err(self.unreachable(ssh::reason(&refusals)))
    }

    /// A connection of its own, for other bytes than requests of this client.
    pub(super) async fn own_connection(&self) -> Result<Io, ClientError> {
        if let Address::Ssh(ssh) = &self.address
            && ssh.ways().len() > 1
        {
            // Which way leads to the engine is learned with a first request.
            let (line, _) = self.line().await?;
            self.keep(line);
        }
        self.connection().await
    }

    async fn connection(&self) -> Result<Io, ClientError> {
        let connect = async {
            match &self.address {
                Address::Unix(path) => UnixStream::connect(path).await.map(Io::Unix),
                Address::Tcp(host) => TcpStream::connect(host.as_str()).await.map(Io::Tcp),
                Address::Tls(host, tls) => {
                    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                    let stream = TcpStream::connect(host.as_str()).await?;
                    tls.connect(name, stream).await.map(|stream| Io::Tls(Box::new(stream)))
                }
                Address::Ssh(ssh) => ssh.start(ssh.ways()[0]).map(|(pipe, _)| Io::Ssh(pipe)),
            }
        };
        match timeout(CONNECT, connect).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error)) => Err(match &self.address {
                Address::Ssh(_) => self.no_ssh(&error),
                Address::Unix(_) | Address::Tcp(_) | Address::Tls(..) => {
                    self.unreachable(reason(&error))
                }
            }),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    fn no_ssh(&self, error: &io::Error) -> ClientError {
        self.unreachable(match error.kind() {
            io::ErrorKind::NotFound => "there is no `ssh` on the PATH of this machine".to_owned(),
            _ => format!("start `ssh`: {error}"),
        })
    }

    pub(super) async fn collect(&self, path: &str, body: Incoming) -> Result<Bytes, ClientError> {
        let whole = Limited::new(body, ANSWER_LIMIT).collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(|error| match error.downcast() {
            Ok(error) => self.cut(path, &error),
            Err(_) => ClientError::Protocol {
                path: path.to_owned(),
                reason: format!("it is longer than {} MiB", ANSWER_LIMIT >> 20),
            },
        })
    }

    pub(super) fn unreachable(&self, reason: String) -> ClientError {
        ClientError::NotReachable { host: self.name.clone(), reason }
    }

    pub(super) fn cut(&self, path: &str, error: &hyper::Error) -> ClientError {
        ClientError::Cut {
            host: self.name.clone(),
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn timed_out(&self, path: &str, after: Duration) -> ClientError {
        ClientError::TimedOut { host: self.name.clone(), path: path.to_owned(), after }
    }
}

async fn handshake(io: Io) -> hyper::Result<Line> {
    let (line, connection) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(line)
}

/// A connection whose other end is an engine.
async fn greeted(pipe: Pipe) -> hyper::Result<Line> {
    let mut line = handshake(Io::Ssh(pipe)).await?;
    let mut ping = Request::new(nothing().content);
    *ping.uri_mut() = http::Uri::from_static("/_ping");
    ping.headers_mut().insert("host", http::HeaderValue::from_static("engine"));
    line.send_request(ping).await?.into_body().collect().await?;
    line.ready().await?;
    Ok(line)
}

/// The usual reasons in words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied on its socket".to_owned(),
        _ => error.to_string(),
    }
}

/// What the engine says is wrong; the status in words when it says nothing.
pub(super) fn message(status: StatusCode, body: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    if told.is_empty() { format!("it answered {status}") } else { told }
}
