//! Between the daemons of a Swarm's nodes: mutual TLS under the Swarm's own authority.
//!
//! Every node of a Swarm has a certificate that Swarm itself renews, with its id and its role as
//! names, and knows the authority. So there is nothing to set up: who is in the Swarm gets in, and
//! who left it does not.
//!
//! ```text
//! GET /evenkeel/v1/view     any node    what a manager knows, for workers
//! GET /evenkeel/v1/ready    any node
//! ANY /docker/…             managers    this node's Docker
//! ```

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use net::{TlsFiles, tls::Connector};
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use crate::view::View;

/// Where the daemons of other nodes are reached.
pub const PORT: u16 = 7480;
/// Where the ingresses of other nodes are reached, each for the tasks of its own node.
pub const RELAY_PORT: u16 = 7481;
/// The name that every manager's certificate has.
pub const MANAGER: &str = "swarm-manager";
/// A view of tens of thousands of tasks.
const VIEW_BYTES: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("reach the daemon of node {node} at {address}: {source}")]
    Reach { node: String, address: SocketAddr, source: io::Error },
    #[error("the daemon of node {node} did not answer: {reason}")]
    Answer { node: String, reason: String },
    #[error("show who this node is: {0}")]
    Identity(#[from] net::TlsError),
}

/// The folder of the node's certificates, below Docker's root folder.
pub fn certificates(docker_root: &Path) -> PathBuf {
    docker_root.join("swarm/certificates")
}

/// A connection to another node's daemon, ready for one request. `name` is the node's id, or
/// [`MANAGER`] for whatever manager is there.
pub(crate) async fn connect<B>(
    files: &TlsFiles,
    address: IpAddr,
    name: &str,
) -> Result<http1::SendRequest<B>, PeerError>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let address = SocketAddr::new(address, PORT);
    let failed = |source| PeerError::Reach { node: name.to_owned(), address, source };
    let connector = Connector::new(files)?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connector.connect(name, stream).await
    };
    let stream = timeout(CONNECT, connecting)
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(io::Error::other(error)))?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// A manager to which a worker keeps a connection.
#[derive(Debug, Default)]
pub(crate) struct Source {
    kept: Option<http1::SendRequest<Empty<Bytes>>>,
}

impl Source {
    /// The view of one of the managers; the next one is asked when one does not answer.
    pub(crate) async fn view(
        &mut self,
        files: &TlsFiles,
        managers: &[IpAddr],
    ) -> Result<View, PeerError> {
        let none = || PeerError::Answer {
            node: MANAGER.to_owned(),
            reason: "this worker knows of no manager".to_owned(),
        };
        if let Some(kept) = &mut self.kept {
            match ask(kept).await {
                Ok(view) => return Ok(view),
                Err(_) => self.kept = None,
            }
        }
        let mut last = none();
        for manager in managers {
            match connect(files, *manager, MANAGER).await {
                Ok(mut sender) => match ask(&mut sender).await {
                    Ok(view) => {
                        self.kept = Some(sender);
                        return Ok(view);
                    }
                    Err(error) => last = error,
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn ask(manager: &mut http1::SendRequest<Empty<Bytes>>) -> Result<View, PeerError> {
    get(manager, "/evenkeel/v1/view", MANAGER).await
}

async fn get<T: DeserializeOwned>(
    manager: &mut http1::SendRequest<Empty<Bytes>>,
    path: &str,
    node: &str,
) -> Result<T, PeerError> {
    let failed = |reason: String| PeerError::Answer { node: node.to_owned(), reason };
    let asking = async {
        manager.ready().await.map_err(|error| failed(error.to_string()))?;
        let request = Request::get(path)
            .header(http::header::HOST, node)
            .body(Empty::new())
            .map_err(|error| failed(error.to_string()))?;
        let answer = manager.send_request(request).await.map_err(|e| failed(e.to_string()))?;
        read(answer).await.map_err(failed)
    };
    timeout(ANSWER, asking).await.map_err(|_| failed("it took longer than 5 s".to_owned()))?
}

/// What another node's daemon says of itself.
pub(crate) async fn ready(
    files: &TlsFiles,
    address: IpAddr,
    node: &str,
) -> Result<serde_json::Value, PeerError> {
    let mut sender = connect(files, address, node).await?;
    get(&mut sender, "/evenkeel/v1/ready", node).await
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, String> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), VIEW_BYTES);
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}
