//! The seam to whatever runs tasks. The process driver is the first; a container driver may follow.
//!
//! Commands go in through [`Driver::send`] and never block; what happened comes back as
//! [`Report`]s on the channel the driver was built with, stamped with the time it happened.

mod folder;
mod health;
pub(crate) mod layer;
pub(crate) mod loader;
mod logging;
pub(crate) mod mount;
pub mod plan;
mod ports;
mod probe;
pub mod process;
mod pull;
mod task;
mod usage;
mod user;
pub mod vault;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use orchestrator::{Observation, TaskId, Time};
pub use probe::Probed;

use crate::{cgroup::Throttling, registry::Credential};

/// Everything the driver needs to run one task.
#[derive(Clone, Debug)]
pub struct Launch {
    pub task: TaskId,
    /// `ala_api.1.<task id>`.
    pub name: String,
    pub service_id: String,
    pub service_name: String,
    pub slot: u32,
    pub node_id: String,
    pub node_hostname: String,
    /// Canonical JSON `{"TaskTemplate": …, "EndpointSpec": …}` as in `TaskSpec::definition`.
    pub definition: Arc<str>,
    /// Service labels (`evenkeel.health.http` and others live here).
    pub service_labels: BTreeMap<String, String>,
    /// For the registry that the image is pulled from.
    pub registry_auth: Credential,
    /// Bytes of the secrets and configs the definition refers to, by id.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Which of them are templates.
    pub templates: BTreeSet<String>,
    /// A container outside any service: it may be started again, keeps its image until it is
    /// forgotten, and its health may come back.
    pub is_alone: bool,
}

#[derive(Clone, Debug)]
pub enum Command {
    /// Pull the image when it is not here, unpack it (once per digest), make the folder. → `Preparing`, `Ready` | `Rejected`
    Prepare(Launch),
    /// Start the supervisor and its process. → `Starting`, `Running`, later `Unhealthy`, `Exited`
    Start(Launch),
    /// Starts a container, the first time or again in the folder that it has. → as `Start`
    Run(Launch),
    /// Stop signal, grace period, SIGKILL to the process group. → `Exited`
    Stop(TaskId),
    /// A signal, as `docker kill` sends it.
    Signal(TaskId, i32),
    /// Delete folder and log of a task that is no more.
    Forget(TaskId),
    /// After the engine restarted: find this task again and report where it stands now, from
    /// `Ready` (never started), `Running`, to `Exited` with the recorded exit status.
    Adopt(Launch),
}

/// Something the driver saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub task: TaskId,
    pub at: Time,
    pub what: Observation,
}

/// What a running task uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu: Duration,
    /// With what the kernel keeps of files for it, where it is counted by a control group.
    pub memory_bytes: u64,
    /// Of that, what can be dropped.
    pub cache_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub processes: u64,
    /// Threads, where a control group counts them.
    pub pids: u64,
    pub pids_limit: Option<u64>,
    pub throttling: Throttling,
}

/// Runs tasks.
pub trait Driver: Send + Sync {
    /// Queues the command; never blocks.
    fn send(&self, command: Command);
    /// Addresses of a running task: target port → where it listens.
    fn addresses(&self, task: &TaskId) -> Vec<(u16, SocketAddr)>;
    /// Process id of the task's main process while it runs.
    fn pid(&self, task: &TaskId) -> Option<u32>;
    fn usage(&self, task: &TaskId) -> Option<Usage>;
    /// The last probes of a task, oldest first.
    fn probed(&self, task: &TaskId) -> Vec<Probed>;
    /// At the start of an engine: what is there for other tasks than these was left behind.
    fn sweep(&self, living: &BTreeSet<TaskId>);
    /// One more client, or one less, waits to be attached to a container that is about to start.
    fn expect(&self, task: &TaskId, is_more: bool);
}
