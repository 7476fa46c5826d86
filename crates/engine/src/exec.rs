//! A command beside a task, as `docker exec` runs it: the task's environment, folder and user, and
//! streams or a terminal of its own. It is a child of the engine and ends with its task.

pub mod inside;
pub mod terminal;

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use self::inside::Inside;
use crate::supervisor::Job;

/// What is run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: PathBuf,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The way into the task's control group.
    pub(crate) inside: Option<Inside>,
    pub(crate) has_terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Order {
    /// As the task itself is run, with more environment.
    pub(crate) fn beside(job: &Job, more: &[String]) -> Self {
        let mut env = job.env.clone();
        for entry in more {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            env.retain(|(known, _)| known != key);
            env.push((key.to_owned(), value.to_owned()));
        }
        let cwd = PathBuf::from(&job.cwd);
        let inside = Inside::of(job);
        Self { env, cwd, uid: job.uid, gid: job.gid, inside, ..Self::default() }
    }

    fn command(&self, program: &str) -> Command {
        let (first, before) = match &self.inside {
            Some(inside) => inside.before(program),
            None => (program.to_owned(), Vec::new()),
        };
        let mut command = Command::new(first);
        command
            .args(before)
            .env_clear()
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.cwd)
            .kill_on_drop(true);
        if let (Some(uid), Some(gid), None) = (self.uid, self.gid, &self.inside) {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts it with pipes.
    pub(crate) fn spawn(&self) -> io::Result<Child> {
        let (program, arguments) =
            self.argv.split_first().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        self.command(program)
            .args(arguments)
            .process_group(0)
            .stdin(pipe(self.stdin))
            .stdout(pipe(self.stdout))
            .stderr(pipe(self.stderr))
            .spawn()
    }

    /// Starts it on a terminal; the other end of that is returned. `keel` is the binary that makes
    /// the terminal the command's own.
    pub(crate) fn spawn_on_terminal(&self, keel: &std::path::Path) -> io::Result<(Child, OwnedFd)> {
        let (ours, theirs) = terminal::open()?;
        let child = self
            .command(&keel.to_string_lossy())
            .arg(terminal::COMMAND)
            .args(&self.argv)
            .env("TERM", self.env.iter().find(|(k, _)| k == "TERM").map_or("xterm", |(_, v)| v))
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs)
            .spawn()?;
        Ok((child, ours))
    }
}

/// As a shell tells it.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Docker's exit code and words for a command that cannot be started.
pub(crate) fn refusal(program: &str, error: &io::Error) -> (i32, String) {
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            (127, format!("stat {program}: no such file or directory"))
        }
        io::ErrorKind::NotFound => (127, "executable file not found in $PATH".to_owned()),
        io::ErrorKind::PermissionDenied => (126, "permission denied".to_owned()),
        _ => (126, error.to_string()),
    };
    let text = format!("exec failed: unable to start container process: exec: {program:?}: {why}");
    (code, text)
}

/// Ends the command with all it started.
pub(crate) fn kill(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}
