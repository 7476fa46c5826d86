//! Docker's contexts: engines by name, kept by `docker context` in Docker's own folder.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use net::TlsFiles;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};

/// Where Docker's client keeps its settings: `DOCKER_CONFIG`, else `~/.docker`.
pub fn folder() -> Option<PathBuf> {
    let var = |key: &str| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("DOCKER_CONFIG").or_else(|| Some(var("HOME")?.join(".docker")))
}

/// The context that `docker context use` has chosen.
pub fn current(folder: &Path) -> Option<Result<String, Failure>> {
    let file = folder.join("config.json");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return None,
        Err(error) => return Some(Err(unreadable(&file, &error))),
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(config) => {
            let name = config.get("currentContext")?.as_str()?.to_owned();
            (!name.is_empty()).then_some(Ok(name))
        }
        Err(error) => Some(Err(unreadable(&file, &error))),
    }
}

/// What a context says of its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    /// What the context brings for TLS.
    pub tls: Option<TlsFiles>,
}

/// Looks a context up.
pub fn find(folder: &Path, name: &str) -> Result<Endpoint, Failure> {
    let id = id(name);
    let file = folder.join("contexts/meta").join(&id).join("meta.json");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Err(unknown(folder, name)),
        Err(error) => return Err(unreadable(&file, &error)),
    };
    let meta: Value = serde_json::from_str(&text).map_err(|error| unreadable(&file, &error))?;
    let engine = &meta["Endpoints"]["docker"];
    let Some(host) = engine["Host"].as_str().filter(|host| !host.is_empty()) else {
        return Err(wrong(format!("the context `{name}` names no Docker engine")));
    };
    if engine["SkipTLSVerify"] == true {
        return Err(wrong(format!("the context `{name}` leaves the engine unverified"))
            .hint("keel always verifies: update the context with a `ca=` file of its own"));
    }
    let tls = folder.join("contexts/tls").join(&id).join("docker");
    let files = || {
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| tls.join(name));
        TlsFiles { ca, cert, key }
    };
    Ok(Endpoint { host: host.to_owned(), tls: tls.is_dir().then(files) })
}

/// Docker's name for a context's folders.
fn id(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unknown(folder: &Path, name: &str) -> Failure {
    let mut known: Vec<String> = fs::read_dir(folder.join("contexts/meta"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("meta.json")).ok())
        .filter_map(|text| serde_json::from_slice::<Value>(&text).ok())
        .filter_map(|meta| Some(meta.get("Name")?.as_str()?.to_owned()))
        .collect();
    known.sort();
    let hint = if known.is_empty() {
        "there is none here; make one with `docker context create`".to_owned()
    } else {
        format!("there are default, {}", known.join(", "))
    };
    wrong(format!("no docker context is called `{name}`")).hint(hint)
}

fn wrong(message: String) -> Failure {
    Failure::new("docker-context", message).exit(Exit::Usage)
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new("docker-config", format!("read `{}`: {error}", file.display()))
        .exit(Exit::Usage)
        .hint("it may name the engine that is meant: correct it, or name one with -H")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, name: &str, meta: &str) {
        let place = folder.join("contexts/meta").join(id(name));
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join("meta.json"), meta).expect("written");
    }

    #[test]
    fn a_context_is_found_where_docker_puts_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        // The folder that `docker context create prod` makes.
        assert_eq!(id("prod"), "6754af9632a2745e85c293e5aac0863370d9bd3330b9938c00cadfd215227d77");
        let meta = r#"{"Name":"prod","Metadata":{"Description":"x"},
            "Endpoints":{"docker":{"Host":"ssh://ops@m1","SkipTLSVerify":false}},"Later":1}"#;
        written(at, "prod", meta);
        let endpoint = Endpoint { host: "ssh://ops@m1".to_owned(), tls: None };
        assert_eq!(find(at, "prod"), Ok(endpoint.clone()));
        let tls = at.join("contexts/tls").join(id("prod")).join("docker");
        fs::create_dir_all(&tls).expect("made");
        let found = find(at, "prod").expect("known");
        assert_eq!(found.tls.map(|files| files.key), Some(tls.join("key.pem")));
    }

    #[test]
    fn a_context_that_cannot_be_used_is_a_usage_error_that_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let hint = |name: &str| find(at, name).expect_err("unknown").hint.unwrap_or_default();
        assert!(hint("prod").contains("docker context create"));
        written(at, "a", r#"{"Name":"a","Endpoints":{}}"#);
        assert_eq!(hint("prod"), "there are default, a");
        let skips =
            r#"{"Name":"b","Endpoints":{"docker":{"Host":"tcp://x:1","SkipTLSVerify":true}}}"#;
        written(at, "b", skips);
        written(at, "c", "{");
        for (name, word) in [("a", "no Docker engine"), ("b", "unverified"), ("c", "meta.json")] {
            let failure = find(at, name).expect_err("unusable");
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.contains(word), "{failure:?}");
        }
    }

    #[test]
    fn the_current_context_is_read_from_dockers_settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let write = |text: &str| fs::write(at.join("config.json"), text).expect("written");
        assert_eq!(current(at), None);
        assert_eq!(current(&at.join("config.json/x")), None);
        write(r#"{"auths":{}}"#);
        assert_eq!(current(at), None);
        write(r#"{"currentContext":""}"#);
        assert_eq!(current(at), None);
        write(r#"{"currentContext":"prod"}"#);
        assert_eq!(current(at), Some(Ok("prod".to_owned())));
        write("{");
        assert!(current(at).is_some_and(|read| read.is_err()));
    }
}
