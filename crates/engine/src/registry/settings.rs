//! What the operator says about registries: files in the state folder, read anew at every use.
//!
//! ```text
//! STATE/registries.json         {"insecure": ["registry.lan:5000"]}: these may be plain HTTP
//! STATE/certs.d/HOST/ca.crt     certificates (PEM) that this registry's may be signed by
//! ```

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;

use super::Error;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    insecure: Vec<String>,
}

/// The settings as they were at one moment.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    insecure: Vec<String>,
    certificates: PathBuf,
}

impl Settings {
    pub(super) fn read(state: &Path) -> Result<Self, Error> {
        let path = state.join("registries.json");
        let wrong = |reason: String| Error::Settings { path: path.clone(), reason };
        let file = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::default(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        Ok(Self { insecure: file.insecure, certificates: state.join("certs.d") })
    }

    /// Whether this registry (`host` or `host:port`) may be spoken to in plain HTTP.
    pub(super) fn may_be_plain(&self, authority: &str) -> bool {
        let host = without_port(authority);
        is_loopback(host) || self.insecure.iter().any(|known| known == authority || known == host)
    }

    fn path(&self, authority: &str) -> PathBuf {
        self.certificates.join(authority).join("ca.crt")
    }

    pub(super) fn has_certificates(&self, authority: &str) -> bool {
        self.path(authority).exists()
    }

    /// The certificates of one registry.
    pub(super) fn certificates(
        &self,
        authority: &str,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let path = self.path(authority);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let wrong = |reason: String| Error::Settings { path: path.clone(), reason };
        let all = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(error.to_string()))?;
        let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
        if all.is_empty() {
            return Err(wrong("it holds no certificate".to_owned()));
        }
        Ok(all)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// An address of this machine only. Names are not looked up, but `localhost`.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_and_for_whom_the_operator_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || Settings::read(folder.path());
        let none = read().expect("no file is fine");
        for host in ["127.0.0.1:5000", "127.8.9.1", "localhost:1", "[::1]:5000", "localhost"] {
            assert!(none.may_be_plain(host), "{host}");
        }
        for host in ["r.example", "10.0.0.1:5000", "127.0.0.1.example:5000", "localhost.example"] {
            assert!(!none.may_be_plain(host), "{host}");
        }
        let file = folder.path().join("registries.json");
        fs::write(&file, r#"{"insecure":["r.example:5000"]}"#).expect("written");
        let named = read().expect("read");
        assert!(named.may_be_plain("r.example:5000") && !named.may_be_plain("r.example:5001"));
        fs::write(&file, r#"{"insecur":[]}"#).expect("written");
        assert!(read().expect_err("refused").to_string().contains("registries.json"));
    }
}
