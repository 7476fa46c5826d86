//! The Docker Engine API on the engine's socket: answers in Docker's shapes.
//!
//! Reading order: `route` (which path is what), then the file of the object; `view` has the shapes.

mod alone;
mod archive;
mod attach;
mod connection;
mod container;
mod containers;
mod end;
mod events;
mod exec;
mod images;
mod limits;
mod logs;
mod objects;
mod own;
mod ports;
mod process;
mod route;
mod services;
mod stream;
mod swarm;
mod system;
mod tasks;
mod usage;
mod view;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use dockerapi::ApiError;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, upgrade::OnUpgrade};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use self::exec::Execs;
use crate::{cgroup::Cgroups, control::Control, engine::StatsSource, image, registry::Registry};

/// Specs, configs and secrets are small; an image's archive has its own limit.
const BODY_LIMIT: usize = 8 << 20;
/// They come at once; how long a slow client may take.
const BODY_TIME: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = BoxBody<Bytes, BoxError>;
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// What the endpoints work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) images: Arc<image::Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: PathBuf,
    pub(crate) stats: StatsSource,
    /// True when the engine is to end: streams end with it.
    pub(crate) ends: watch::Receiver<bool>,
    pub(crate) execs: Execs,
    pub(crate) cgroups: Cgroups,
}

/// The request as the endpoints see it.
pub(crate) struct Call {
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Incoming,
    /// The connection, for whoever takes it over.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Call {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "TRUE"))
    }

    pub(crate) async fn json(self) -> Result<Value, ApiError> {
        let whole = net::collect(self.body, BODY_LIMIT, BODY_TIME).await.map_err(|error| {
            let status = match error {
                net::BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                net::BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
                net::BodyError::Read(_) => StatusCode::BAD_REQUEST,
            };
            ApiError { status, message: error.to_string() }
        })?;
        serde_json::from_slice(&whole)
            .map_err(|error| ApiError::bad_parameter(format!("the body is not JSON: {error}")))
    }
}

impl Api {
    /// Answers one request.
    pub(crate) async fn respond(self, request: Request<Incoming>) -> Response<Body> {
        let is_head = request.method() == Method::HEAD;
        match self.route(request).await {
            Ok(response) => response,
            Err(error) => {
                let body = if is_head { String::new() } else { error.body() };
                let mut response = Response::new(full(body));
                *response.status_mut() = error.status;
                let json = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
        }
    }
}

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// 200 with JSON.
pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    with_status(StatusCode::OK, value)
}

pub(crate) fn with_status(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Only keys that are no texts cannot be written, and none of ours is such.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key), unescape(&value.replace('+', " ")))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
