//! All state of the orchestrator, with the indexes that keep one step's cost independent of the
//! number of tasks. Everything except the indexes is persisted by the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    spec::ServiceSpec,
    task::{ServiceId, Task, TaskId},
    time::Time,
};

/// State of the last rollout, in Docker's words (`UpdateStatus.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

/// Docker's `UpdateStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    pub state: RolloutState,
    pub started_at: Time,
    pub completed_at: Option<Time>,
    pub message: String,
}

/// A service, what is wanted of it, and how far its rollout is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub spec: ServiceSpec,
    pub spec_version: u64,
    /// Docker's `PreviousSpec`: what a manual rollback returns to.
    pub previous: Option<(u64, ServiceSpec)>,
    /// The last spec that was completely rolled out: what an automatic rollback returns to.
    pub last_good: Option<(u64, ServiceSpec)>,
    pub rollout: Option<RolloutStatus>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Removed by the operator; kept until its tasks are gone.
    pub is_removed: bool,
    // … the rollout's own progress follows (private to the crate, persisted).
}

/// Everything. Build an empty one with `World::new`, a stored one with `World::restore`.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) changes: Changes,
}

/// What the last steps touched, so that the engine saves exactly that before it acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub services: BTreeSet<ServiceId>,
    pub tasks: BTreeSet<TaskId>,
}

impl World {
    /// An empty world. `seed` makes its task ids unique; `nodes` are where tasks may run.
    pub fn new(_seed: u64, _nodes: Vec<String>, _task_history_limit: usize) -> Self {
        Self::default()
    }

    /// The world as it was saved. Rebuilds the indexes; `ids_issued` as last saved.
    pub fn restore(
        _seed: u64,
        _ids_issued: u64,
        _nodes: Vec<String>,
        _task_history_limit: usize,
        _services: Vec<Service>,
        _tasks: Vec<Task>,
    ) -> Self {
        Self::default()
    }

    /// How many ids were drawn so far; saved so that none is drawn twice.
    pub fn ids_issued(&self) -> u64 {
        0
    }

    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    pub fn tasks_of<'a>(&'a self, id: &'a ServiceId) -> impl Iterator<Item = &'a Task> {
        self.tasks.values().filter(move |t| t.service == *id)
    }

    /// Takes the set of touched objects. One that is no longer in the world was deleted.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}
