//! What the daemon controls the ingress by: the embedded engine, or the follower of a Docker Swarm.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use engine::traffic::{Command, Event};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{private_folder, traffic};
use crate::{args, failure::Failure, place};

pub(super) enum Control {
    Engine(engine::Engine),
    /// With the lock of the state folder.
    Follower(follower::Follower, File),
}

impl Control {
    /// Starts the one that was asked for, on the state folder's socket.
    pub(super) async fn start(
        state: &Path,
        keel: &Path,
        daemon: &args::Daemon,
        (commands, events): (mpsc::Sender<Command>, mpsc::Receiver<Event>),
        link: &traffic::Link,
    ) -> Result<Self, Failure> {
        let stats = stats_source(link);
        let Some(docker) = &daemon.swarm else {
            let registries = engine::registry::Options {
                uses_hub: !daemon.no_hub,
                ..engine::registry::Options::default()
            };
            let config = engine::Config {
                state: state.to_owned(),
                keel: keel.to_owned(),
                ignores_limits: daemon.ignore_limits,
                registries,
            };
            let engine =
                engine::Engine::start(&config, commands, events, stats).map_err(|error| {
                    Failure::new(error.code(), error.to_string()).hint(error.hint())
                })?;
            tracing::info!(state = %state.display(), pid = std::process::id(), "the engine runs");
            return Ok(Self::Engine(engine));
        };
        let Some(docker) = docker.strip_prefix("unix://") else {
            return Err(Failure::usage(format!("--swarm={docker}: not a socket of this node"))
                .hint("write --swarm=unix:///path; each node has a daemon of its own"));
        };
        let run = private_folder(state.join("run"))?;
        for folder in [state, &run] {
            net::let_pass(folder).map_err(|error| {
                let what = format!("let the group docker pass `{}`: {error}", folder.display());
                Failure::new("state-folder", what)
            })?;
        }
        let lock = engine::lock(state)
            .map_err(|error| Failure::new(error.code(), error.to_string()).hint(error.hint()))?;
        let config = follower::Config {
            docker: PathBuf::from(docker),
            socket: place::engine_socket(state),
            version: env!("CARGO_PKG_VERSION"),
        };
        let follower = follower::Follower::start(&config, commands, events, stats)
            .await
            .map_err(|error| Failure::new(error.code(), error.to_string()).hint(error.hint()))?;
        tracing::info!(docker, pid = std::process::id(), "following the Swarm");
        Ok(Self::Follower(follower, lock))
    }

    /// Ends control; what runs, and traffic, go on.
    pub(super) async fn shutdown(self) {
        match self {
            Self::Engine(engine) => engine.shutdown().await,
            Self::Follower(follower, _lock) => follower.shutdown().await,
        }
    }

    /// The certificates by which the ingress is known to those of other nodes.
    pub(super) fn certificates(&self) -> Option<PathBuf> {
        match self {
            Self::Engine(_) => None,
            Self::Follower(follower, _) => Some(follower.certificates().to_owned()),
        }
    }
}

fn stats_source(link: &traffic::Link) -> engine::StatsSource {
    let link = Arc::clone(link);
    Arc::new(move || {
        let client = link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            match client {
                Some(client) => client.stats().await.unwrap_or(Value::Null),
                None => Value::Null,
            }
        })
    })
}
