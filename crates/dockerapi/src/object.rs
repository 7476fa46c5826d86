//! What the API answers with: services, tasks, nodes and the rest, lossless as [`crate::spec`].
//! Times are texts in RFC 3339; [`crate::stamp`] reads them.

use std::collections::BTreeMap;

use crate::{
    spec::{Port, ServiceSpec, TaskTemplate},
    wire::{null, open_enum, wire},
};

wire!(
    /// `Version.Index`: rises with every change; an update must name the one it read.
    Version { index: u64, }
);
wire!(Service {
    #[serde(rename = "ID")]
    id: String,
    version: Version,
    created_at: String,
    updated_at: String,
    spec: ServiceSpec,
    previous_spec: Option<ServiceSpec>,
    endpoint: Endpoint,
    update_status: Option<UpdateStatus>,
    /// Only when it was asked for (`status=true`).
    service_status: Option<ServiceStatus>,
    /// Only of jobs.
    job_status: Option<JobStatus>,
});
wire!(
    /// Ports as they are, those given by the engine included.
    Endpoint { ports: Vec<Port>, }
);
wire!(ServiceStatus { running_tasks: u64, desired_tasks: u64, completed_tasks: u64 });
wire!(JobStatus { job_iteration: Version, last_execution: String });
wire!(UpdateStatus {
    state: UpdateState,
    started_at: Option<String>,
    completed_at: Option<String>,
    message: String,
});
open_enum!(
    /// Where a rollout stands.
    UpdateState {
        Updating = "updating",
        Paused = "paused",
        Completed = "completed",
        RollbackStarted = "rollback_started",
        RollbackPaused = "rollback_paused",
        RollbackCompleted = "rollback_completed",
    }
);
wire!(Task {
    #[serde(rename = "ID")]
    id: String,
    version: Version,
    created_at: String,
    updated_at: String,
    labels: BTreeMap<String, String>,
    spec: TaskTemplate,
    #[serde(rename = "ServiceID")]
    service_id: String,
    /// Counted from 1 (a job's from 0 on Docker); 0 for a global service.
    slot: u64,
    /// Which run of a job it belongs to.
    job_iteration: Option<Version>,
    #[serde(rename = "NodeID")]
    node_id: String,
    status: TaskStatus,
    desired_state: TaskState,
});
wire!(TaskStatus {
    timestamp: String,
    state: TaskState,
    message: String,
    err: String,
    container_status: Option<ContainerStatus>,
});
wire!(ContainerStatus {
    #[serde(rename = "ContainerID")]
    container_id: String,
    #[serde(rename = "PID")]
    pid: i64,
    exit_code: i64,
});
open_enum!(
    /// States of a task, wanted and observed.
    TaskState {
        New = "new",
        Allocated = "allocated",
        Pending = "pending",
        Assigned = "assigned",
        Accepted = "accepted",
        Preparing = "preparing",
        Ready = "ready",
        Starting = "starting",
        Running = "running",
        Complete = "complete",
        Shutdown = "shutdown",
        Failed = "failed",
        Rejected = "rejected",
        Remove = "remove",
        Orphaned = "orphaned",
    }
);

impl TaskState {
    /// It ended with an error.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed | Self::Rejected | Self::Orphaned)
    }
}

wire!(Node {
    #[serde(rename = "ID")]
    id: String,
    version: Version,
    description: NodeDescription,
    status: NodeStatus,
    manager_status: Option<ManagerStatus>,
});
wire!(NodeDescription { hostname: String });
wire!(NodeStatus { state: String, addr: String });
wire!(ManagerStatus { leader: bool, reachability: String, addr: String });
wire!(
    /// A config or a secret. `Data` is base64; a secret has none.
    Blob {
        #[serde(rename = "ID")]
        id: String,
        version: Version,
        created_at: String,
        updated_at: String,
        spec: BlobSpec,
    }
);
wire!(BlobSpec {
    name: String,
    labels: BTreeMap<String, String>,
    data: String,
});
wire!(Network {
    name: String,
    #[serde(rename = "Id")]
    id: String,
    created: String,
    scope: String,
    driver: String,
    labels: BTreeMap<String, String>,
});
wire!(ImageSummary {
    id: String,
    /// Unix seconds.
    created: i64,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    size: i64,
    labels: BTreeMap<String, String>,
});
wire!(ImageInspect {
    id: String,
    created: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    size: i64,
});
wire!(Info {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    server_version: String,
    operating_system: String,
    swarm: SwarmInfo,
});
wire!(SwarmInfo {
    #[serde(rename = "NodeID")]
    node_id: String,
    local_node_state: String,
    control_available: bool,
    error: String,
});
wire!(VersionAnswer {
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
});
wire!(Event {
    #[serde(rename = "Type")]
    kind: String,
    action: String,
    actor: Actor,
    #[serde(rename = "scope")]
    scope: String,
    #[serde(rename = "time")]
    time_seconds: i64,
    #[serde(rename = "timeNano")]
    time_nanos: i64,
});
wire!(Actor {
    #[serde(rename = "ID")]
    id: String,
    attributes: BTreeMap<String, String>,
});
