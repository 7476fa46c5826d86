//! A registry (Debian's `docker-registry`) on a loopback port, that lets one user in.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::until;

pub const USER: &str = "alice";
pub const PASSWORD: &str = "of-alice";
/// The same as `htpasswd -B` writes it.
const USERS: &str = "alice:$2y$05$32z7As7keqdq.SR38kAKx.rshqr2iiS1vvwTGvCUWZBQrzzvIfHjy\n";

/// Ended when it is dropped.
pub struct Registry {
    pub host: String,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// It answers.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("keel-").tempdir()?;
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let at = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             http: {{addr: \"{host}\"}}\nauth: {{htpasswd: {{realm: test, path: {at}/users}}}}\n"
        );
        fs::write(folder.path().join("users"), USERS)?;
        fs::write(folder.path().join("config.yml"), config)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("run docker-registry; `scripts/setup test` installs it")?;
        let registry = Self { host, process, _folder: folder };
        until("the registry answers", || Ok(TcpStream::connect(&registry.host).is_ok()))?;
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
