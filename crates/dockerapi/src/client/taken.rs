//! A connection that the engine gives up to a command (exec).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::{Client, ClientError, wire::message};

/// How long the engine may take to give a connection up.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// A connection that was taken over: bytes both ways.
pub type Taken = TokioIo<hyper::upgrade::Upgraded>;

impl Client {
    /// Posts, and takes the connection over.
    pub async fn take_over(&self, path: &str, body: &Value) -> Result<Taken, ClientError> {
        let request = Request::post(format!("{}{path}", self.own_prefix(path)))
            .header("Host", "engine")
            .header("Content-Type", "application/json")
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| ClientError::Protocol {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        let taking = async {
            let io = self.own_connection().await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(io))
                .await
                .map_err(|error| self.unreachable(error.to_string()))?;
            tokio::spawn(connection.with_upgrades());
            let answer =
                sender.send_request(request).await.map_err(|error| self.cut(path, &error))?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(answer).await;
                let upgraded = upgraded.map_err(|error| self.cut(path, &error))?;
                return Ok(TokioIo::new(upgraded));
            }
            let status = answer.status();
            let text = self.collect(path, answer.into_body()).await?;
            Err(ClientError::Api { status, message: message(status, &text) })
        };
        timeout(TAKE_OVER, taking).await.unwrap_or_else(|_| Err(self.timed_out(path, TAKE_OVER)))
    }
}
