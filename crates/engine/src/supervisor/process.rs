//! A process that cannot be mistaken for a later one with the same id, and signals that reach no
//! other.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
    /// Which boot: after another one the same numbers may come again.
    #[serde(default)]
    pub boot: u64,
}

impl Process {
    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)?, boot: boot() })
    }

    /// It is still the same process. One that ended and was not waited for counts as alive.
    pub fn is_alive(self) -> bool {
        self.boot == boot() && start_time(self.pid) == Some(self.started)
    }

    /// How long ago it started.
    pub fn age(self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        let now = Duration::try_from(now).unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        now.saturating_sub(Duration::from_millis(self.started * 1000 / ticks))
    }

    /// A descriptor of this very process; none when it is gone.
    pub fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Whatever the descriptor stands for is looked at after it was taken.
        self.is_alive().then_some(pidfd)
    }

    /// Sends a signal to it alone.
    pub fn signal(self, number: i32) {
        if let (Some(pidfd), Some(signal)) = (self.open(), Signal::from_named_raw(number)) {
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }

    /// Kills it with its process group.
    pub fn kill_group(self) {
        // While the descriptor's process is not waited for, nobody else gets its group's number.
        let (Some(_pidfd), Some(pid)) = (self.open(), Pid::from_raw(self.pid)) else { return };
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// When a process started; none when there is no such process.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything, so count from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A number that is another one after each boot.
fn boot() -> u64 {
    static BOOT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}

/// Kills every process whose environment has `marker`: what a task left behind when its
/// supervisor could not record it.
pub fn kill_marked(marker: &str) {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Some(process) = Process::of(pid).filter(|_| pid != own) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()) {
            process.signal(Signal::KILL.as_raw());
        }
    }
}
