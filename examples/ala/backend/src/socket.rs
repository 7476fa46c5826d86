//! `GET /api/ws`: a WebSocket that returns every message and, when asked, ticks once a second.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::api::{App, Reply};
use crate::server::{Phase, reached};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

const LARGEST_MESSAGE: usize = 64 * 1024;

/// Accepts the upgrade and leaves the conversation to a task of its own.
pub fn open(app: &Arc<App>, mut request: Request<Incoming>, ticks: bool) -> Reply {
    let asks = request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).filter(|_| asks) else {
        return Reply::error(426, "this address speaks WebSocket only");
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    let app = app.clone();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let config = WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE));
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
            converse(&app, socket, ticks).await;
        }
    });
    let mut reply = Reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    reply
}

/// Talks until the client has had enough, or the service must close.
async fn converse(app: &App, mut socket: Socket, ticks: bool) {
    let _busy = app.busy.clone();
    let mut phase = app.phase.clone();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut count = 0_u64;
    loop {
        let message = tokio::select! {
            received = socket.next() => match received {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
                // Pings and closes are answered by the library when it is polled again.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            _ = tick.tick(), if ticks => {
                count += 1;
                Message::text(format!("{{\"tick\":{count}}}"))
            }
            () = reached(&mut phase, Phase::Closing) => {
                let reason = "the service is restarting".into();
                let frame = CloseFrame { code: CloseCode::Away, reason };
                let _ = socket.close(Some(frame)).await;
                return;
            }
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
