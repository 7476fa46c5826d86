//! The client's side: connects to a server that our authority vouches for, and shows who we are.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TlsError, TlsFiles, latest::Latest, provider};

/// A connection to a server that is who it says.
pub type ClientStream = TlsStream<TcpStream>;

/// Makes TLS connections with one identity.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let (certificates, key) = files.identity()?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| files.unusable(&error))?
            .with_root_certificates(files.authorities()?)
            .with_client_auth_cert(certificates, key)
            .map_err(|error| files.unusable(&error))?;
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake with the server that is to be `name` (a host name or an address).
    pub async fn connect(&self, name: &str, stream: TcpStream) -> io::Result<ClientStream> {
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, stream).await
    }
}

/// A [`Connector`] that goes with its files as they change; made when it is first wanted.
pub struct Renewed(Mutex<Latest<Connector>>);

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renewed")
    }
}

impl Renewed {
    pub fn new(files: TlsFiles) -> Self {
        Self(Mutex::new(Latest::new(files, Connector::new)))
    }

    /// The one of now.
    pub fn connector(&self) -> Result<Arc<Connector>, TlsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).current()
    }
}
