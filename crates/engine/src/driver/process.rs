//! The process driver: a task is a process under a supervisor of its own.
//!
//! Each task has one small actor (`task`) that takes its commands in order; this file hands them
//! out and answers questions about what runs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orchestrator::TaskId;
use tokio::{runtime::Handle, sync::mpsc};

use super::{Command, Driver, Launch, Report, Usage, task};
use crate::{image, supervisor::Running};

/// Commands that may wait for one task: it has a short life and each comes once.
const QUEUE: usize = 32;
/// Ports for tasks lie below the range that outgoing connections take theirs from.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where things are.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    pub tasks: PathBuf,
    /// The `keel` binary, for supervisors.
    pub keel: PathBuf,
    pub log_max_bytes: u64,
    pub log_max_files: u32,
}

/// What is known of a task that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) running: Option<Running>,
    pub(super) ports: Vec<(u16, u16)>,
}

/// What the actors share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: DriverConfig,
    pub(super) images: Arc<image::Store>,
    pub(super) reports: mpsc::Sender<Report>,
    known: Mutex<HashMap<TaskId, Known>>,
    taken: Mutex<BTreeSet<u16>>,
}

impl Shared {
    pub(super) fn know(&self, task: &TaskId, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(task.clone()).or_default());
    }

    fn known(&self, task: &TaskId) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    fn forget(&self, task: &TaskId) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, port) in known.into_iter().flat_map(|known| known.ports) {
            taken.remove(&port);
        }
    }

    /// A loopback port for each target port (one when there is none), that no other task has.
    pub(super) fn choose_ports(&self, targets: &[u16]) -> Option<Vec<(u16, u16)>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seed = [0_u8; 2];
        getrandom::fill(&mut seed).ok()?;
        let span = PORTS.end - PORTS.start;
        let first = u16::from_le_bytes(seed) % span;
        let mut free = (0..span).map(|step| PORTS.start + (first + step) % span).filter(|port| {
            !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        });
        let targets: &[u16] = if targets.is_empty() { &[0] } else { targets };
        let ports: Option<Vec<(u16, u16)>> =
            targets.iter().map(|target| Some((*target, free.next()?))).collect();
        drop(free);
        taken.extend(ports.iter().flatten().map(|(_, port)| *port));
        ports
    }

    pub(super) fn take_ports(&self, ports: &[(u16, u16)]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(ports.iter().map(|(_, port)| *port));
    }
}

/// Runs tasks as processes.
#[derive(Debug)]
pub struct ProcessDriver {
    shared: Arc<Shared>,
    runtime: Handle,
    actors: Mutex<BTreeMap<TaskId, mpsc::Sender<Command>>>,
}

impl ProcessDriver {
    /// Must be called inside a tokio runtime; the actors run there.
    pub fn new(
        config: DriverConfig,
        images: Arc<image::Store>,
        reports: mpsc::Sender<Report>,
    ) -> Arc<Self> {
        let (known, taken) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { config, images, reports, known, taken });
        Arc::new(Self { shared, runtime: Handle::current(), actors: Mutex::default() })
    }

    fn to(&self, task: &TaskId, command: Command) {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        if actors.get(task).is_none_or(mpsc::Sender::is_closed) {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let actor = task::run(Arc::clone(&self.shared), task.clone(), receiver);
            self.runtime.spawn(actor);
            actors.insert(task.clone(), sender);
        }
        if let Some(actor) = actors.get(task)
            && actor.try_send(command).is_err()
        {
            tracing::warn!(%task, "the task's queue is full; a command was dropped");
        }
    }

    fn forget(&self, task: TaskId) {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner).remove(&task);
        self.shared.forget(&task);
        let folder = self.shared.config.tasks.join(&task.0);
        self.runtime.spawn_blocking(move || std::fs::remove_dir_all(folder));
    }
}

impl Driver for ProcessDriver {
    fn send(&self, command: Command) {
        let task = match &command {
            Command::Prepare(Launch { task, .. })
            | Command::Start(Launch { task, .. })
            | Command::Adopt(Launch { task, .. })
            | Command::Stop(task)
            | Command::Signal(task, _) => task.clone(),
            Command::Forget(task) => return self.forget(task.clone()),
        };
        self.to(&task, command);
    }

    fn addresses(&self, task: &TaskId) -> Vec<(u16, SocketAddr)> {
        let mut known = self.shared.known(task).unwrap_or_default();
        if known.ports.is_empty() {
            // Not adopted yet after a restart: its folder tells.
            let path = self.shared.config.tasks.join(&task.0).join("task.json");
            known.ports = crate::supervisor::read_json::<crate::supervisor::Job>(&path)
                .map(|job| job.ports)
                .unwrap_or_default();
        }
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        known.ports.into_iter().map(|(target, own)| (target, address(own))).collect()
    }

    fn pid(&self, task: &TaskId) -> Option<u32> {
        u32::try_from(self.shared.known(task)?.running?.child.pid).ok()
    }

    fn usage(&self, task: &TaskId) -> Option<Usage> {
        usage(self.shared.known(task)?.running?.child.pid)
    }
}

/// Sums up the process group of a task.
fn usage(leader: i32) -> Option<Usage> {
    let ticks = rustix::param::clock_ticks_per_second();
    let page = rustix::param::page_size() as u64;
    let mut usage = Usage::default();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        if number(2) != u64::try_from(leader).ok()? {
            continue;
        }
        usage.processes += 1;
        usage.cpu += Duration::from_millis((number(11) + number(12)) * 1000 / ticks);
        usage.memory_bytes += number(21) * page;
    }
    (usage.processes > 0).then_some(usage)
}
