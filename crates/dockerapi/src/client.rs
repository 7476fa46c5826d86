//! A small client of the Docker Engine API over a unix socket, TCP, or TCP with mutual TLS.
//!
//! Reading order: this file (errors, addresses, the calls by path), `client/wire.rs` (one request),
//! `client/swarm.rs` (the calls by name), `client/stream.rs` (logs and events).
//!
//! One connection per request: a unix socket's connect costs microseconds, and no kept connection
//! can be closed under a request. Every call has a deadline.

mod io;
mod query;
mod stream;
mod swarm;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use net::tls::Connector;
use serde_json::Value;

pub use self::{
    query::{escape, filters},
    stream::{LogLine, LogQuery, LogStream, Streamed},
    swarm::Kind,
};
use crate::version;

/// How long an ordinary call may take.
const CALL: Duration = Duration::from_secs(30);
/// How long sending an image may take.
const UPLOAD: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error("the engine at {host} cannot be reached: {reason}")]
    NotReachable { host: String, reason: String },
    /// The connection was lost after the request was sent: it may have been carried out.
    #[error("the engine at {host} ended the connection before it answered {path}: {reason}")]
    Cut { host: String, path: String, reason: String },
    /// The engine answered with an error.
    #[error("{message}")]
    Api { status: StatusCode, message: String },
    #[error("the engine at {host} did not answer {path} within {} s", .after.as_secs())]
    TimedOut { host: String, path: String, after: Duration },
    #[error("the engine's answer to {path} cannot be read: {reason}")]
    Protocol { path: String, reason: String },
    #[error("`{host}` is not an engine's address; use unix:///path or tcp://host:port")]
    BadHost { host: String },
    #[error("read `{path}`: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] net::TlsError),
}

impl ClientError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// The name is taken.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::CONFLICT)
    }

    /// Somebody else changed the object first: read it again.
    pub fn is_out_of_sequence(&self) -> bool {
        matches!(self, Self::Api { message, .. } if message.contains("update out of sequence"))
    }

    /// The engine may be starting again: worth another try.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotReachable { .. } | Self::Cut { .. } | Self::TimedOut { .. } => true,
            Self::Api { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Protocol { .. } | Self::BadHost { .. } | Self::File { .. } | Self::Tls(_) => {
                false
            }
        }
    }

    /// A stable name for the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotReachable { .. } => "engine-not-reachable",
            Self::Cut { .. } => "engine-connection-cut",
            Self::Api { status, .. } if *status == StatusCode::NOT_FOUND => "not-found",
            Self::Api { .. } => "engine-refused",
            Self::TimedOut { .. } => "engine-timed-out",
            Self::Protocol { .. } => "engine-answer-unreadable",
            Self::BadHost { .. } => "bad-host",
            Self::File { .. } => "file-unreadable",
            Self::Tls(_) => "tls-files",
        }
    }

    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotReachable { .. } => {
                Some("start the engine with `keel daemon --background`, or name another with -H")
            }
            Self::Cut { reason, .. } if reason.contains("invalid HTTP version") => Some(
                "an engine over TCP may want TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH",
            ),
            Self::Cut { .. } | Self::TimedOut { .. } => {
                Some("look at what the engine is doing with `keel ps`, then repeat the command")
            }
            Self::BadHost { .. } => Some("see `-H` and `DOCKER_HOST` in `keel --help`"),
            Self::Tls(_) => {
                Some("DOCKER_CERT_PATH names a folder with ca.pem, cert.pem and key.pem")
            }
            Self::Api { .. } | Self::Protocol { .. } | Self::File { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Connector),
}

/// A client of one engine.
#[derive(Clone, Debug)]
pub struct Client {
    host: String,
    address: Address,
    prefix: String,
}

impl Client {
    /// `unix:///path`, `tcp://host:port` or `http://host:port`, as `DOCKER_HOST` has it.
    pub fn new(host: &str) -> Result<Self, ClientError> {
        let address = if let Some(path) = host.strip_prefix("unix://") {
            Address::Unix(PathBuf::from(path))
        } else if let Some(rest) =
            host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"))
        {
            Address::Tcp(rest.trim_end_matches('/').to_owned())
        } else {
            return Err(ClientError::BadHost { host: host.to_owned() });
        };
        Ok(Self { host: host.to_owned(), address, prefix: String::new() })
    }

    /// As [`Self::new`]; over TCP with these files, so that both sides know who the other is.
    pub fn with_tls(host: &str, files: &net::TlsFiles) -> Result<Self, ClientError> {
        let mut client = Self::new(host)?;
        if let Address::Tcp(address) = &client.address {
            client.address = Address::Tls(address.clone(), Connector::new(files)?);
        }
        Ok(client)
    }

    /// A client that has agreed on a version with its engine.
    pub async fn connect(host: &str) -> Result<Self, ClientError> {
        Self::new(host)?.negotiate().await
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The agreed version; empty before [`Self::negotiate`].
    pub fn api_version(&self) -> &str {
        self.prefix.trim_start_matches("/v")
    }

    /// Agrees on the newest version that both sides know.
    pub async fn negotiate(mut self) -> Result<Self, ClientError> {
        let (head, _) = self.whole(Method::GET, "/_ping", wire::nothing(), CALL).await?;
        let server = head
            .headers
            .get("api-version")
            .and_then(|value| version::parse(value.to_str().ok()?))
            .unwrap_or(version::OLDEST);
        self.prefix = format!("/v{}", version::text(server.min(version::NEWEST)));
        Ok(self)
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path, None).await
    }

    /// As [`Self::get`], again and again while the engine starts anew, for at most `patience`.
    pub async fn get_patiently(
        &self,
        path: &str,
        patience: Duration,
    ) -> Result<Value, ClientError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut pause = Duration::from_millis(20);
        loop {
            match self.get(path).await {
                Err(error)
                    if error.is_passing() && tokio::time::Instant::now() + pause < deadline =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                outcome => return outcome,
            }
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.json(Method::DELETE, path, None).await.map(|_| ())
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let body = body.map_or_else(wire::nothing, wire::json);
        let (_, answer) = self.whole(method, path, body, CALL).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|error| ClientError::Protocol {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Sends a body as it is, such as an image's tar.
    pub async fn upload(&self, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let body = wire::archive(body);
        self.whole(Method::POST, path, body, UPLOAD).await.map(|(_, answer)| answer)
    }

    /// Sends a file piece by piece.
    pub async fn upload_file(&self, path: &str, file: &Path) -> Result<Bytes, ClientError> {
        let body = wire::file(file).await?;
        self.whole(Method::POST, path, body, UPLOAD).await.map(|(_, answer)| answer)
    }

    /// An answer that goes on: logs, events.
    pub async fn stream(&self, path: &str) -> Result<Streamed, ClientError> {
        let (_, body) = self.head(Method::GET, path, wire::nothing(), CALL).await?;
        Ok(Streamed::new(path, body))
    }
}
