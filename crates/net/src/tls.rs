//! Mutual TLS: who may connect is who shows a certificate of our authority, on both sides.
//!
//! TLS 1.2 and 1.3 alone. Certificates, keys and authorities are PEM files, as Docker's
//! `--tlscacert`, `--tlscert` and `--tlskey` name them.

mod connect;
mod latest;
mod listen;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    server::ParsedCertificate,
};

pub use connect::{ClientStream, Connector, Renewed};
pub use listen::TlsListener;

/// The three files that either side needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whose certificates are believed.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read `{path}`: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` has no {what} in PEM form")]
    Empty { path: PathBuf, what: &'static str },
    #[error("`{path}` is not {what} in PEM form: {reason}")]
    Unreadable { path: PathBuf, what: &'static str, reason: String },
    #[error("certificate `{cert}` with key `{key}`: {reason}")]
    Pair { cert: PathBuf, key: PathBuf, reason: String },
    #[error("authority `{path}`: {reason}")]
    Authority { path: PathBuf, reason: String },
}

/// The certificate that a client has proven to hold.
#[derive(Clone, Debug)]
pub struct Peer(CertificateDer<'static>);

impl Peer {
    /// Its authority vouches that this is one of its names.
    pub fn is_named(&self, name: &str) -> bool {
        let certificate = ParsedCertificate::try_from(&self.0);
        let name = ServerName::try_from(name);
        match (certificate, name) {
            (Ok(certificate), Ok(name)) => verify_server_name(&certificate, &name).is_ok(),
            _ => false,
        }
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsFiles {
    /// A Swarm node's own, in the folder where Docker keeps and renews them.
    pub fn of_swarm_node(folder: &Path) -> Self {
        Self {
            ca: folder.join("swarm-root-ca.crt"),
            cert: folder.join("swarm-node.crt"),
            key: folder.join("swarm-node.key"),
        }
    }

    fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| TlsError::Authority {
                path: self.ca.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(roots)
    }

    fn identity(&self) -> Result<Identity, TlsError> {
        let what = "private key";
        let text = std::fs::read_to_string(&self.key)
            .map_err(|source| TlsError::Read { path: self.key.clone(), source })?;
        let key = PrivateKeyDer::from_pem_slice(without_headers(&text).as_bytes())
            .map_err(|error| wrong(&self.key, what, "a private key", error))?;
        Ok((certificates(&self.cert)?, key))
    }

    fn unusable(&self, error: &rustls::Error) -> TlsError {
        let (cert, key) = (self.cert.clone(), self.key.clone());
        TlsError::Pair { cert, key, reason: error.to_string() }
    }
}

/// Swarm writes headers (`kek-version: 0`) into its keys, as RFC 1421 has them; readers of today's
/// PEM (RFC 7468) know of none.
fn without_headers(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains(':'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (what, a) = ("certificate", "a certificate");
    let read = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, what, a, error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| wrong(path, what, a, error))?;
    if all.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), what });
    }
    Ok(all)
}

fn wrong(path: &Path, what: &'static str, a: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Read { path, source },
        pem::Error::NoItemsFound => TlsError::Empty { path, what },
        other => TlsError::Unreadable { path, what: a, reason: other.to_string() },
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
