//! A small client of the Docker Engine API over a unix socket, TCP (with mutual TLS) or ssh.
//!
//! Reading order: this file (addresses, the calls by path), `client/error.rs` (what can go wrong),
//! `client/wire.rs` (one request), `client/ssh.rs` (an engine on another machine),
//! `client/swarm.rs` (the calls by name), `client/stream.rs` (logs and events).
//!
//! One connection per request: a unix socket's connect costs microseconds, and no kept connection
//! can be closed under a request. Over ssh, where a connection costs a login, the last ones are
//! kept. Every call has a deadline.

mod error;
mod io;
mod query;
mod registry;
mod ssh;
mod stream;
mod swarm;
mod taken;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use net::tls::Connector;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    error::ClientError,
    query::{escape, filters, of_node},
    stream::{LogLine, LogQuery, LogStream, Streamed, Values},
    swarm::Kind,
    taken::Taken,
};
use crate::version;

/// How long an ordinary call may take.
const CALL: Duration = Duration::from_secs(30);
/// How long sending an image may take.
const UPLOAD: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Connector),
    Ssh(ssh::Ssh),
}

/// A client of one engine.
#[derive(Clone, Debug)]
pub struct Client {
    host: String,
    /// How errors call the engine.
    name: String,
    address: Address,
    kept: wire::Kept,
    prefix: String,
    agreed: Option<(u32, u32)>,
    server: Option<String>,
}

impl Client {
    /// `unix:///path`, `tcp://host:port`, `http://host:port` or `ssh://user@host`, as `DOCKER_HOST`
    /// has it.
    pub fn new(host: &str) -> Result<Self, ClientError> {
        let address = if let Some(path) = host.strip_prefix("unix://") {
            Address::Unix(PathBuf::from(path))
        } else if let Some(rest) =
            host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"))
        {
            Address::Tcp(rest.trim_end_matches('/').to_owned())
        } else if let Some(rest) = host.strip_prefix("ssh://") {
            Address::Ssh(ssh::Ssh::parse(rest).map_err(|reason| ClientError::BadHost {
                host: ssh::without_password(host),
                reason: reason.to_owned(),
            })?)
        } else {
            return Err(ClientError::BadHost {
                host: host.to_owned(),
                reason: "use unix:///path, tcp://host:port or ssh://user@host".to_owned(),
            });
        };
        Ok(Self {
            host: host.to_owned(),
            name: host.to_owned(),
            address,
            kept: wire::Kept::default(),
            prefix: String::new(),
            agreed: None,
            server: None,
        })
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

    /// Errors will say why it is this engine.
    #[must_use]
    pub fn because(mut self, why: &str) -> Self {
        self.name = format!("{} ({why})", self.host);
        self
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The agreed version; empty before [`Self::negotiate`].
    pub fn api_version(&self) -> &str {
        self.prefix.trim_start_matches("/v")
    }

    /// Whether what came with `version` of the API can be asked for. True before an agreement.
    pub fn speaks(&self, version: (u32, u32)) -> bool {
        self.agreed.is_none_or(|agreed| agreed >= version)
    }

    /// What the engine calls itself, such as `Docker/20.10.24 (linux)`.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Agrees on the newest version that both sides know.
    pub async fn negotiate(mut self) -> Result<Self, ClientError> {
        let (head, _) = self.whole(Method::GET, "/_ping", wire::nothing(), CALL).await?;
        let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        self.server = header("server");
        let newest = header("api-version").and_then(|text| version::parse(&text));
        let range = match newest {
            Some(newest) if newest <= version::NEWEST => (newest, None),
            // What it still understands is not told with the ping.
            _ => self.range(newest).await?,
        };
        let agreed = version::agree(range.0, range.1)
            .map_err(|reason| ClientError::Version { host: self.name.clone(), reason })?;
        self.prefix = format!("/v{}", version::text(agreed));
        self.agreed = Some(agreed);
        Ok(self)
    }

    /// The newest and the oldest version that the engine speaks, as it says when it is asked.
    async fn range(&self, newest: Option<(u32, u32)>) -> Result<version::Range, ClientError> {
        let told = self.version().await?;
        let read = |key: &str| version::parse(told.get(key)?.as_str()?);
        let newest =
            newest.or_else(|| read("ApiVersion")).ok_or_else(|| ClientError::Protocol {
                path: "/version".to_owned(),
                reason: format!("no API version in it; {} is no Docker engine", self.name),
            })?;
        Ok((newest, read("MinAPIVersion")))
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
        let (_, body, _) = self.head(Method::GET, path, wire::nothing(), CALL).await?;
        Ok(Streamed::new(path, body))
    }

    /// A connection to the engine's own bytes, for whoever speaks the API themselves.
    pub async fn dial(
        &self,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, ClientError> {
        self.own_connection().await
    }
}
