//! WebSockets that live their life: opened, an echo every second, closed by us at its end. Any
//! other end is a cut.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as SocketError;
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::plan::Target;

/// How long opening, an echo or the closing may take.
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN_MESSAGES: Duration = Duration::from_secs(1);

/// How one life ended.
pub struct End {
    /// What went wrong, if it did.
    pub cut: Option<String>,
    pub instance: Option<String>,
    pub messages: u64,
}

/// Lives one life, whatever comes.
pub async fn live(target: &Target, id: &str, life: Duration) -> End {
    let mut end = End { cut: None, instance: None, messages: 0 };
    end.cut = converse(target, id, life, &mut end).await.err();
    end
}

async fn converse(target: &Target, id: &str, life: Duration, end: &mut End) -> Result<(), String> {
    let over = tokio::time::Instant::from_std(Instant::now() + life);
    let mut socket = within(open(target, id, end), "open").await?;
    let mut next = tokio::time::Instant::now();
    while next < over {
        let text = format!("{id} {}", end.messages);
        within(echo(&mut socket, &text), "echo").await?;
        end.messages += 1;
        next += BETWEEN_MESSAGES;
        tokio::select! {
            () = sleep_until(next.min(over)) => {}
            unasked = socket.next() => return Err(format!("while idle: {}", describe(unasked))),
        }
    }
    within(close(&mut socket), "close").await
}

async fn within<T>(step: impl Future<Output = Result<T, String>>, name: &str) -> Result<T, String> {
    match timeout(PATIENCE, step).await {
        Ok(outcome) => outcome.map_err(|error| format!("{name}: {error}")),
        Err(_) => Err(format!("{name}: nothing within {PATIENCE:?}")),
    }
}

async fn open(
    target: &Target,
    id: &str,
    end: &mut End,
) -> Result<WebSocketStream<TcpStream>, String> {
    let url = format!("ws://{}/api/ws", target.authority);
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    if let Ok(id) = HeaderValue::from_str(id) {
        request.headers_mut().insert("x-request-id", id);
    }
    let stream = TcpStream::connect(target.address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (socket, response) =
        tokio_tungstenite::client_async(request, stream).await.map_err(|error| match error {
            SocketError::Http(response) => format!("status {}", response.status().as_u16()),
            error => error.to_string(),
        })?;
    let instance = response.headers().get("x-instance").and_then(|value| value.to_str().ok());
    end.instance = instance.map(str::to_owned);
    Ok(socket)
}

async fn echo(socket: &mut WebSocketStream<TcpStream>, text: &str) -> Result<(), String> {
    socket.send(Message::text(text)).await.map_err(|error| error.to_string())?;
    match socket.next().await {
        Some(Ok(Message::Text(back))) if back.as_str() == text => Ok(()),
        other => Err(describe(other)),
    }
}

async fn close(socket: &mut WebSocketStream<TcpStream>) -> Result<(), String> {
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    socket.close(Some(frame)).await.map_err(|error| error.to_string())?;
    match socket.next().await {
        Some(Ok(Message::Close(_))) => Ok(()),
        other => Err(describe(other)),
    }
}

fn describe(received: Option<Result<Message, SocketError>>) -> String {
    match received {
        None => "the connection ended".to_owned(),
        Some(Err(error)) => error.to_string(),
        Some(Ok(Message::Close(Some(frame)))) => format!("closed by the server: {frame}"),
        Some(Ok(Message::Close(None))) => "closed by the server".to_owned(),
        Some(Ok(message)) => format!("not the answer: {message:?}"),
    }
}
