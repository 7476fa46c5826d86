//! A small client of the Docker Engine API over a unix socket or TCP.
//!
//! One connection per request: a unix socket's connect costs microseconds, and no kept connection
//! can be closed under a request. Every call has a deadline.

mod call;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use crate::version;

/// How long an ordinary call may take.
const CALL: Duration = Duration::from_secs(30);
/// How long sending an image may take.
const UPLOAD: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the engine at {host} cannot be reached: {reason}")]
    NotReachable { host: String, reason: String },
    /// The engine answered with an error.
    #[error("{message}")]
    Api { status: StatusCode, message: String },
    #[error("the engine at {host} did not answer {path} within {} s", .after.as_secs())]
    TimedOut { host: String, path: String, after: Duration },
    #[error("the engine's answer to {path} cannot be read: {reason}")]
    Protocol { path: String, reason: String },
    #[error("`{host}` is not an engine's address; use unix:///path or tcp://host:port")]
    BadHost { host: String },
}

impl ClientError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::CONFLICT)
    }

    /// The engine may be starting again: worth another try.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotReachable { .. } | Self::TimedOut { .. } | Self::Protocol { .. })
    }
}

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
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

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Agrees on the newest version that both sides know.
    pub async fn negotiate(mut self) -> Result<Self, ClientError> {
        let (head, _) = self.send(Method::GET, "/_ping", None, CALL).await?;
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
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let (_, answer) = self.send(method, path, bytes, CALL).await?;
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
        self.send(Method::POST, path, Some(body), UPLOAD).await.map(|(_, answer)| answer)
    }

    /// An answer that goes on: logs, events.
    pub async fn stream(&self, path: &str) -> Result<Streamed, ClientError> {
        let response = self.open(Method::GET, path, None).await?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(Streamed { path: path.to_owned(), body });
        }
        let bytes = self.collect(path, body).await?;
        Err(api_error(head.status, &bytes))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        within: Duration,
    ) -> Result<(http::response::Parts, Bytes), ClientError> {
        let whole = async {
            let (head, body) = self.open(method, path, body).await?.into_parts();
            let bytes = self.collect(path, body).await?;
            if head.status.is_success() {
                Ok((head, bytes))
            } else {
                Err(api_error(head.status, &bytes))
            }
        };
        timeout(within, whole).await.unwrap_or_else(|_| {
            Err(ClientError::TimedOut {
                host: self.host.clone(),
                path: path.to_owned(),
                after: within,
            })
        })
    }

    async fn collect(&self, path: &str, body: Incoming) -> Result<Bytes, ClientError> {
        let whole = body.collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(|error| ClientError::Protocol {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let unreachable =
            |reason: String| ClientError::NotReachable { host: self.host.clone(), reason };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", if path.starts_with("/evenkeel") { "" } else { &self.prefix }))
            .header("Host", "engine");
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default())).map_err(|error| {
            ClientError::Protocol { path: path.to_owned(), reason: error.to_string() }
        })?;
        let connect = async {
            match &self.address {
                Address::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok::<_, std::io::Error>(call::Io::Unix(stream))
                }
                Address::Tcp(host) => {
                    Ok(call::Io::Tcp(tokio::net::TcpStream::connect(host.as_str()).await?))
                }
            }
        };
        let io = match timeout(Duration::from_secs(10), connect).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("no answer within 10 s".to_owned())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))
    }
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Streamed {
    path: String,
    body: Incoming,
}

impl Streamed {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Protocol {
                        path: self.path.clone(),
                        reason: error.to_string(),
                    });
                }
            }
        }
    }
}

fn api_error(status: StatusCode, body: &[u8]) -> ClientError {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    ClientError::Api { status, message }
}

/// Escapes a value for a query.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A `filters=` query from key and value.
pub fn filters(pairs: &[(&str, &str)]) -> String {
    let mut map = serde_json::Map::new();
    for (key, value) in pairs {
        let values = map.entry(*key).or_insert_with(|| Value::Object(serde_json::Map::new()));
        values[*value] = Value::Bool(true);
    }
    format!("filters={}", escape(&Value::Object(map).to_string()))
}
