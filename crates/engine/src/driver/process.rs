//! The process driver: a task is a process under a supervisor of its own.
//!
//! Each task has one small actor (`task`) that takes its commands in order; this file hands them
//! out and answers questions about what runs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use orchestrator::TaskId;
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    Command, Driver, Launch, Probed, Report, Usage, ports::Ports, task, usage::Groups, vault::Vault,
};
use crate::{cgroup::Cgroups, image, registry::Registry, supervisor::Running};

/// Commands that may wait for one task: it has a short life and each comes once.
const QUEUE: usize = 32;
/// Probes that are remembered, as many as Docker does.
const PROBES: usize = 5;

/// Where things are.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    pub tasks: PathBuf,
    pub vault: Vault,
    pub cgroups: Cgroups,
    /// The `keel` binary, for supervisors.
    pub keel: PathBuf,
    pub log_max_bytes: u64,
    pub log_max_files: u32,
}

impl DriverConfig {
    /// Takes away what a task has outside its folder.
    pub(super) fn tidy(&self, task: &TaskId) {
        self.vault.remove(task);
        if let Some(group) = self.cgroups.group(task) {
            group.remove();
        }
    }
}

/// What is known of a task that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) running: Option<Running>,
    pub(super) ports: Vec<(u16, u16)>,
    /// The last few, oldest first.
    probes: VecDeque<Probed>,
    /// Clients that wait to be attached.
    pub(super) expected: u32,
}

/// What the actors share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: DriverConfig,
    pub(super) images: Arc<image::Store>,
    pub(super) registry: Arc<Registry>,
    pub(super) reports: mpsc::Sender<Report>,
    known: Mutex<HashMap<TaskId, Known>>,
    pub(super) ports: Ports,
    groups: Groups,
}

impl Shared {
    pub(super) fn know(&self, task: &TaskId, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(task.clone()).or_default());
    }

    pub(super) fn probed(&self, task: &TaskId, seen: Probed) {
        self.know(task, |known| {
            if known.probes.len() == PROBES {
                known.probes.pop_front();
            }
            known.probes.push_back(seen);
        });
    }

    pub(super) fn known(&self, task: &TaskId) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    fn forget(&self, task: &TaskId) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
        self.ports.give_back(&known.unwrap_or_default().ports);
        self.images.release(&task.0);
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
        registry: Arc<Registry>,
        reports: mpsc::Sender<Report>,
    ) -> Arc<Self> {
        let (known, ports, groups) = (Mutex::default(), Ports::default(), Groups::default());
        let shared = Arc::new(Shared { config, images, registry, reports, known, ports, groups });
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
        let config = self.shared.config.clone();
        self.runtime.spawn_blocking(move || {
            config.tidy(&task);
            std::fs::remove_dir_all(config.tasks.join(&task.0))
        });
    }
}

impl Driver for ProcessDriver {
    fn send(&self, command: Command) {
        let task = match &command {
            Command::Prepare(Launch { task, .. })
            | Command::Start(Launch { task, .. })
            | Command::Run(Launch { task, .. })
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
        let usage = self.shared.groups.of(self.shared.known(task)?.running?.child.pid)?;
        let group = self.shared.config.cgroups.group(task);
        Some(match group.filter(|group| group.folders().iter().all(|folder| folder.exists())) {
            Some(group) => usage.with(&group.used()),
            None => usage,
        })
    }

    fn probed(&self, task: &TaskId) -> Vec<Probed> {
        self.shared.known(task).map_or_else(Vec::new, |known| known.probes.into())
    }

    fn sweep(&self, living: &BTreeSet<TaskId>) {
        self.shared.config.vault.sweep(living);
        self.shared.config.cgroups.sweep(living);
    }

    fn expect(&self, task: &TaskId, is_more: bool) {
        self.shared.know(task, |known| {
            known.expected = match is_more {
                true => known.expected + 1,
                false => known.expected.saturating_sub(1),
            };
        });
    }
}
