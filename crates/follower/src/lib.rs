//! The control side of an ingress in front of a Docker Swarm: follows the tasks through the Docker
//! API and tells this node's ingress which of them take requests.
//!
//! Reading order: [`view`] (what a manager knows), [`local`] (what this node's Docker knows),
//! [`roster`] (which tasks get requests: pure, and the heart of it), [`stop`] (a task is stopped
//! when it is drained: pure), `facts` (asking Docker), `follow` (the loop), [`peer`] (between
//! nodes), `api` (its sockets).
//!
//! This crate never decides what runs: Swarm does. It goes on with what it knew last when no
//! manager answers.

mod api;
mod facts;
mod follow;
pub mod local;
pub mod peer;
mod room;
pub mod roster;
pub mod stop;
pub mod view;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use dockerapi::{Client, ClientError};
use net::TlsFiles;
use orchestrator::traffic::{Command, Event};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Asks the ingress for its counters.
pub type StatsSource =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync + 'static>;

/// What a follower needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's Docker socket.
    pub docker: PathBuf,
    /// Its own socket.
    pub socket: PathBuf,
    /// The version of `keel`.
    pub version: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("follow the Swarm of `{docker}`: {source}")]
    Docker { docker: PathBuf, source: ClientError },
    #[error("Docker at `{docker}` is in no Swarm")]
    NoSwarm { docker: PathBuf },
    #[error(transparent)]
    Listen(#[from] net::ListenError),
    #[error("show other nodes who this one is: {0}")]
    Identity(#[from] net::TlsError),
}

impl Error {
    /// A stable name for the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Docker { .. } => "docker-not-reachable",
            Self::NoSwarm { .. } => "no-swarm",
            Self::Listen(_) => "listen",
            Self::Identity(_) => "node-identity",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Docker { .. } => "start Docker, or name its socket with --swarm=unix:///path",
            Self::NoSwarm { .. } => "run `docker swarm init` (or `join`) there, then start again",
            Self::Listen(_) => "see who listens there with `ss -xltp`",
            Self::Identity(_) => {
                "run as root; of a Swarm that is locked, unlock it (`docker swarm unlock`)"
            }
        }
    }
}

/// A running follower.
#[derive(Debug)]
pub struct Follower {
    shutdown: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
    certificates: PathBuf,
}

impl Follower {
    /// Starts to follow this node's Docker and to listen on its own socket.
    pub async fn start(
        config: &Config,
        commands: mpsc::Sender<Command>,
        events: mpsc::Receiver<Event>,
        stats: StatsSource,
    ) -> Result<Self, Error> {
        let (docker, info) = docker(&config.docker).await?;
        let root = info.get("DockerRootDir").and_then(Value::as_str).unwrap_or("/var/lib/docker");
        let docker_root = PathBuf::from(root);
        let certificates = peer::certificates(&docker_root);
        let identity = TlsFiles::of_swarm_node(&certificates);
        let listener = net::shared_listener(&config.socket)?;
        let shared = Arc::new(follow::Shared::default());
        let (shutdown, ends) = watch::channel(false);
        let following = follow::Loop::new(
            docker,
            Arc::clone(&shared),
            (commands, events),
            identity.clone(),
            ends.clone(),
        );
        let mut running = vec![tokio::spawn(following.run())];
        let (docker, version) = (config.docker.clone(), config.version);
        let identity_too = identity.clone();
        let api = api::Api { shared, docker, stats, version, identity: identity_too, docker_root };
        let own = api.clone();
        let serving = net::serve(listener, net::Limits::default(), ends.clone(), move |request| {
            own.clone().respond(request)
        });
        running.push(tokio::spawn(serving));
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, peer::PORT));
        let peers = net::tcp_listener(address, net::TcpOptions::default())?;
        let peers = net::TlsListener::new(peers, identity)?;
        let serving = net::serve(peers, net::Limits::default(), ends, move |request| {
            api.clone().respond_to_peer(request)
        });
        running.push(tokio::spawn(serving));
        Ok(Self { shutdown, running, certificates })
    }

    /// The folder in which Docker keeps this node's certificates.
    pub fn certificates(&self) -> &Path {
        &self.certificates
    }

    /// Ends the follower; Swarm and the ingress go on.
    pub async fn shutdown(self) {
        let _ = self.shutdown.send(true);
        for part in self.running {
            let _ = part.await;
        }
    }
}

/// A client of a Docker that is in a Swarm.
async fn docker(socket: &Path) -> Result<(Client, Value), Error> {
    let failed = |source| Error::Docker { docker: socket.to_owned(), source };
    let host = format!("unix://{}", socket.display());
    let docker = Client::connect(&host).await.map_err(failed)?;
    let info = docker.info().await.map_err(failed)?;
    let state = info.pointer("/Swarm/LocalNodeState").and_then(Value::as_str);
    match state {
        None | Some("" | "inactive") => Err(Error::NoSwarm { docker: socket.to_owned() }),
        Some(_) => Ok((docker, info)),
    }
}
