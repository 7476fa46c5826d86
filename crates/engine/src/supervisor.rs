//! The supervisor: one small process per task that owns its pipes, log and exit status, so that a
//! task outlives the engine. Single-threaded, no async runtime.
//!
//! ```text
//! task folder:  task.json  what to run (written by the driver)
//!               lock       held while the supervisor lives: a task never runs twice
//!               pid.json   who runs, with start times against recycled process ids
//!               log, log.N the output
//!               exit.json  how it ended
//! ```

use std::{
    fs::File,
    io::Read,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use crate::{disk, log};

/// What a supervisor runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub log_max_bytes: u64,
    pub log_max_files: u32,
    /// Target port → loopback port.
    pub ports: Vec<(u16, u16)>,
}

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub supervisor: Process,
    pub child: Process,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub code: i32,
    /// Why it never started.
    pub error: Option<String>,
    pub at: u64,
}

/// After the task's end its output may still come from processes it left behind; not for ever.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);

/// Runs the task in `folder` to its end.
pub fn run(folder: &Path) -> ExitCode {
    let Ok(lock) = File::options().create(true).append(true).open(folder.join("lock")) else {
        return ExitCode::FAILURE;
    };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return ExitCode::FAILURE;
    }
    if folder.join("exit.json").exists() || folder.join("pid.json").exists() {
        return ExitCode::FAILURE;
    }
    let Some(job) = read_json::<Job>(&folder.join("task.json")) else {
        return ended(folder, -1, Some("its task.json cannot be read".to_owned()));
    };
    let mut log = log::Writer::open(folder, job.log_max_bytes, job.log_max_files);
    match start(&job) {
        Ok(child) => supervise(folder, child, &mut log),
        Err(error) => {
            let program = job.argv.first().map_or("", String::as_str);
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            let reason = format!("starting container failed: exec: {program:?}: {error}");
            ended(folder, code, Some(reason))
        }
    }
}

fn start(job: &Job) -> std::io::Result<Child> {
    let empty = String::new();
    let mut command = Command::new(job.argv.first().unwrap_or(&empty));
    command
        .args(job.argv.iter().skip(1))
        .env_clear()
        .envs(job.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&job.cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(gid) = job.gid {
        command.gid(gid);
    }
    if let Some(uid) = job.uid {
        command.uid(uid);
    }
    command.spawn()
}

fn supervise(folder: &Path, mut child: Child, log: &mut log::Writer) -> ExitCode {
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let process = |pid| Process { pid, started: start_time(pid).unwrap_or(0) };
    let running = Running { supervisor: process(own), child: process(pid) };
    let text = serde_json::to_vec(&running).unwrap_or_default();
    // A full disk must not stop a task that runs; the driver then knows it by its lock.
    let _ = disk::replace(&folder.join("pid.json"), &text);
    let mut pipes = Pipes {
        stdout: child
            .stdout
            .take()
            .map(|pipe| Lines::new(File::from(std::os::fd::OwnedFd::from(pipe)), false)),
        stderr: child
            .stderr
            .take()
            .map(|pipe| Lines::new(File::from(std::os::fd::OwnedFd::from(pipe)), true)),
    };
    let pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let status = loop {
        pipes.pump(pidfd.as_ref(), None, log);
        if let Ok(Some(status)) = child.try_wait() {
            break status;
        }
    };
    let deadline = Instant::now() + OUTPUT_DEADLINE;
    while pipes.is_open() && Instant::now() < deadline {
        pipes.pump(None::<&File>, Some(deadline), log);
    }
    pipes.flush(log);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ended(folder, code, None)
}

fn ended(folder: &Path, code: i32, error: Option<String>) -> ExitCode {
    let ended = Ended { code, error, at: dockerapi::stamp::now().0 };
    let text = serde_json::to_vec(&ended).unwrap_or_default();
    // The exit status is worth waiting for space.
    for _ in 0..600 {
        if disk::replace(&folder.join("exit.json"), &text).is_ok() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    ExitCode::FAILURE
}

struct Pipes {
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

impl Pipes {
    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Waits for output, for the process to end, or for the deadline, and logs what came.
    fn pump(&mut self, ends: Option<impl AsFd>, until: Option<Instant>, log: &mut log::Writer) {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        for lines in [&self.stdout, &self.stderr].into_iter().flatten() {
            fds.push(PollFd::new(&lines.pipe, PollFlags::IN));
        }
        let ends = ends.as_ref().map(AsFd::as_fd);
        if let Some(ends) = &ends {
            fds.push(PollFd::new(ends, PollFlags::IN));
        }
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        if poll(&mut fds, wait.as_ref()).is_err() {
            return;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut ready = ready.into_iter();
        for lines in [&mut self.stdout, &mut self.stderr] {
            if lines.is_some()
                && ready.next() == Some(true)
                && lines.as_mut().is_some_and(|lines| !lines.read(log))
                && let Some(mut closed) = lines.take()
            {
                closed.flush(log);
            }
        }
    }

    fn flush(&mut self, log: &mut log::Writer) {
        for lines in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            lines.flush(log);
        }
    }
}

/// One pipe, cut into lines.
struct Lines {
    pipe: File,
    is_error: bool,
    partial: Vec<u8>,
}

impl Lines {
    fn new(pipe: File, is_error: bool) -> Self {
        Self { pipe, is_error, partial: Vec::new() }
    }

    /// Reads what is there; false at the end.
    fn read(&mut self, log: &mut log::Writer) -> bool {
        let mut buffer = [0_u8; 8192];
        let count = match self.pipe.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(count) => count,
        };
        let now = dockerapi::stamp::now();
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.partial.extend(end);
                    log.line(now, self.is_error, &self.partial);
                    self.partial.clear();
                }
                None => self.partial.extend(piece),
            }
            if self.partial.len() >= log::LINE_LIMIT {
                self.flush(log);
            }
        }
        true
    }

    fn flush(&mut self, log: &mut log::Writer) {
        if !self.partial.is_empty() {
            log.line(dockerapi::stamp::now(), self.is_error, &self.partial);
            self.partial.clear();
        }
    }
}

/// When a process started; none when there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything, so count from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Process {
    /// It is still the same process.
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
