//! The supervisor: one small process per task that owns its pipes, log and exit status, so that a
//! task outlives the engine. Single-threaded, no async runtime.
//!
//! ```text
//! task folder:  task.json  what to run (written by the driver)
//!               lock       held while the supervisor lives: a task never runs twice
//!               started    written under the lock before there is a process
//!               pid.json   who runs, with start times against recycled process ids
//!               log, log.N the output
//!               console    where clients attach to a container
//!               exit.json  how it ended; `reserved` is its space on the disk until then
//! ```

mod confine;
pub mod console;
mod pipes;
mod process;

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::FileExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use serde::{Deserialize, Serialize};

use crate::{cgroup::Group, disk, driver::mount::Mounted, exec::terminal, limits::Limits, log};
use console::{Clients, Console};
use pipes::Pipes;
pub use process::{Process, kill_marked, start_time};

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
    /// Where the task's paths really are: volumes, secrets, configs.
    #[serde(default)]
    pub(crate) mounts: Vec<Mounted>,
    /// The root of its copies of secrets and configs, when it is not in the task's folder.
    #[serde(default)]
    pub(crate) vault: Option<PathBuf>,
    /// The control group that it runs in.
    #[serde(default)]
    pub(crate) group: Option<Group>,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// A container that clients attach to.
    #[serde(default)]
    pub console: Option<Console>,
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
    /// Why it never started, or what ended it.
    pub error: Option<String>,
    /// The kernel killed it, or something of it, because its memory was used up.
    #[serde(default)]
    pub oom_killed: bool,
    pub at: u64,
}

/// After the task's end its output may still come from processes it left behind; not for ever.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);
/// A client that is slow to take the output gets more time.
const CLIENT_DEADLINE: Duration = Duration::from_secs(60);
/// How long another supervisor, or the driver's look at the lock, may keep it.
const LOCK_DEADLINE: Duration = Duration::from_millis(500);
/// How often the process is looked at where the kernel gives no descriptor of it.
const LOOK: Duration = Duration::from_millis(200);
/// Space kept for `exit.json`.
const RESERVED: usize = 1024;

/// Runs the task in `folder` to its end.
pub fn run(folder: &Path) -> ExitCode {
    let absolute = std::path::absolute(folder);
    let folder = absolute.as_deref().unwrap_or(folder);
    let _ = rustix::process::setsid();
    ignore_signals();
    let Some(_lock) = lock(folder) else { return ExitCode::FAILURE };
    if ["exit.json", "pid.json", "started"].iter().any(|name| folder.join(name).exists()) {
        return ExitCode::FAILURE;
    }
    let mut exit = Exit { folder, reserved: None, group: None, memory_bytes: 0 };
    let Some(job) = read_json::<Job>(&folder.join("task.json")) else {
        return exit.record(126, Some("its task.json cannot be read".to_owned()));
    };
    exit.group.clone_from(&job.group);
    exit.memory_bytes = job.limits.memory_bytes;
    if let Err(error) = exit.reserve().and_then(|()| File::create(folder.join("started"))) {
        let text = format!("{}: {error}; free space under it", folder.display());
        return exit.record(126, Some(text));
    }
    let mut log = log::Writer::open(folder, job.log_max_bytes, job.log_max_files);
    let mut clients = job.console.and_then(|console| Clients::listen(folder, console));
    if let Some(clients) = &mut clients {
        clients.expect(folder);
    }
    match confine::within(&job, || start(&job)).map_err(|error| refusal(&job, &error)) {
        Ok((mut child, terminal)) => match introduce(folder, &child) {
            Ok(()) => {
                let pipes = Pipes::of(&mut child, terminal, clients);
                let code = supervise(&mut child, pipes, &mut log);
                exit.record(code, None)
            }
            Err(error) => {
                kill(&mut child);
                exit.record(126, Some(error))
            }
        },
        Err((code, reason)) => exit.record(code, Some(reason)),
    }
}

/// Signals for whoever started the engine are not for its tasks. Handled and not set to "ignore",
/// which the task would inherit.
fn ignore_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn lock(folder: &Path) -> Option<File> {
    let lock = File::options().create(true).append(true).open(folder.join("lock")).ok()?;
    let started = Instant::now();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if started.elapsed() > LOCK_DEADLINE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(lock)
}

