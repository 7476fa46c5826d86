//! The accept loop for HTTP/1.1, with a bounded number of connections and a graceful end.
//!
//! ```text
//! serving ──shutdown──▶ stop accepting; answers say `Connection: close`
//!         ──idle grace─▶ hyper's graceful shutdown (it closes an idle connection at once, and a
//!                        request already on the wire with it: hence the grace before)
//!         ──drain──────▶ what is still open is cut
//! ```

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Extensions, HeaderValue, StatusCode, header::CONNECTION};
use http_body_util::combinators::BoxBody;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{listen::Accept, tls::Peer};

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// How long a client may take to send its request head.
    pub header_timeout: Duration,
    /// How long open connections get once the server is to end.
    pub drain: Duration,
    /// How long of that an idle connection is kept for a request that may be on its way.
    pub idle_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(2),
            idle_grace: Duration::from_millis(100),
        }
    }
}

/// Serves until `shutdown` turns true (or its sender is gone), then lets open connections end
/// within the drain time.
pub async fn serve<L, F, R, E>(
    listener: L,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    respond: F,
) where
    L: Accept,
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<BoxBody<bytes::Bytes, E>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            _ = shutdown.wait_for(|ends| *ends) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Some((stream, slot)) = accepted else { continue };
        let (respond, shutdown) = (respond.clone(), shutdown.clone());
        let peer = L::peer(&stream);
        connections.spawn(async move {
            let respond = |mut request: Request<Incoming>| {
                request.extensions_mut().extend(peer.clone().map(known).unwrap_or_default());
                respond(request)
            };
            converse(stream, limits, shutdown, respond).await;
            drop(slot);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain + Duration::from_millis(100), all).await.is_err() {
        connections.abort_all();
    }
}

/// What requests of a client that has proven who it is carry with them.
fn known(peer: Peer) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(peer);
    extensions
}

/// A connection and its place among those allowed; nothing when there was a passing error.
async fn next<L: Accept>(
    listener: &L,
    slots: &Arc<Semaphore>,
) -> Option<(L::Stream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept_one().await {
        Ok(stream) => Some((stream, slot)),
        Err(error) => {
            // Mostly out of descriptors: let some connections end first.
            tracing::warn!(%error, "accept");
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// One connection from first to last request.
async fn converse<S, F, R, E>(
    stream: S,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    respond: F,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<BoxBody<bytes::Bytes, E>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let is_ending = shutdown.clone();
    let service = service_fn(|request| {
        let (answer, is_ending) = (respond(request), is_ending.clone());
        async move {
            let mut answer = answer.await;
            if *is_ending.borrow() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|ends| *ends) => {}
    }
    let deadline = Instant::now() + limits.drain;
    if timeout(limits.idle_grace, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout_at(deadline, connection).await;
}
