//! The web server: the site, `/config.js` with the API's address, and `/health`.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::site::{File, Site};

const KEEP_ALIVE: Duration = Duration::from_secs(75);
const SHUTDOWN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the site from `{path}`: {source}; build it first with `ala-frontend build`", path = .path.display())]
    Site { path: PathBuf, source: std::io::Error },
    #[error("`{name}` is not valid: `{value}`")]
    Setting { name: &'static str, value: String },
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("start: {0}")]
    Start(#[from] std::io::Error),
}

struct Server {
    site: Site,
    config: Bytes,
    /// Held by every connection; a shutdown waits for the last one.
    busy: mpsc::Sender<()>,
    stop: watch::Receiver<bool>,
}

pub fn run(folder: &Path) -> Result<(), Error> {
    let site = Site::read(folder).map_err(|(path, source)| Error::Site { path, source })?;
    let address =
        SocketAddr::new(setting("HOST", IpAddr::from([0, 0, 0, 0]))?, setting("PORT", 8080_u16)?);
    let api_url = std::env::var("API_URL").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(site, config(&api_url), address))
}

async fn serve(site: Site, config: Bytes, address: SocketAddr) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().unwrap_or(address);
    log(&serde_json::json!({ "event": "listening", "address": address.to_string() }));
    let (stopping, stop) = watch::channel(false);
    let (busy, mut idle) = mpsc::channel(1);
    let server = Arc::new(Server { site, config, busy, stop });
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, server.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop((listener, server));
    stopping.send_replace(true);
    let finished = tokio::time::timeout(SHUTDOWN, idle.recv()).await.is_ok();
    log(&serde_json::json!({ "event": "stopped", "finished": finished }));
    Ok(())
}

async fn converse(stream: TcpStream, server: Arc<Server>) {
    let _busy = server.busy.clone();
    let mut stop = server.stop.clone();
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let response = answer(&server, &request);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = async { stop.wait_for(|stop| *stop).await.is_ok() } => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

fn answer(server: &Server, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let started = Instant::now();
    let path = request.uri().path();
    let mut response = match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/health") => page(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/config.js") => respond(File {
            contents: server.config.clone(),
            media_type: "text/javascript; charset=utf-8",
            cache: "no-cache",
        }),
        (&Method::GET | &Method::HEAD, _) => match server.site.find(path) {
            Some(file) => respond(file),
            None => page(StatusCode::NOT_FOUND, "no such page\n"),
        },
        _ => page(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
    };
    let request_id = request.headers().get("x-request-id").cloned();
    log(&serde_json::json!({
        "event": "request",
        "method": request.method().as_str(),
        "path": path,
        "status": response.status().as_u16(),
        "ms": (started.elapsed().as_secs_f64() * 1e5).round() / 100.0,
        "request_id": request_id.as_ref().and_then(|id| id.to_str().ok()),
    }));
    if let Some(id) = request_id {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn respond(file: File) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(file.contents));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.cache));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn page(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let contents = Bytes::from_static(text.as_bytes());
    let media_type = "text/plain; charset=utf-8";
    let mut response = respond(File { contents, media_type, cache: "no-store" });
    *response.status_mut() = status;
    response
}

/// Tells the pages where the API is; without an address they use port 5000 of their own host.
fn config(api_url: &str) -> Bytes {
    let settings = serde_json::json!({ "apiUrl": api_url.trim_end_matches('/') });
    Bytes::from(format!("window.ALA = {settings};\n"))
}

fn setting<T: std::str::FromStr>(name: &'static str, default: T) -> Result<T, Error> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value.parse().map_err(|_| Error::Setting { name, value }),
        _ => Ok(default),
    }
}

/// One JSON object a line on standard output; whoever reads it may be gone.
fn log(line: &serde_json::Value) {
    let mut line = line.clone();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("time".into(), format!("{:.3}", jiff::Timestamp::now()).into());
    }
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
