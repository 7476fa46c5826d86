//! The API: which request is answered by which part, and what every answer carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::database::Database;
use crate::health::LastCheck;
use crate::priority::Priority;
use crate::server::Phase;
use crate::settings::Settings;
use crate::token::Tokens;
use crate::{cors, health, log, login, slow, socket, treatment};

const LARGEST_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// What all requests share.
pub struct App {
    pub settings: Settings,
    pub database: Database,
    pub priority: Priority,
    pub tokens: Tokens,
    pub last_check: LastCheck,
    pub listening_since: Instant,
    pub migrated: AtomicBool,
    pub phase: watch::Receiver<Phase>,
    /// Held by whatever a shutdown should wait for.
    pub busy: mpsc::Sender<()>,
}

impl App {
    pub fn is_migrated(&self) -> bool {
        self.migrated.load(Ordering::Acquire)
    }
}

/// Answers one request and logs it.
pub async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let request_id = request_id(&request);
    let mut response = route(&app, request, &request_id).await.0;
    let headers = response.headers_mut();
    cors::allow(headers, &app.settings.cors_origin);
    insert(headers, "x-request-id", &request_id);
    insert(headers, "x-app-version", &app.settings.version);
    insert(headers, "x-instance", &app.settings.instance);
    let status = response.status().as_u16();
    log::request(method.as_str(), &path, status, started.elapsed(), &request_id);
    response
}

async fn route(app: &Arc<App>, request: Request<Incoming>, request_id: &str) -> Reply {
    let uri = request.uri().clone();
    let argument = |name| argument(uri.query(), name);
    match (request.method(), uri.path()) {
        (&Method::OPTIONS, _) => {
            let mut reply = Reply::empty(StatusCode::NO_CONTENT);
            cors::preflight(reply.headers_mut());
            reply
        }
        (&Method::GET, "/api/health") => health::show(app).await,
        (&Method::GET, "/api/version") => Reply::json(
            200,
            &Version {
                version: &app.settings.version,
                instance: &app.settings.instance,
                forwarded_for: header_text(&request, "x-forwarded-for"),
            },
        ),
        (&Method::GET, "/api/slow") => slow::show(argument("seconds"), argument("tag")).await,
        (&Method::GET, "/api/ws") => socket::open(app, request, argument("ticks").is_some()),
        (_, path) if !path.starts_with("/api/") => Reply::error(404, "no such address"),
        _ if !app.is_migrated() => Reply::error(503, "the database is not ready"),
        (&Method::POST, "/api/login") => match body(request).await {
            Ok(body) => login::create(app, &body).await,
            Err(refusal) => refusal,
        },
        (method, path) => {
            let Some(user) = user(app, &request) else {
                return Reply::error(401, "log in first: send `Authorization: Bearer <token>`");
            };
            let id = path.strip_prefix("/api/treatments/");
            match (method, path, id) {
                (&Method::GET, "/api/treatments", _) => {
                    treatment::list(app, argument("limit")).await
                }
                (&Method::POST, "/api/treatments", _) => match body(request).await {
                    Ok(body) => treatment::create(app, &user, request_id, &body).await,
                    Err(refusal) => refusal,
                },
                (&Method::GET, _, Some(id)) => treatment::show(app, id).await,
                _ => Reply::error(404, "no such address"),
            }
        }
    }
}

#[derive(Serialize)]
struct Version<'a> {
    version: &'a str,
    instance: &'a str,
    /// Whom the proxy in front says it asks for.
    forwarded_for: Option<&'a str>,
}

/// An answer before the common headers are added.
pub struct Reply(Response<Full<Bytes>>);

impl Reply {
    pub fn empty(status: StatusCode) -> Reply {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Reply(response)
    }

    pub fn json(status: u16, value: &impl Serialize) -> Reply {
        let text = serde_json::to_vec(value).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Reply(response)
    }

    pub fn error(status: u16, message: &str) -> Reply {
        Reply::json(status, &serde_json::json!({ "error": message }))
    }

    pub fn unavailable(error: &crate::database::Error) -> Reply {
        log::error("database", &error.to_string());
        Reply::error(503, "the database is not available")
    }

    pub fn headers_mut(&mut self) -> &mut http::HeaderMap {
        self.0.headers_mut()
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Reply> {
    let collecting = Limited::new(request.into_body(), LARGEST_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Reply::error(413, "the body is too large or was cut off")),
        Err(_) => Err(Reply::error(408, "the body did not arrive in time")),
    }
}

fn user(app: &App, request: &Request<Incoming>) -> Option<String> {
    let authorization = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    app.tokens.user(authorization)
}

/// The caller's request id when it is a sensible one, else one of our own.
fn request_id(request: &Request<Incoming>) -> String {
    match header_text(request, "x-request-id") {
        Some(id) if !id.is_empty() && id.len() <= 100 => id.to_owned(),
        _ => {
            let mut random = [0_u8; 8];
            let _ = getrandom::fill(&mut random);
            format!("{:016x}", u64::from_ne_bytes(random))
        }
    }
}

fn header_text<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The value of one argument of a query string; values here need no decoding.
fn argument<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn insert(headers: &mut http::HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
