//! A task's control group: made with its limits, joined, measured, emptied, removed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{SUPERVISORS, layout};
use crate::limits::Limits;

/// The period that processor time is given out in.
const PERIOD_MICROS: u64 = 100_000;
/// The kernel's least share of it.
const LEAST_QUOTA_MICROS: u64 = 1000;
/// How long killed processes may take to be gone.
const EMPTY: Duration = Duration::from_secs(2);

/// Where a task's group is in each hierarchy; in version 2 all are the same folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub(super) is_v2: bool,
    pub(super) cpu: Option<PathBuf>,
    pub(super) cpuacct: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
    pub(super) pids: Option<PathBuf>,
}

/// How often a task had to wait for its share of the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled: Duration,
}

/// What a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) cpu: Option<Duration>,
    pub(crate) memory_bytes: Option<u64>,
    /// Of that, files that were read and can be dropped.
    pub(crate) cache_bytes: u64,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) pids: Option<u64>,
    pub(crate) pids_limit: Option<u64>,
    pub(crate) throttling: Throttling,
}

impl Group {
    pub(crate) fn folders(&self) -> BTreeSet<&PathBuf> {
        [&self.cpu, &self.cpuacct, &self.memory, &self.pids].into_iter().flatten().collect()
    }

    /// Makes it with its limits, or brings one that is there to these.
    pub(crate) fn make(&self, limits: &Limits) -> io::Result<()> {
        for folder in self.folders() {
            // Its parent is made again if somebody tidied up; in version 2 it has its controllers.
            fs::create_dir_all(folder)?;
        }
        if limits.nano_cpus != 0 {
            let (quota, period) = (quota_micros(limits.nano_cpus), PERIOD_MICROS);
            match self.is_v2 {
                true => put(&self.cpu, "cpu.max", &format!("{quota} {period}"))?,
                false => {
                    put(&self.cpu, "cpu.cfs_period_us", &period.to_string())?;
                    put(&self.cpu, "cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
        }
        if limits.memory_bytes != 0 {
            let bytes = limits.memory_bytes;
            match self.is_v2 {
                true => {
                    put(&self.memory, "memory.max", &bytes.to_string())?;
                    // As much swap again, which is Docker's default; not every kernel counts it.
                    let _ = put(&self.memory, "memory.swap.max", &bytes.to_string());
                }
                false => {
                    put(&self.memory, "memory.limit_in_bytes", &bytes.to_string())?;
                    let both = bytes.saturating_mul(2).to_string();
                    let _ = put(&self.memory, "memory.memsw.limit_in_bytes", &both);
                }
            }
        }
        match limits.pids {
            0 => Ok(()),
            pids => put(&self.pids, "pids.max", &pids.to_string()),
        }
    }

    /// The files that a process enters it by.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        self.folders().into_iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// The same doors of the group in which supervisors stay.
    pub(crate) fn supervisors(&self) -> Vec<PathBuf> {
        let beside = |folder: &PathBuf| {
            folder.parent().unwrap_or(folder).join(SUPERVISORS).join("cgroup.procs")
        };
        self.folders().into_iter().map(beside).collect()
    }

    /// How many of its processes the kernel killed because its memory was used up.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        self.memory.as_ref().map_or(0, |folder| field(&folder.join(file), "oom_kill").unwrap_or(0))
    }

    pub(crate) fn used(&self) -> Used {
        let cpu_stat = |key: &str| field(&self.cpu.as_ref()?.join("cpu.stat"), key);
        let throttled = match self.is_v2 {
            true => cpu_stat("throttled_usec").map(Duration::from_micros),
            false => cpu_stat("throttled_time").map(Duration::from_nanos),
        };
        let cpu = self.cpuacct.as_ref().and_then(|folder| match self.is_v2 {
            true => field(&folder.join("cpu.stat"), "usage_usec").map(Duration::from_micros),
            false => number(&folder.join("cpuacct.usage")).map(Duration::from_nanos),
        });
        let (usage, limit, inactive) = match self.is_v2 {
            true => ("memory.current", "memory.max", "inactive_file"),
            false => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
        };
        let memory = |file: &str| number(&self.memory.as_ref()?.join(file));
        let cache = self.memory.as_ref().and_then(|m| field(&m.join("memory.stat"), inactive));
        let pids = |file: &str| number(&self.pids.as_ref()?.join(file));
        Used {
            cpu,
            memory_bytes: memory(usage),
            cache_bytes: cache.unwrap_or(0),
            // No limit is written as the largest number of pages.
            memory_limit_bytes: memory(limit).filter(|bytes| *bytes < 1 << 60),
            pids: pids("pids.current"),
            pids_limit: pids("pids.max"),
            throttling: Throttling {
                periods: cpu_stat("nr_periods").unwrap_or(0),
                throttled_periods: cpu_stat("nr_throttled").unwrap_or(0),
                throttled: throttled.unwrap_or_default(),
            },
        }
    }

    fn processes(&self) -> BTreeSet<i32> {
        let doors = self.doors();
        let texts = doors.iter().filter_map(|door| fs::read_to_string(door).ok());
        texts
            .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Kills whatever is in it, as nothing outlives the main process of a container.
    pub(crate) fn kill(&self) {
        let started = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || started.elapsed() > EMPTY {
                return;
            }
            // One write reaches even those that are being born; version 1 has no such file.
            let at_once = self
                .folders()
                .iter()
                .any(|folder| self.is_v2 && fs::write(folder.join("cgroup.kill"), "1").is_ok());
            if !at_once {
                for pid in left.into_iter().filter_map(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes it; one that still has processes stays.
    pub(crate) fn remove(&self) {
        let started = Instant::now();
        for folder in self.folders() {
            // A process that has just ended may still be counted for a moment.
            while let Err(error) = fs::remove_dir(folder) {
                let is_busy = error.kind() == io::ErrorKind::ResourceBusy;
                if !is_busy || started.elapsed() > EMPTY {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Of each period, in microseconds.
fn quota_micros(nano_cpus: u64) -> u64 {
    (nano_cpus.saturating_mul(PERIOD_MICROS) / 1_000_000_000).max(LEAST_QUOTA_MICROS)
}

fn put(folder: &Option<PathBuf>, file: &str, text: &str) -> io::Result<()> {
    let folder = folder.as_ref().ok_or_else(|| io::Error::other(format!("no {file} here")))?;
    let path = folder.join(file);
    fs::write(&path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line `key number` of a file.
fn field(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Puts this process into groups by their doors.
pub(crate) fn join(doors: &[PathBuf]) -> io::Result<()> {
    for door in doors {
        // The kernel takes 0 for whoever writes.
        fs::write(door, "0").map_err(|error| {
            io::Error::other(format!("join the control group {}: {error}", door.display()))
        })?;
    }
    Ok(())
}

/// The doors of the groups that this process is in.
pub(crate) fn where_am_i() -> Vec<(PathBuf, PathBuf)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    layout::current(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Leaves for the supervisors' groups, or for where this process was before.
pub(crate) fn back_to(group: &Group, before: &[(PathBuf, PathBuf)]) {
    for (door, own) in group.supervisors().iter().zip(group.doors()) {
        let folder = door.parent().unwrap_or(door);
        let is_out = fs::create_dir_all(folder).and_then(|()| fs::write(door, "0")).is_ok();
        let was = before.iter().find(|(top, _)| own.starts_with(top)).map(|(_, folder)| folder);
        if let Some(was) = was.filter(|_| !is_out) {
            let _ = fs::write(was.join("cgroup.procs"), "0");
        }
    }
}
