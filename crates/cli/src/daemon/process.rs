//! Processes of ours that outlive the one that started them.

use std::{
    fs::File,
    io,
    net::IpAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{
        Pid, PidfdFlags, Resource, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
        setsid,
    },
};

use crate::place;

/// A log that grew larger starts anew; the old one is kept once.
const LOG_BYTES: u64 = 10 << 20;
const DESCRIPTORS: u64 = 1 << 20;

/// Leaves the session of whoever started this process: its end is not ours.
pub(super) fn detach() {
    // Only fails for a process that leads a group already, which is as good.
    let _ = setsid();
}

/// Every connection and every log that is followed has descriptors; the usual soft limit of 1024 is
/// for programs that use `select`. Tasks get the same, as in Docker's containers.
pub(super) fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

/// How the ingress is started.
#[derive(Clone, Debug)]
pub(super) struct Ingress {
    pub(super) keel: PathBuf,
    pub(super) state: PathBuf,
    pub(super) address: IpAddr,
    /// The folder of this node's certificates, where there may be other nodes.
    pub(super) certificates: Option<PathBuf>,
}

impl Ingress {
    pub(super) fn start(&self) -> io::Result<Child> {
        self.command()?.spawn()
    }

    /// One that takes over from the one that runs; what is long-lived there may stay for so long.
    pub(super) fn start_in_place(
        &self,
        stay: Duration,
        workers: Option<usize>,
    ) -> io::Result<Child> {
        let mut command = self.command()?;
        command.arg("--takes-over").arg("--cut-after").arg(format!("{}ms", stay.as_millis()));
        if let Some(workers) = workers {
            command.arg("--workers").arg(workers.to_string());
        }
        command.spawn()
    }

    fn command(&self) -> io::Result<Command> {
        let log = open_log(&place::ingress_log(&self.state))?;
        let mut command = quiet(&self.keel, log)?;
        command
            .arg("ingress")
            .arg("--detached")
            .arg("--state-dir")
            .arg(&self.state)
            .arg("--publish-address")
            .arg(self.address.to_string());
        if let Some(certificates) = &self.certificates {
            command.arg("--node-certificates").arg(certificates);
        }
        Ok(command)
    }
}

/// A command without a terminal that logs into a file.
pub(super) fn quiet(keel: &Path, log: File) -> io::Result<Command> {
    let mut command = Command::new(keel);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Few threads allocate: one heap is enough, and it stays small.
        .env("MALLOC_ARENA_MAX", "1");
    Ok(command)
}

pub(super) fn open_log(path: &Path) -> io::Result<File> {
    if path.metadata().is_ok_and(|log| log.len() > LOG_BYTES) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

/// A process that is held by its descriptor, so that its number cannot come to mean another.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pid: i32,
    descriptor: OwnedFd,
}

/// The process that listens on a unix socket; `None` when nobody does.
pub(super) fn listening_on(socket: &Path) -> Option<Held> {
    let stream = UnixStream::connect(socket).ok()?;
    let pid = rustix::net::sockopt::socket_peercred(&stream).ok()?.pid;
    hold(pid)
}

fn hold(pid: Pid) -> Option<Held> {
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    Some(Held { pid: pid.as_raw_nonzero().get(), descriptor })
}

impl Held {
    pub(super) fn terminate(&self) {
        // It may be gone already, which is what is wanted.
        let _ = pidfd_send_signal(&self.descriptor, Signal::TERM);
    }

    /// True once the process has ended.
    pub(super) fn await_end(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(left) = Timespec::try_from(left) else { return false };
            let mut wanted = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match poll(&mut wanted, Some(&left)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
