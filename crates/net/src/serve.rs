//! The accept loop for HTTP/1.1, with a bounded number of connections and a graceful end.
//!
//! ```text
//! serving ──shutdown──▶ stop accepting; answers say `Connection: close`
//!         ──idle grace─▶ hyper's graceful shutdown (it closes an idle connection at once, and a
//!                        request already on the wire with it: hence the grace before)
//!         ──drain──────▶ what is still open is cut
//! ```

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderValue, StatusCode, header::CONNECTION};
use http_body_util::combinators::BoxBody;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    answer::{Answer, Presence},
    listen::Accept,
    seat::{Seat, Seats},
    tls::Peer,
    watched::Watched,
};

/// What a client gets when every connection is being answered.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    content-length: 71\r\nconnection: close\r\n\r\n\
    {\"message\":\"too many connections are being answered; try again later\"}\n";

/// How long it gets to take that; meanwhile nobody else is accepted.
const REFUSAL: Duration = Duration::from_millis(50);

/// What a server allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// More make those leave that say nothing or do not read; then they are refused with 503.
    pub connections: usize,
    /// How long a client may take to send its request head, and say nothing before it.
    pub header_timeout: Duration,
    /// The largest request head; a larger one is refused with 431.
    pub head_bytes: usize,
    /// How long a client may leave unread what is written to it.
    pub write_timeout: Duration,
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
            head_bytes: 64 << 10,
            write_timeout: Duration::from_secs(300),
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
    let seats = Seats::new(limits.connections);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &seats) => accepted,
            _ = shutdown.wait_for(|ends| *ends) => break,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, seat)) = accepted else { continue };
        let (respond, shutdown) = (respond.clone(), shutdown.clone());
        let peer = L::peer(&stream);
        let respond = move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(peer.clone().map(known).unwrap_or_default());
            respond(request)
        };
        let presence = Presence::of(L::descriptor(&stream));
        let stream = Watched::new(stream, seat, limits.write_timeout);
        connections.spawn(converse(stream, presence, limits, shutdown, respond));
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

/// A connection and its place among those allowed; nothing when there was a passing error, or it
/// was refused.
async fn next<L: Accept>(listener: &L, seats: &Seats) -> Option<(L::Stream, Seat)> {
    let mut stream = match listener.accept_one().await {
        Ok(stream) => stream,
        Err(error) => {
            // Mostly out of descriptors: let some connections end first.
            tracing::warn!(%error, "accept");
            seats.make_room();
            sleep(Duration::from_millis(50)).await;
            return None;
        }
    };
    match seats.take().await {
        Some(seat) => Some((stream, seat)),
        None => {
            let _ = timeout(REFUSAL, refuse(&mut stream)).await;
            None
        }
    }
}

/// Says why, and reads what the client says meanwhile: closed with something unread, the connection
/// would be reset and the answer lost.
async fn refuse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// One connection from first to last request.
async fn converse<S, F, R, E>(
    stream: Watched<S>,
    presence: Presence,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
    respond: F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<BoxBody<bytes::Bytes, E>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let guest = Arc::clone(stream.guest());
    let is_ending = shutdown.clone();
    let service = service_fn(|request| {
        let (answer, is_ending) = (respond(request), is_ending.clone());
        let (presence, asking) = (presence.clone(), guest.asks());
        async move {
            let mut answer = tokio::select! {
                answer = answer => answer,
                () = presence.left() => return Err(Gone),
            };
            if *is_ending.borrow() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|content| Answer::new(content, presence, asking)))
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.head_bytes);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = guest.leave.notified() => return,
        _ = shutdown.wait_for(|ends| *ends) => {}
    }
    let deadline = Instant::now() + limits.drain;
    if timeout(limits.idle_grace, connection.as_mut()).await.is_ok() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout_at(deadline, connection).await;
}

/// The client left before it was answered.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone")]
struct Gone;
