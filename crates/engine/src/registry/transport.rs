//! HTTP to registries: connections, TLS, and how long anything may take.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{sync::Mutex, time::timeout};

use super::{Error, settings::Settings};

pub(super) type Payload = BoxBody<Bytes, io::Error>;
type Client = legacy::Client<HttpsConnector<HttpConnector>, Payload>;

/// How long a registry may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To be reached.
    pub connect: Duration,
    /// To begin an answer.
    pub answer: Duration,
    /// To send the next piece of one.
    pub stall: Duration,
    /// Before the first repetition; each further one waits twice as long.
    pub backoff: Duration,
    /// For a whole pull or push.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            answer: seconds(30),
            stall: seconds(30),
            backoff: Duration::from_millis(500),
            whole: seconds(3600),
        }
    }
}

/// Connections to the hosts of one conversation.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) settings: Settings,
    pub(super) patience: Patience,
    clients: Mutex<HashMap<String, Client>>,
}

impl Transport {
    pub(super) fn new(settings: Settings, patience: Patience) -> Self {
        Self { settings, patience, clients: Mutex::default() }
    }

    /// Sends one request; the head of the answer comes within `patience`.
    pub(super) async fn send(
        &self,
        request: Request<Payload>,
        patience: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let authority = authority(request.uri());
        let url = shown(request.uri());
        let is_tls = request.uri().scheme_str() == Some("https");
        let client = self.client(&authority, is_tls).await?;
        let head = format!("{} {url}", title(request.method().as_str()));
        match timeout(patience, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                Err(Error::Connect { what: head, reason: reason(&error), host: authority })
            }
            Err(_) => Err(Error::Stalled { what: head, seconds: patience.as_secs() }),
        }
    }

    async fn client(&self, authority: &str, is_tls: bool) -> Result<Client, Error> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(authority) {
            return Ok(client.clone());
        }
        let (settings, name) = (self.settings.clone(), authority.to_owned());
        let roots = tokio::task::spawn_blocking(move || roots(&settings, &name, is_tls)).await;
        let roots = roots.map_err(|error| Error::Tls(error.to_string()))??;
        let client = client(roots, self.patience)?;
        clients.insert(authority.to_owned(), client.clone());
        Ok(client)
    }
}

/// What this machine trusts, and what the operator adds for this registry.
fn roots(settings: &Settings, authority: &str, is_tls: bool) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    if is_tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in settings.certificates(authority)? {
            roots.add(certificate).map_err(|error| Error::Tls(error.to_string()))?;
        }
    }
    Ok(roots)
}

fn client(roots: RootCertStore, patience: Patience) -> Result<Client, Error> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(patience.connect));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(4)
        .build(connector))
}

/// A whole small body.
pub(super) async fn collect(
    response: Response<Incoming>,
    limit: u64,
    stall: Duration,
) -> Result<Vec<u8>, Error> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body, stall).await? {
        if (bytes.len() + piece.len()) as u64 > limit {
            return Err(Error::Lies { reason: "its answer is too long".to_owned() });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The next piece of a body; none at its end.
pub(super) async fn next(body: &mut Incoming, stall: Duration) -> Result<Option<Bytes>, Error> {
    let what = || "the next piece of an answer".to_owned();
    loop {
        match timeout(stall, body.frame()).await {
            Err(_) => return Err(Error::Stalled { what: what(), seconds: stall.as_secs() }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Error::Cut { what: what(), reason: reason(&error) });
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// `host` or `host:port`, as the certificates' folder has it.
pub(super) fn authority(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or("").to_ascii_lowercase()
}

/// Without the query: it may hold a key.
pub(super) fn shown(uri: &Uri) -> String {
    format!("{}://{}{}", uri.scheme_str().unwrap_or("http"), authority(uri), uri.path())
}

/// `GET` → `Get`, as Docker writes it.
fn title(method: &str) -> String {
    let (first, rest) = method.split_at(method.len().min(1));
    format!("{first}{}", rest.to_ascii_lowercase())
}

/// The innermost reason that says something.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        inner = cause.source();
    }
    text
}
