//! Running the system's tools, each with a deadline.

use std::{
    ffi::OsStr,
    fmt::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Error;

/// How long one tool may take.
const TOOL: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a lab cannot do without.
const COMPONENTS: [(&str, &str); 9] = [
    ("ip", "from iproute2: bridges and network namespaces"),
    ("iptables", "keeps the lab's traffic inside"),
    ("nsenter", "from util-linux: starts a daemon in its node's namespace"),
    ("unshare", "from util-linux: gives each node its host name"),
    ("umount", "from mount: clears what daemons left"),
    ("timeout", "from coreutils: ends a tool that hangs"),
    ("dockerd", "the Docker daemon of each node"),
    ("containerd", "runs the containers of each node"),
    ("docker", "the Docker client"),
];

/// The first component that is not there.
pub fn check_components() -> Result<(), Error> {
    for (component, purpose) in COMPONENTS {
        if find(component).is_none() {
            return Err(Error::Missing { component, purpose });
        }
    }
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The search path, with the administrator's folders whoever calls.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// A command that finds the administrator's tools and ignores the caller's Docker settings.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Runs a tool to its end; what it wrote on standard output.
pub fn run(words: &[&str]) -> Result<String, Error> {
    let mut bounded = command("timeout");
    bounded.args(["--kill-after=5", &TOOL.as_secs().to_string()]).args(words);
    finish(bounded.stdin(Stdio::null()), &words.join(" "))
}

/// Runs a prepared command; its standard output when it went well.
pub fn finish(command: &mut Command, line: &str) -> Result<String, Error> {
    let failed = |said: String| Error::Command { line: line.to_owned(), said };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() {
        let _ = write!(said, "{}", output.status);
    }
    Err(failed(said))
}

/// Looks again and again until it is so. What `look` says last goes into the error.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(said) if started.elapsed() > limit => {
                return Err(Error::Deadline { what: what.to_owned(), limit, said });
            }
            Err(_) => thread::sleep(LOOK_AGAIN),
        }
    }
}

/// The last line of a log, for an error.
pub fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}
