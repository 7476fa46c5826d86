//! One execution of a slot: what is wanted of it, what was observed, and where its traffic stands.
//!
//! ```text
//! desired:  Ready ──▶ Running ──▶ Shutdown ──▶ Remove                     only forward
//! observed: New ▶ Preparing ▶ Ready ▶ Starting ▶ Running ▶ {Complete|Shutdown|Failed|Rejected}
//! traffic:  Off ──▶ Publishing ──▶ Published ──▶ Draining ──▶ Drained     only forward
//! ```

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{node::Unplaced, spec::TaskSpec, time::Time};

/// 25 characters `[0-9a-z]`, as Docker's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub String);

/// 25 characters `[0-9a-z]`, as Docker's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId(pub String);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place a task fills: a numbered replica, or a node for a global service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SlotKey {
    /// Counted from 1.
    Replica(u32),
    /// The node's id.
    Node(String),
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(number) => write!(f, "slot {number}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// What is wanted of a task. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Desired {
    Ready,
    Running,
    Shutdown,
    Remove,
}

/// What was observed of a task. Only ever moves forward; the last four are ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Observed {
    New,
    Preparing,
    Ready,
    Starting,
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Ended because it was told to.
    Shutdown,
    /// Ended by itself with an error, or was found unhealthy.
    Failed,
    /// Never started: the image is missing, the preparation failed.
    Rejected,
}

impl Observed {
    pub fn is_end(self) -> bool {
        self > Observed::Running
    }
}

/// Where the traffic handshake with the ingress stands. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Traffic {
    Off,
    Publishing,
    Published,
    Draining,
    Drained,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub service: ServiceId,
    pub slot: SlotKey,
    /// The node it runs on.
    pub node: String,
    /// The spec version of the service it was made from.
    pub spec_version: u64,
    pub spec: TaskSpec,
    /// Which run of a job it belongs to; none for services that are no jobs.
    #[serde(default)]
    pub iteration: Option<u64>,
    /// Why it waits for a place on the node; none once it has one.
    #[serde(default)]
    pub unplaced: Option<Unplaced>,
    pub desired: Desired,
    pub observed: Observed,
    pub traffic: Traffic,
    /// Health probes fail now; it is to be replaced.
    pub is_unhealthy: bool,
    /// What the last failed probe said.
    pub detail: Option<String>,
    /// Why it failed, in Docker's words (`task: non-zero exit (1)`).
    pub error: Option<String>,
    pub exit_code: Option<i32>,
    /// Where it listens; known from `Running` on for services with traffic.
    pub address: Option<SocketAddr>,
    pub created_at: Time,
    /// When `observed` last changed.
    pub observed_at: Time,
    /// When it was first observed `Running`.
    pub running_at: Option<Time>,
    /// A restart's replacement: not started before this moment.
    pub start_after: Option<Time>,
    /// The task it replaces could not even be prepared: nor is this one before this moment.
    #[serde(default)]
    pub prepare_after: Option<Time>,
    /// The failed task that this one replaces under the restart policy.
    pub restart_of: Option<TaskId>,
    /// It was handed to the driver to be started: there may be a process.
    pub is_started: bool,
    /// The last action asked for; the same one is not asked for twice in one life of the engine.
    pub issued: Option<Issued>,
}

/// Kinds of action that a task can have been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Issued {
    Prepare,
    Start,
    Publish,
    Drain,
    Stop,
}

impl Task {
    /// Still wanted, and not at its end.
    pub fn is_live(&self) -> bool {
        self.desired <= Desired::Running && !self.observed.is_end()
    }

    /// Runs, is healthy, and takes requests where the service has any.
    pub fn is_serving(&self) -> bool {
        self.is_live()
            && self.observed == Observed::Running
            && !self.is_unhealthy
            && (!self.spec.has_traffic || self.traffic == Traffic::Published)
    }

    /// Nothing of it is left that anyone waits for.
    pub fn is_over(&self) -> bool {
        self.observed.is_end() && matches!(self.traffic, Traffic::Off | Traffic::Drained)
    }

    /// What is due now, by state alone.
    pub(crate) fn due(&self) -> Option<Issued> {
        if self.desired >= Desired::Shutdown || self.observed.is_end() {
            return match self.traffic {
                Traffic::Publishing | Traffic::Published | Traffic::Draining => Some(Issued::Drain),
                Traffic::Off | Traffic::Drained if self.observed.is_end() => None,
                Traffic::Off | Traffic::Drained => self.is_started.then_some(Issued::Stop),
            };
        }
        match self.observed {
            Observed::New | Observed::Preparing => {
                self.unplaced.is_none().then_some(Issued::Prepare)
            }
            Observed::Ready => (self.desired == Desired::Running).then_some(Issued::Start),
            Observed::Running if self.spec.has_traffic && !self.is_unhealthy => {
                matches!(self.traffic, Traffic::Off | Traffic::Publishing)
                    .then_some(Issued::Publish)
            }
            _ => None,
        }
    }
}
