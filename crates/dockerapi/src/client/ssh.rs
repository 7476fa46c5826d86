//! An engine on another machine, reached through the system's `ssh`.
//!
//! As Docker's client does it: a command over there joins a pipe to the engine's socket, so the
//! user's own ssh configuration, keys and agent decide. That command is `keel dial-stdio`, because
//! on a Swarm keel's daemon leads to every node, or where there is no `keel`, in the same login,
//! `docker system dial-stdio`. A `keel` there that leads to no engine keeps nobody from Docker.
//! Arguments are a vector; what the far shell is to read is quoted.

mod pipe;

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::process::Command;

pub(super) use self::pipe::Pipe;
use self::pipe::Watch;

/// How long a login may take; a little more than what `ssh` itself is given.
pub(super) const LOGIN: Duration = Duration::from_secs(40);
/// How long `ssh` may take to say why it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What `ssh` itself exits with when it does not get there.
const NO_LOGIN: i32 = 255;
/// What a shell exits with when there is no such command.
const NO_COMMAND: i32 = 127;

/// Where to log in.
#[derive(Clone, Debug)]
pub(super) struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket there, when it is not the usual one.
    path: Option<String>,
    /// What has led to the engine before.
    way: Arc<OnceLock<Way>>,
}

/// The command on the other machine that leads to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `keel`, or where there is none, `docker`.
    Keel,
    Docker,
}

impl Way {
    const ALL: [Self; 2] = [Self::Keel, Self::Docker];
}

impl Ssh {
    /// What follows `ssh://`: `[user@]host[:port][/path]`.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(|c: char| c.is_control() || " ?#%\\".contains(c)) {
            return Err("write ssh://[user@]host[:port][/path], without escapes");
        }
        let (place, path) = match text.find('/') {
            Some(at) => (&text[..at], Some(&text[at..])),
            None => (text, None),
        };
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password does not belong into an address; use a key");
        }
        let (host, port) = host_and_port(place)?;
        if host.is_empty() || user.is_some_and(str::is_empty) {
            return Err("write ssh://[user@]host[:port][/path]");
        }
        if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
            return Err("a name that begins with `-` would be an option of ssh");
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.filter(|path| *path != "/").map(str::to_owned),
            way: Arc::default(),
        })
    }

    /// The ways worth a try, the one that worked before alone.
    pub(super) fn ways(&self) -> &[Way] {
        self.way.get().map_or(&Way::ALL, std::slice::from_ref)
    }

    pub(super) fn remember(&self, way: Way) {
        let _ = self.way.set(way);
    }

    /// Starts `ssh`; the watch knows how it ended and what it said.
    pub(super) fn start(&self, way: Way) -> std::io::Result<(Pipe, Watch)> {
        let mut command = Command::new("ssh");
        // The terminal belongs to keel: only a program of its own may ask for a passphrase.
        let may_ask = std::env::var_os("SSH_ASKPASS").is_some_and(|program| !program.is_empty());
        command.args(self.arguments(way, may_ask));
        if may_ask {
            command.env("SSH_ASKPASS_REQUIRE", "force");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for keel, which may still have to go back over this very connection.
            .process_group(0)
            .kill_on_drop(true);
        pipe::join(command.spawn()?)
    }

    fn arguments(&self, way: Way, may_ask: bool) -> Vec<String> {
        let mut list = Vec::new();
        if let Some(user) = &self.user {
            list.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            list.extend(["-p".to_owned(), port.to_string()]);
        }
        list.extend(["-o", "ConnectTimeout=30"].map(str::to_owned));
        if !may_ask {
            list.extend(["-o", "BatchMode=yes"].map(str::to_owned));
        }
        list.extend(["-T", "--", &self.host].map(str::to_owned));
        list.push(self.command(way));
        list
    }

    /// For the far shell, whichever that is.
    fn command(&self, way: Way) -> String {
        let host = self.path.as_ref().map(|path| quoted(&format!("unix://{path}")));
        let host = host.map(|host| format!(" --host {host}")).unwrap_or_default();
        let docker = format!("docker{host} system dial-stdio");
        match way {
            Way::Keel => {
                let keel = format!("command -v keel >/dev/null && exec keel{host} dial-stdio");
                format!("sh -c {}", quoted(&format!("{keel}; exec {docker}")))
            }
            Way::Docker => docker,
        }
    }
}

