//! What comes in and what goes out: two closed enums.

use std::net::SocketAddr;

use crate::{
    node::Node,
    spec::ServiceSpec,
    task::{ServiceId, TaskId},
};

/// Something that happened. Events may be late, repeated or about things that no longer exist:
/// `step` then does nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new service. `version` is the engine's version index of this spec.
    ServiceCreated {
        id: ServiceId,
        spec: ServiceSpec,
        version: u64,
    },
    /// The operator changed the spec (a release, a scale, a forced restart).
    ServiceUpdated {
        id: ServiceId,
        spec: ServiceSpec,
        version: u64,
    },
    /// The operator asked for the previous spec (`docker service rollback`); refused by the engine
    /// before it comes here when there is none.
    RollbackRequested {
        id: ServiceId,
    },
    /// A job goes back to an earlier spec, and nothing is run for it.
    JobTakenBack {
        id: ServiceId,
        spec: ServiceSpec,
        version: u64,
    },
    /// The node was changed by the operator, or is told of for the first time.
    NodeChanged(Node),
    ServiceRemoved {
        id: ServiceId,
    },
    /// The driver saw a task change.
    Observed {
        task: TaskId,
        what: Observation,
    },
    /// The ingress sends new requests to the task from now on.
    Published {
        task: TaskId,
    },
    /// The ingress sends no more requests to the task and none is in flight (or the drain deadline
    /// passed, or the endpoint was never known).
    Drained {
        task: TaskId,
    },
    /// A deadline may have passed.
    Tick,
}

/// What the driver reports of a task. Exactly one of the last two ends a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    Preparing,
    /// Prepared: the image is unpacked, the folder made.
    Ready,
    /// The process has been started.
    Starting,
    /// Started, and healthy where there is a health check. `address` where it listens.
    Running {
        address: Option<SocketAddr>,
    },
    /// Health probes reached their limit. The process may still run.
    Unhealthy {
        error: String,
    },
    /// The process ended (or never started: then `exit_code` is none and `error` says why).
    /// `error` is none for exit code 0.
    Exited {
        exit_code: Option<i32>,
        error: Option<String>,
    },
    /// Preparing failed (`No such image: x`).
    Rejected {
        error: String,
    },
}

/// Something to do. All are idempotent; `resume` repeats those that are still due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the task startable (answer: `Preparing`, `Ready` or `Rejected`).
    Prepare { task: TaskId },
    /// Start it (answer: `Starting`, `Running`, …).
    Start { task: TaskId },
    /// Tell the ingress to send requests to it once it accepts them (answer: `Published`).
    Publish { task: TaskId },
    /// Tell the ingress to send it no more, and to say when nothing is in flight (`Drained`).
    Drain { task: TaskId },
    /// Stop signal, grace, SIGKILL (answer: `Exited`).
    Stop { task: TaskId },
    /// It is out of history: delete its folder and log.
    Forget { task: TaskId },
}
