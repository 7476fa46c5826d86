//! The Docker Engine API on the engine's socket: one table of routes, answers in Docker's shapes.

mod images;
mod logs;
mod objects;
mod own;
mod services;
mod system;
mod tasks;
mod view;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use dockerapi::{ApiError, version};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming};
use serde_json::Value;

use crate::{control::Control, engine::StatsSource, image};

/// Specs, configs and secrets are small; an image's archive has its own limit.
const BODY_LIMIT: usize = 8 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = BoxBody<Bytes, BoxError>;
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// What the endpoints work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: Control,
    pub(crate) images: Arc<image::Store>,
    pub(crate) tasks: PathBuf,
    pub(crate) stats: StatsSource,
}

/// The request as the endpoints see it.
pub(crate) struct Call {
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Incoming,
}

impl Call {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "TRUE"))
    }

    pub(crate) async fn json(self) -> Result<Value, ApiError> {
        let whole = Limited::new(self.body, BODY_LIMIT).collect().await.map_err(|error| {
            ApiError::bad_parameter(format!("read the request's body: {error}"))
        })?;
        serde_json::from_slice(&whole.to_bytes())
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

    async fn route(self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let path = version::strip(head.uri.path())?.to_owned();
        let query = head.uri.query().map(query).unwrap_or_default();
        let call = Call { query, body };
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(unescape).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (head.method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", ["_ping"]) => Ok(system::ping(&head.method)),
            ("GET", ["version"]) => Ok(json(&system::version())),
            ("GET", ["info"]) => self.info().await,
            ("GET", ["events"]) => self.events(&call).await,
            ("GET", ["system", "df"]) => Ok(self.disk_usage()),
            ("GET", ["swarm"]) => self.swarm().await,
            ("POST", ["swarm", "init"]) => Err(system::already_a_swarm()),
            ("GET", ["nodes"]) => self.nodes().await,
            ("GET", ["nodes", id]) => self.node(id).await,
            ("GET", ["services"]) => self.services(&call).await,
            ("POST", ["services", "create"]) => self.create_service(call).await,
            ("GET", ["services", id]) => self.service(id, &call).await,
            ("DELETE", ["services", id]) => self.remove_service(id).await,
            ("POST", ["services", id, "update"]) => self.update_service(id, call).await,
            ("GET", ["services", id, "logs"]) => self.service_logs(id, &call).await,
            ("GET", ["tasks"]) => self.tasks(&call).await,
            ("GET", ["tasks", id]) => self.task(id).await,
            ("GET", ["tasks", id, "logs"]) => self.task_logs(id, &call).await,
            ("GET", [kind @ ("configs" | "secrets" | "networks" | "volumes")]) => {
                self.objects(objects::kind(kind), &call).await
            }
            ("POST", [kind @ ("configs" | "secrets" | "networks" | "volumes"), "create"]) => {
                self.create_object(objects::kind(kind), call).await
            }
            ("GET", [kind @ ("configs" | "secrets" | "networks" | "volumes"), id]) => {
                self.object(objects::kind(kind), id).await
            }
            ("POST", [kind @ ("configs" | "secrets"), id, "update"]) => {
                self.update_object(objects::kind(kind), id, call).await
            }
            ("DELETE", [kind @ ("configs" | "secrets" | "networks" | "volumes"), id]) => {
                self.delete_object(objects::kind(kind), id).await
            }
            ("GET", ["images", "json"]) => Ok(self.images()),
            ("POST", ["images", "load"]) => self.load_image(call).await,
            ("GET", ["images", name @ .., "json"]) => self.image(&name.join("/")),
            ("POST", ["images", name @ .., "tag"]) => self.tag_image(&name.join("/"), &call).await,
            ("DELETE", ["images", name @ ..]) => self.remove_image(&name.join("/")).await,
            ("GET", ["distribution", name @ .., "json"]) => {
                Err(images::no_registry(&name.join("/")))
            }
            ("GET", ["containers", "json"]) => self.containers(&call).await,
            ("POST", ["containers", id, "kill"]) => self.kill(id, &call).await,
            ("GET", ["evenkeel", "v1", "ready"]) => self.ready().await,
            ("GET", ["evenkeel", "v1", "stats"]) => self.own_stats().await,
            ("GET", ["evenkeel", "v1", "tasks"]) => self.own_tasks().await,
            ("POST", ["evenkeel", "v1", "stop-all"]) => self.stop_all().await,
            ("POST", ["build" | "containers" | "commit", ..]) => Err(ApiError::not_supported(
                "the embedded engine runs services, not single containers, and does not build \
                 Dockerfiles; use `keel build` and `keel deploy`, or a Docker engine",
            )),
            _ => Err(ApiError::not_found("page not found")),
        }
    }
}

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// 200 with JSON.
pub(crate) fn json(value: &Value) -> Response<Body> {
    with_status(StatusCode::OK, value)
}

pub(crate) fn with_status(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(format!("{value}\n")));
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
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
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
