//! Registries (OCI distribution, Docker's registry API v2): images come from them and go to them.
//!
//! Reading order: [`challenge`] and `location` (pure), `settings` (what the operator says),
//! `transport` (HTTP), `session` (who we are, redirects, repetition), `download` (one layer, once),
//! then `pull` and `push`.
//!
//! Nothing that a registry sends is believed: every byte is checked against the digest that named
//! it, and a password goes to the registry or its token service only, never along a redirect.

pub mod challenge;
mod credential;
mod download;
pub mod location;
mod login;
mod progress;
mod pull;
mod push;
mod session;
mod settings;
mod token;
mod transport;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use self::{credential::Credential, progress::Teller, pull::Pulled, transport::Patience};
use self::{download::Downloads, session::Session, settings::Settings, transport::Transport};
use crate::image::{
    self,
    name::{HUB, Name, NameError},
};

/// Talks to registries for the image store.
#[derive(Debug)]
pub struct Registry {
    /// The state folder, where the operator's settings are.
    state: PathBuf,
    images: Arc<image::Store>,
    downloads: Downloads,
    options: Options,
}

/// How a registry client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether names without a registry are looked up at Docker Hub.
    pub uses_hub: bool,
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Self {
        Self { uses_hub: true, patience: Patience::default() }
    }
}

/// What goes wrong with registries. Texts are Docker's where Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{name} names no registry, and this engine does not ask Docker Hub (--no-hub)")]
    NoHub { name: String },
    #[error("{what}: {reason}{}", hint(reason, host))]
    Connect { what: String, reason: String, host: String },
    #[error("{what}: no answer within {seconds} s")]
    Stalled { what: String, seconds: u64 },
    #[error("{what}: the connection was cut: {reason}")]
    Cut { what: String, reason: String },
    #[error("set up TLS: {0}")]
    Tls(String),
    #[error(
        "{action} access denied for {repository}, repository does not exist or may require \
         'docker login': {reason}"
    )]
    Denied { action: &'static str, repository: String, reason: String },
    #[error("unauthorized: incorrect username or password ({0})")]
    Login(String),
    #[error("manifest for {name} not found: {reason}")]
    Missing { name: String, reason: String },
    #[error("{what}: the registry answered {status}{message}")]
    Answer { what: String, status: u16, message: String },
    #[error("the registry cannot be trusted: {reason}; nothing was kept")]
    Lies { reason: String },
    #[error("{name} is larger than it may be ({bytes} bytes)")]
    TooLarge { name: String, bytes: u64 },
    #[error("registry settings `{path}`: {reason}")]
    Settings { path: PathBuf, reason: String },
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error("not done within {} s", .0.as_secs())]
    Deadline(Duration),
}

/// What to do about it.
fn hint(reason: &str, host: &str) -> String {
    if reason.contains("UnknownIssuer") || reason.contains("certificate") {
        return format!(
            "; if this registry has a CA of its own, put it into `certs.d/{host}/ca.crt` in the \
             state folder"
        );
    }
    if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        return format!(
            "; it does not speak TLS. If plain HTTP is meant, name `{host}` under `insecure` in \
             `registries.json` in the state folder"
        );
    }
    String::new()
}

impl Error {
    /// Whether trying again may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connect { reason, .. } => !reason.contains("certificate"),
            Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Answer { status, .. } => *status >= 500 || *status == 429,
            Self::Name(_)
            | Self::NoHub { .. }
            | Self::Tls(_)
            | Self::Denied { .. }
            | Self::Login(_)
            | Self::Missing { .. }
            | Self::Lies { .. }
            | Self::TooLarge { .. }
            | Self::Settings { .. }
            | Self::Image(_)
            | Self::Deadline(_) => false,
        }
    }
}

impl Registry {
    pub fn new(state: PathBuf, images: Arc<image::Store>, options: Options) -> Self {
        Self { state, images, downloads: Downloads::default(), options }
    }

    /// A conversation about one repository.
    async fn session(
        &self,
        name: &Name,
        credential: &Credential,
        action: &'static str,
    ) -> Result<Session, Error> {
        if name.host == HUB && !self.options.uses_hub {
            return Err(Error::NoHub { name: name.to_string() });
        }
        let settings = Settings::read(&self.state)?;
        let transport = Transport::new(settings, self.options.patience);
        Session::open(transport, name, credential.clone(), action).await
    }
}
