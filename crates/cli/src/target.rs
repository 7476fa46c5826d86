//! Which engine a command talks to, why it is that one, and how it is called in messages.
//!
//! Reading order: `target/choice.rs` (the order, pure), `target/context.rs` (Docker's contexts),
//! this file (looks and asks), `target/engine.rs` (what the engine turned out to be).

mod choice;
mod context;
mod engine;

use std::{
    env,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use dockerapi::{Client, ClientError};
use net::TlsFiles;

use self::choice::{Nearest, Own, Said, Socket, Wish};
pub use self::engine::Engine;
use crate::{args::Globals, failure::Failure, place};

/// Where Docker listens.
const DOCKER: &str = "/var/run/docker.sock";
/// How long a Docker nobody named may take to answer.
const PROBE: Duration = Duration::from_secs(5);

/// The engine that is meant.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    /// Why it is this one.
    pub why: String,
    /// To be said before anything else.
    pub warning: Option<String>,
    tls: Option<TlsFiles>,
    kind: Kind,
}

/// Where the address is from, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Keel's own, which keel can start.
    Own,
    Context,
    Other,
}

impl Target {
    pub async fn find(globals: &Globals) -> Result<Self, Failure> {
        let folder = context::folder();
        let said = Said {
            host: globals.host.clone(),
            context: globals.context.clone(),
            docker_host: var("DOCKER_HOST"),
            docker_context: var("DOCKER_CONTEXT"),
            current: folder.as_deref().and_then(context::current),
        };
        match choice::wish(said)? {
            Wish::Host { host, why, warning } => {
                let tls = place::tls();
                Ok(Self { host, why, warning, tls, kind: Kind::Other })
            }
            Wish::Context { name, why } => {
                let folder = folder.ok_or_else(|| {
                    Failure::usage(format!(
                        "context `{name}`: neither DOCKER_CONFIG nor HOME is set"
                    ))
                })?;
                let endpoint = context::find(&folder, &name)?;
                let (host, tls) = (endpoint.host, endpoint.tls);
                Ok(Self { host, why, warning: None, tls, kind: Kind::Context })
            }
            Wish::ThisMachine => Self::nearest(globals).await,
        }
    }

    async fn nearest(globals: &Globals) -> Result<Self, Failure> {
        let (own, state) = own(globals, place::state(globals)?);
        let mut sockets = Vec::new();
        if own == Own::Absent {
            for path in docker_sockets() {
                let socket = probe(&path).await;
                sockets.push((path, socket));
            }
        }
        let sockets: Vec<_> =
            sockets.iter().map(|(path, socket)| (path.as_path(), socket.clone())).collect();
        let (socket, why, kind) = match choice::nearest(own, &sockets) {
            Nearest::Own { why } => (place::engine_socket(&state), why, Kind::Own),
            Nearest::Docker { socket, why } => (socket, why, Kind::Other),
        };
        let host = format!("unix://{}", socket.display());
        Ok(Self { host, why, warning: None, tls: None, kind })
    }

    /// A client of it that has not yet said a word.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = match &self.tls {
            Some(files) => Client::with_tls(&self.host, files),
            None => Client::new(&self.host),
        };
        Ok(client.map_err(|error| self.failure(error))?.because(&self.why))
    }

    /// A client that has agreed on a version with the engine.
    pub async fn connect(&self) -> Result<Client, Failure> {
        self.client()?.negotiate().await.map_err(|error| self.failure(error))
    }

    /// With the next step that helps for this engine.
    pub fn failure(&self, error: ClientError) -> Failure {
        let hint = match (&error, self.kind) {
            (ClientError::NotReachable { .. }, Kind::Own) => {
                "start the engine with `keel daemon --background`, or name another with -H"
            }
            (ClientError::Tls(_), Kind::Context) => {
                "keel wants all three: give the context `ca=`, `cert=` and `key=`"
            }
            _ => return error.into(),
        };
        Failure::from(error).hint(hint)
    }
}

fn var(key: &str) -> Option<String> {
    env::var(key).ok().filter(|value| !value.is_empty())
}

/// Keel's own, and where it is: the user's, or root's where that one answers.
fn own(globals: &Globals, state: PathBuf) -> (Own, PathBuf) {
    if globals.state_dir.as_ref().is_some_and(|folder| !folder.as_os_str().is_empty()) {
        let is_from_env = env::var_os("KEEL_STATE").map(PathBuf::from) == globals.state_dir;
        return (Own::Named(if is_from_env { "KEEL_STATE" } else { "--state-dir" }), state);
    }
    let answers = |state: &Path| UnixStream::connect(place::engine_socket(state)).is_ok();
    let system = PathBuf::from(place::SYSTEM);
    if place::has_engine(&state) || answers(&state) {
        (Own::There, state)
    } else if answers(&system) {
        (Own::There, system)
    } else {
        (Own::Absent, state)
    }
}

fn docker_sockets() -> Vec<PathBuf> {
    let rootless = var("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("docker.sock"));
    [Some(PathBuf::from(DOCKER)), rootless].into_iter().flatten().collect()
}

async fn probe(path: &Path) -> Socket {
    if !path.exists() {
        return Socket::Absent;
    }
    let host = format!("unix://{}", path.display());
    match tokio::time::timeout(PROBE, Client::connect(&host)).await {
        Err(_) => Socket::Silent(format!("no answer within {} s", PROBE.as_secs())),
        Ok(Err(ClientError::NotReachable { reason, .. })) => Socket::Silent(reason),
        // It says something, even if only that it is too old: the command will say what.
        Ok(Ok(_) | Err(_)) => Socket::Answers,
    }
}
