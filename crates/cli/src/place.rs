//! Where things are: the state folder and what is in it.

use std::{
    env,
    path::{Path, PathBuf},
};

use net::TlsFiles;

use crate::{args::Globals, failure::Failure};

/// The state folder of root.
pub const SYSTEM: &str = "/var/lib/evenkeel";

/// The state folder: `--state-dir` or `KEEL_STATE`, else the system's for root, else the user's.
pub fn state(globals: &Globals) -> Result<PathBuf, Failure> {
    if let Some(folder) = globals.state_dir.as_ref().filter(|path| !path.as_os_str().is_empty()) {
        return std::path::absolute(folder).map_err(|error| {
            Failure::usage(format!("--state-dir `{}`: {error}", folder.display()))
        });
    }
    let is_root = rustix::process::geteuid().is_root();
    let var = |key: &str| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    default_state(is_root, var("XDG_STATE_HOME"), var("HOME")).ok_or_else(|| {
        Failure::usage("no state folder: neither HOME nor XDG_STATE_HOME is set")
            .hint("name one with --state-dir")
    })
}

fn default_state(is_root: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from(SYSTEM));
    }
    xdg.or_else(|| Some(home?.join(".local/state"))).map(|folder| folder.join("evenkeel"))
}

/// Whether an engine of keel's own was ever run there.
pub fn has_engine(state: &Path) -> bool {
    state.join("state.db").exists()
}

/// What `DOCKER_TLS_VERIFY` (or `DOCKER_TLS`) and `DOCKER_CERT_PATH` ask for: TLS with these files.
/// The engine is verified either way.
pub fn tls() -> Option<TlsFiles> {
    let var = |key: &str| env::var_os(key).filter(|value| !value.is_empty());
    var("DOCKER_TLS_VERIFY").or_else(|| var("DOCKER_TLS"))?;
    let folder = match var("DOCKER_CERT_PATH") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(var("HOME").unwrap_or_default()).join(".docker"),
    };
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.join(name));
    Some(TlsFiles { ca, cert, key })
}

/// Of keel's own engine.
pub fn engine_socket(state: &Path) -> PathBuf {
    state.join("run/engine.sock")
}

pub fn ingress_socket(state: &Path) -> PathBuf {
    state.join("run/ingress.sock")
}

pub fn daemon_log(state: &Path) -> PathBuf {
    state.join("daemon.log")
}

pub fn ingress_log(state: &Path) -> PathBuf {
    state.join("ingress.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_users_have_their_own_folders() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(default_state(true, None, None), path("/var/lib/evenkeel"));
        assert_eq!(default_state(false, path("/x"), path("/h")), path("/x/evenkeel"));
        assert_eq!(default_state(false, None, path("/h")), path("/h/.local/state/evenkeel"));
        assert_eq!(default_state(false, None, None), None);
    }
}
