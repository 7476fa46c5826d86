//! One request: connect, send, read the answer, each with its deadline.

use std::{convert::Infallible, io, path::Path, time::Duration};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
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

use super::{Address, Client, ClientError, io::Io};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How much of a file is in memory at a time.
const PIECE: usize = 256 << 10;

/// A body and its `Content-Type`.
pub(super) struct Body {
    kind: Option<&'static str>,
    content: UnsyncBoxBody<Bytes, io::Error>,
}

fn sure(never: Infallible) -> io::Error {
    match never {}
}

pub(super) fn nothing() -> Body {
    Body { kind: None, content: Empty::new().map_err(sure).boxed_unsync() }
}

pub(super) fn json(value: &Value) -> Body {
    let bytes = Bytes::from(value.to_string());
    Body { kind: Some("application/json"), content: Full::new(bytes).map_err(sure).boxed_unsync() }
}

pub(super) fn archive(bytes: Bytes) -> Body {
    Body { kind: Some("application/x-tar"), content: Full::new(bytes).map_err(sure).boxed_unsync() }
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
    Ok(Body { kind: Some("application/x-tar"), content: StreamBody::new(pieces).boxed_unsync() })
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
        let whole = async {
            let (head, body) = self.head(method, path, body, within).await?;
            Ok((head, self.collect(path, body).await?))
        };
        timeout(within, whole).await.unwrap_or_else(|_| Err(self.timed_out(path, within)))
    }

    /// The answer's head and the body to come, or what the engine says is wrong.
    pub(super) async fn head(
        &self,
        method: Method,
        path: &str,
        body: Body,
        within: Duration,
    ) -> Result<(http::response::Parts, Incoming), ClientError> {
        let answered = async {
            let (head, body) = self.send(method, path, body).await?.into_parts();
            if head.status.is_success() {
                return Ok((head, body));
            }
            let text = self.collect(path, body).await?;
            Err(ClientError::Api { status: head.status, message: message(&text) })
        };
        timeout(within, answered).await.unwrap_or_else(|_| Err(self.timed_out(path, within)))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let is_own = path.starts_with("/evenkeel/");
        let prefix = if is_own { "" } else { self.prefix.as_str() };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header("Host", "engine");
        if let Some(kind) = body.kind {
            request = request.header("Content-Type", kind);
        }
        let request = request.body(body.content).map_err(|error| ClientError::Protocol {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let io = self.connection().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(|error| self.unreachable(error.to_string()))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| {
            if error.is_canceled() {
                self.unreachable(error.to_string())
            } else {
                self.cut(path, &error)
            }
        })
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
            }
        };
        match timeout(CONNECT, connect).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error)) => Err(self.unreachable(reason(&error))),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
        }
    }

    async fn collect(&self, path: &str, body: Incoming) -> Result<Bytes, ClientError> {
        let whole = body.collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(|error| self.cut(path, &error))
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::NotReachable { host: self.host.clone(), reason }
    }

    fn cut(&self, path: &str, error: &hyper::Error) -> ClientError {
        ClientError::Cut {
            host: self.host.clone(),
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    fn timed_out(&self, path: &str, after: Duration) -> ClientError {
        ClientError::TimedOut { host: self.host.clone(), path: path.to_owned(), after }
    }
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

fn message(body: &[u8]) -> String {
    serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned())
}