/// `host`, `host:22`, `[::1]`, `[::1]:22`.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return Err("a `[` has no `]`"),
        Some(Some((host, rest))) => (host, rest.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(|port| port.parse().map_err(|_| "the port is not a number"));
    Ok((host, port.transpose()?))
}

/// As one word for the shell on the other machine.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-+=@,".contains(c);
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An address to show in an error.
pub(super) fn without_password(host: &str) -> String {
    let Some((scheme, rest)) = host.split_once("://") else { return host.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, place)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:***@{place}{}", &rest[end..])
        }
        _ => host.to_owned(),
    }
}

/// Why one way did not lead to an engine.
#[derive(Debug)]
pub(super) struct Refusal {
    way: Way,
    status: Option<ExitStatus>,
    said: String,
}

impl Refusal {
    /// Asks `ssh` how it ended, for a moment.
    pub(super) async fn learn(way: Way, watch: Watch, otherwise: &str) -> Self {
        let (status, said) = watch.ended(LAST_WORDS).await;
        let said = if said.is_empty() { otherwise.to_owned() } else { said };
        Self { way, status, said }
    }

    fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The other machine was not even reached, or has neither command: another one is no help.
    pub(super) fn is_final(&self) -> bool {
        self.code().is_none_or(|code| matches!(code, NO_LOGIN | NO_COMMAND))
    }

    fn text(&self) -> String {
        let said = &self.said;
        match (self.code(), self.way) {
            (Some(NO_LOGIN), _) => format!("ssh: {}", said.trim_start_matches("ssh: ")),
            (Some(NO_COMMAND), Way::Keel) => {
                "neither `keel` nor `docker` is on the PATH there".to_owned()
            }
            (Some(code), _) => format!("{said} (exit {code} there)"),
            (None, _) => said.clone(),
        }
    }
}

/// All of them in one line. Where there is no `keel`, Docker was asked twice.
pub(super) fn reason(refusals: &[Refusal]) -> String {
    let mut texts: Vec<String> = refusals.iter().map(Refusal::text).collect();
    texts.dedup();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str, way: Way) -> String {
        Ssh::parse(text).expect("an address").arguments(way, false).join(" ")
    }

    #[test]
    fn the_command_is_that_of_dockers_client() {
        let options = "-o ConnectTimeout=30 -o BatchMode=yes -T --";
        assert_eq!(
            arguments("ops@manager.example:2222", Way::Docker),
            format!("-l ops -p 2222 {options} manager.example docker system dial-stdio")
        );
        assert_eq!(
            arguments("[::1]:22/run/my'docker.sock", Way::Docker),
            format!(
                r"-p 22 {options} ::1 docker --host 'unix:///run/my'\''docker.sock' system dial-stdio"
            )
        );
        assert_eq!(
            arguments("h/", Way::Keel),
            format!(
                "{options} h sh -c 'command -v keel >/dev/null && exec keel dial-stdio; \
                 exec docker system dial-stdio'"
            )
        );
    }

    /// A shell reads what `sh` is to run, and that reads the words: each takes its quotes off.
    #[test]
    fn a_path_is_one_word_for_the_shell_within_the_shell() {
        let folder = tempfile::tempdir().expect("a folder");
        let keel = folder.path().join("keel");
        std::fs::write(&keel, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&keel, mode).expect("executable");
        for path in ["/run/docker.sock", "/run/it's $HOME; `x`\"&*"] {
            let mut ssh = Ssh::parse("h/x").expect("an address");
            ssh.path = Some(path.to_owned());
            let search = format!("{}:/usr/bin:/bin", folder.path().display());
            let output = std::process::Command::new("/bin/sh")
                .args(["-c", &ssh.command(Way::Keel)])
                .env("PATH", search)
                .output()
                .expect("runs");
            let heard = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(heard, format!("--host\nunix://{path}\ndial-stdio\n"));
        }
    }

    #[test]
    fn what_ssh_or_a_shell_could_take_for_more_than_a_name_is_refused() {
        for wrong in [
            "",
            "@h",
            "-oProxyCommand=x",
            "-l@h",
            "a@-h",
            "u:secret@h",
            "h:port",
            "[::1",
            "h:99999",
            "h?x",
            "h#x",
            "h%20x",
            "h x",
            "h\nx",
        ] {
            assert!(Ssh::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(without_password("ssh://u:secret@h:1/p"), "ssh://u:***@h:1/p");
        assert_eq!(without_password("ssh://u@h"), "ssh://u@h");
    }
}
