//! What can go wrong between the client and an engine.

use std::{path::PathBuf, time::Duration};

use http::StatusCode;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent.
    #[error("the engine at {host} cannot be reached: {reason}")]
    NotReachable { host: String, reason: String },
    /// The connection was lost after the request was sent: it may have been carried out.
    #[error("the engine at {host} ended the connection before it answered {path}: {reason}")]
    Cut { host: String, path: String, reason: String },
    /// The engine answered with an error.
    #[error("{message}")]
    Api { status: StatusCode, message: String },
    #[error("the engine at {host} did not answer {path} within {} s", .after.as_secs())]
    TimedOut { host: String, path: String, after: Duration },
    #[error("the engine's answer to {path} cannot be read: {reason}")]
    Protocol { path: String, reason: String },
    #[error("`{host}` is not an engine's address: {reason}")]
    BadHost { host: String, reason: String },
    /// No version of the API that both sides speak.
    #[error("the engine at {host} {reason}")]
    Version { host: String, reason: String },
    #[error("read `{path}`: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] net::TlsError),
}

impl ClientError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// The name is taken.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { status, .. } if *status == StatusCode::CONFLICT)
    }

    /// Somebody else changed the object first: read it again.
    pub fn is_out_of_sequence(&self) -> bool {
        matches!(self, Self::Api { message, .. } if message.contains("update out of sequence"))
    }

    /// The engine may be starting again: worth another try.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotReachable { .. } | Self::Cut { .. } | Self::TimedOut { .. } => true,
            Self::Api { status, .. } => {
                *status == StatusCode::SERVICE_UNAVAILABLE && self.swarm_state().is_none()
            }
            Self::Protocol { .. }
            | Self::BadHost { .. }
            | Self::Version { .. }
            | Self::File { .. }
            | Self::Tls(_) => false,
        }
    }

    /// A stable name for the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotReachable { .. } => "engine-not-reachable",
            Self::Cut { .. } => "engine-connection-cut",
            Self::Api { status, .. } if *status == StatusCode::NOT_FOUND => "not-found",
            Self::Api { .. } => self.swarm_state().map_or("engine-refused", |(code, _)| code),
            Self::TimedOut { .. } => "engine-timed-out",
            Self::Protocol { .. } => "engine-answer-unreadable",
            Self::BadHost { .. } => "bad-host",
            Self::Version { .. } => "engine-version",
            Self::File { .. } => "file-unreadable",
            Self::Tls(_) => "tls-files",
        }
    }

    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotReachable { host, .. } if host.starts_with("ssh://") => Some(
                "log in there once by hand with `ssh`; `docker` or `keel` must be on the PATH that \
                 it has for commands",
            ),
            Self::NotReachable { .. } => Some(
                "see whether the engine runs (`keel daemon --background` starts keel's own), or \
                 name another with -H",
            ),
            Self::Cut { reason, .. } if reason.contains("invalid HTTP version") => Some(
                "an engine over TCP may want TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH",
            ),
            Self::Cut { .. } | Self::TimedOut { .. } => {
                Some("look at what the engine is doing with `keel ps`, then repeat the command")
            }
            Self::BadHost { .. } => Some("see `-H` and `DOCKER_HOST` in `keel --help`"),
            Self::Api { .. } => self.swarm_state().map(|(_, hint)| hint),
            Self::Version { .. } => Some("update the older of the two, or name another with -H"),
            Self::Tls(_) => {
                Some("DOCKER_CERT_PATH names a folder with ca.pem, cert.pem and key.pem")
            }
            Self::Protocol { .. } | Self::File { .. } => None,
        }
    }

    /// A Docker engine that cannot act for a swarm: a code and what to do. The texts are those of
    /// moby's `daemon/cluster/errors.go`, which have no status of their own.
    fn swarm_state(&self) -> Option<(&'static str, &'static str)> {
        let Self::Api { status, message } = self else { return None };
        if *status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let says = |text: &str| message.contains(text);
        if says("is not a swarm manager. Worker") {
            Some(("not-a-manager", "name a manager of the swarm with -H ssh://user@manager"))
        } else if says("is not a swarm manager") {
            Some(("not-a-manager", "make it one: `docker swarm init` on that machine"))
        } else if says("Swarm is encrypted") {
            Some(("swarm-locked", "unlock it: `docker swarm unlock` on that machine"))
        } else {
            None
        }
    }
}