/// Starts it; with its terminal when it has one.
fn start(job: &Job) -> io::Result<(Child, Option<OwnedFd>)> {
    let empty = String::new();
    let console = job.console.unwrap_or_default();
    let program = job.argv.first().unwrap_or(&empty);
    let mut command = match console.has_terminal {
        true => Command::new(std::env::current_exe()?),
        false => Command::new(program),
    };
    if console.has_terminal {
        command.arg(terminal::COMMAND).arg(program);
    }
    command
        .args(job.argv.iter().skip(1))
        .env_clear()
        .envs(job.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&job.cwd);
    if let Some(gid) = job.gid {
        command.gid(gid);
    }
    if let Some(uid) = job.uid {
        command.uid(uid);
    }
    if console.has_terminal {
        let (ours, theirs) = terminal::open()?;
        if !job.env.iter().any(|(key, _)| key == "TERM") {
            command.env("TERM", "xterm");
        }
        // It becomes the leader of a session, and so of a group, of its own.
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        return Ok((command.spawn()?, Some(ours)));
    }
    command
        .process_group(0)
        .stdin(if console.takes_input { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok((command.spawn()?, None))
}

/// Docker's words for a program that cannot be started, with the exit code that shells use.
fn refusal(job: &Job, error: &io::Error) -> (i32, String) {
    let program = job.argv.first().map_or("", String::as_str);
    if error.kind() == io::ErrorKind::Other {
        // It is not the program that is wrong, but what the machine allows for it.
        return (126, format!("starting container failed: {error}"));
    }
    let is_there = Path::new(&job.cwd).join(program).exists();
    let (code, reason) = match error.kind() {
        io::ErrorKind::NotFound if is_there => {
            (127, format!("exec {program}: its interpreter or loader is not on this machine"))
        }
        io::ErrorKind::NotFound if program.contains('/') => {
            (127, format!("stat {program}: no such file or directory"))
        }
        io::ErrorKind::NotFound => (127, "executable file not found in $PATH".to_owned()),
        io::ErrorKind::PermissionDenied => (126, "permission denied".to_owned()),
        _ => (126, error.to_string()),
    };
    (code, format!("starting container failed: exec: {program:?}: {reason}"))
}

/// Says who runs. A task that nobody could find again may not run.
fn introduce(folder: &Path, child: &Child) -> Result<(), String> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let running = Process::of(own)
        .zip(Process::of(pid))
        .map(|(supervisor, child)| Running { supervisor, child })
        .ok_or("its process cannot be found in /proc")?;
    let text = serde_json::to_vec(&running).map_err(|error| error.to_string())?;
    disk::replace(&folder.join("pid.json"), &text).map_err(|error| {
        format!("record its process in {}: {error}; free space under it", folder.display())
    })
}

/// Logs the output until the process ends; returns its exit code.
fn supervise(child: &mut Child, mut pipes: Pipes, log: &mut log::Writer) -> i32 {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let wait = if pidfd.is_some() { None } else { Some(LOOK) };
    let status = loop {
        if !pipes.pump(pidfd.as_ref(), wait, log) && pidfd.is_some() {
            continue;
        }
        // As in a container, nothing outlives the main process. It is not waited for yet, so its
        // group's number is still its own.
        if pidfd.is_some() {
            kill_group(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            break status;
        }
    };
    let (ended, mut deadline) = (Instant::now(), Instant::now() + OUTPUT_DEADLINE);
    while pipes.is_open() && Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        pipes.pump(None::<&File>, Some(left), log);
        if pipes.is_waited_for() && ended.elapsed() < CLIENT_DEADLINE {
            deadline = Instant::now() + OUTPUT_DEADLINE;
        }
    }
    pipes.finish(log, deadline);
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn kill_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

fn kill(child: &mut Child) {
    kill_group(child);
    let _ = child.wait();
}

/// The record of the end. Its space is taken at the start: a full disk does not lose it.
struct Exit<'a> {
    folder: &'a Path,
    reserved: Option<File>,
    group: Option<Group>,
    memory_bytes: u64,
}

impl Exit<'_> {
    fn reserve(&mut self) -> io::Result<()> {
        let mut file = File::create(self.folder.join("reserved"))?;
        file.write_all(&[b' '; RESERVED])?;
        file.sync_all()?;
        self.reserved = Some(file);
        Ok(())
    }

    fn record(&mut self, code: i32, error: Option<String>) -> ExitCode {
        let oom_killed = self.group.as_ref().is_some_and(|group| {
            group.kill();
            group.oom_kills() > 0
        });
        let error = error.or_else(|| {
            (code == 137 && oom_killed).then(|| {
                let limit = bytes(self.memory_bytes);
                format!("task: non-zero exit (137): killed for using more than its memory limit of {limit}")
            })
        });
        let error = error.map(|error| error.chars().take(200).collect());
        let ended = Ended { code, error, oom_killed, at: dockerapi::stamp::now().0 };
        let text = serde_json::to_vec(&ended).unwrap_or_default();
        if self.use_reserved(&text).is_ok() {
            return ExitCode::SUCCESS;
        }
        // The exit status is worth waiting for space.
        for _ in 0..60 {
            if disk::replace(&self.folder.join("exit.json"), &text).is_ok() {
                return ExitCode::SUCCESS;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        ExitCode::FAILURE
    }

    fn use_reserved(&mut self, text: &[u8]) -> io::Result<()> {
        let Some(file) = self.reserved.take().filter(|_| text.len() <= RESERVED) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all_at(text, 0)?;
        file.sync_all()?;
        std::fs::rename(self.folder.join("reserved"), self.folder.join("exit.json"))?;
        File::open(self.folder)?.sync_all()
    }
}

/// `64 MiB`.
fn bytes(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
