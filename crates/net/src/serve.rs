//! The accept loop for HTTP/1.1 on a unix socket, with a bounded number of connections and a
//! graceful end.

use std::{sync::Arc, time::Duration};

use http_body_util::combinators::BoxBody;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::UnixListener, sync::Semaphore, sync::watch, task::JoinSet};

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// How long a client may take to send its request head.
    pub header_timeout: Duration,
    /// How long open connections get once the server is to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(2),
        }
    }
}

/// Serves until `shutdown` turns true, then lets open connections end within the drain time.
pub async fn serve<F, R, E>(
    listener: UnixListener,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    respond: F,
) where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<BoxBody<bytes::Bytes, E>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|ends| *ends) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: let some connections end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let respond = respond.clone();
        let mut ends = shutdown.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(request);
                async move { Ok::<_, std::convert::Infallible>(response.await) }
            });
            let mut http = http1::Builder::new();
            http.half_close(true).timer(TokioTimer::new());
            http.header_read_timeout(limits.header_timeout);
            let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let is_ending = tokio::select! {
                _ = connection.as_mut() => false,
                _ = ends.wait_for(|ends| *ends) => true,
            };
            if is_ending {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(limits.drain, connection).await;
            }
            drop(slot);
        });
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all).await.is_err() {
        connections.abort_all();
    }
}
