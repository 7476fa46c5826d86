//! What tasks use, from one look at `/proc` for all of them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Usage;
use crate::cgroup::Used;

impl Usage {
    /// What a control group counts is better than what `/proc` shows at one moment.
    pub(super) fn with(self, used: &Used) -> Self {
        Self {
            cpu: used.cpu.unwrap_or(self.cpu),
            memory_bytes: used.memory_bytes.unwrap_or(self.memory_bytes),
            cache_bytes: used.cache_bytes,
            memory_limit_bytes: used.memory_limit_bytes,
            processes: self.processes,
            pids: used.pids.unwrap_or(self.processes),
            pids_limit: used.pids_limit,
            throttling: used.throttling,
        }
    }
}

/// How long one look is good for: asking for every task at once reads `/proc` once.
const FRESH: Duration = Duration::from_millis(250);

/// Usage by process group.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Option<(Instant, HashMap<i32, Usage>)>>);

impl Groups {
    /// The process group of a task; none when nothing of it is left.
    pub(super) fn of(&self, leader: i32) -> Option<Usage> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|(at, groups)| {
            // A task that started after the last look is looked for again.
            at.elapsed() > FRESH || !groups.contains_key(&leader)
        }) {
            *seen = Some((Instant::now(), look()));
        }
        seen.as_ref()?.1.get(&leader).copied()
    }
}

fn look() -> HashMap<i32, Usage> {
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let mut groups: HashMap<i32, Usage> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name is in parentheses and may hold anything: fields count from the last one.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let Some(group) = fields.get(2).and_then(|f| f.parse::<i32>().ok()) else { continue };
        if fields.first() == Some(&"Z") {
            continue;
        }
        let usage = groups.entry(group).or_default();
        usage.processes += 1;
        usage.pids += 1;
        usage.cpu += Duration::from_millis((number(11) + number(12)) * 1000 / ticks);
        usage.memory_bytes += number(21) * page;
    }
    groups
}
