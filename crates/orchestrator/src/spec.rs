//! What the operator wants of a service, reduced to what decides the next step.
//!
//! The container itself (image, environment, mounts, …) is opaque here: [`TaskSpec::definition`]
//! holds it as canonical JSON text, and two tasks are alike exactly when their texts are.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::node::Needs;

/// A service as wanted. Docker's `ServiceSpec`, normalised (defaults filled in).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: String,
    pub mode: Mode,
    pub task: TaskSpec,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    /// The spec as the operator posted it, carried along so that a rollback restores every field.
    pub raw: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Replicated {
        replicas: u32,
    },
    Global,
    /// A job: `total` tasks that end with 0, at most `max_concurrent` at a time.
    ReplicatedJob {
        max_concurrent: u32,
        total: u32,
    },
    /// A job: one task on each node that ends with 0.
    GlobalJob,
}

impl Mode {
    /// Its tasks run to their end instead of for ever.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Docker's word, as the filter `mode` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }
}

/// What one task of the service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Canonical JSON of everything that makes a task dirty when it changes (Docker's
    /// `TaskTemplate` and `EndpointSpec`, normalised). The orchestrator only compares it.
    pub definition: Arc<str>,
    pub restart: RestartPolicy,
    /// The service has a health check: `Running` then means "has been healthy once".
    pub has_health_check: bool,
    /// The service publishes ports through the ingress: the publish/drain handshake applies.
    pub has_traffic: bool,
    /// What it needs of the node.
    #[serde(default)]
    pub needs: Needs,
}

/// Docker's `RestartPolicy`. `max_attempts` 0 is unlimited; `window` zero means "for ever".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub condition: RestartCondition,
    pub delay: Duration,
    pub max_attempts: u64,
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartCondition {
    None,
    OnFailure,
    Any,
}

/// Docker's `UpdateConfig`/`RollbackConfig` plus the progress deadline of our own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Slots replaced at the same time; 0 is all of them.
    pub parallelism: u32,
    pub delay: Duration,
    pub failure_action: FailureAction,
    pub monitor: Duration,
    pub max_failure_ratio: f32,
    pub order: UpdateOrder,
    /// A slot whose new task has not become ready within this time counts as failed.
    pub progress_deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateOrder {
    StopFirst,
    StartFirst,
}

impl Default for RestartPolicy {
    /// Docker's defaults (`swarmkit/api/defaults/service.go`).
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}

impl Default for UpdateConfig {
    /// Docker's defaults (`swarmkit/api/defaults/service.go`); the progress deadline is ours.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
            progress_deadline: Duration::from_secs(300),
        }
    }
}
