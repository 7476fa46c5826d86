//! `docker login`: whether a registry knows who we say we are.

use http::{Method, StatusCode};

use super::{Credential, Error, Registry, session::Ask};
use crate::image::name::{HUB, Name};

impl Registry {
    /// Asks the registry that the credential is for.
    pub async fn log_in(&self, credential: &Credential) -> Result<(), Error> {
        let server = credential.server_address.trim();
        let host = server.split_once("://").map_or(server, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or("");
        let is_hub = host.is_empty() || host == HUB || host.ends_with(".docker.io");
        let host = if is_hub { HUB } else { host };
        // A repository that nobody has: only the registry itself is asked.
        let name = Name::parse(&format!("{host}/login"))?;
        let session = self.session(&name, credential, "pull").await?;
        let ask = Ask::new(Method::GET, session.base.clone());
        let response = session.ask(&ask).await.map_err(|error| match error {
            Error::Denied { reason, .. } => Error::Login(reason),
            other => other,
        })?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(session.answer(format!("Get {}", session.base), response).await),
        }
    }
}
