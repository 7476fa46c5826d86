//! The service spec on the wire, lossless: what is not modelled here is kept in `extra`, an unknown
//! value of an enumeration is kept as it is, and `null` is fine.
//!
//! Reading and writing back drops only `null`s and empty defaults. Still, whoever changes a service
//! edits its raw JSON: then not even those change.

use std::collections::BTreeMap;

use crate::wire::{null, wire};

wire!(ServiceSpec {
    name: String,
    labels: BTreeMap<String, String>,
    task_template: TaskTemplate,
    mode: Mode,
    update_config: Option<UpdateConfig>,
    rollback_config: Option<UpdateConfig>,
    endpoint_spec: EndpointSpec,
});
wire!(TaskTemplate {
    container_spec: Option<ContainerSpec>,
    restart_policy: RestartPolicy,
    log_driver: Option<LogDriver>,
    placement: Option<Placement>,
    resources: Option<Resources>,
});
wire!(Placement {
    constraints: Vec<String>,
    /// Tasks of the service on one node at most; 0 is any number.
    max_replicas: u64,
    platforms: Vec<Platform>,
});
wire!(Platform {
    architecture: String,
    #[serde(rename = "OS")]
    os: String,
});
wire!(Resources {
    limits: Option<Amounts>,
    reservations: Option<Amounts>,
});
wire!(Amounts {
    #[serde(rename = "NanoCPUs")]
    nano_cpus: u64,
    memory_bytes: u64,
    generic_resources: Vec<GenericResource>,
});
wire!(GenericResource {
    named_resource_spec: Option<GenericKind>,
    discrete_resource_spec: Option<GenericKind>,
});
wire!(GenericKind { kind: String });
wire!(
    /// How logs are kept; the options are the driver's own.
    LogDriver {
        name: String,
        options: BTreeMap<String, String>,
    }
);
wire!(ContainerSpec {
    image: String,
    labels: BTreeMap<String, String>,
    /// Overrides the image's entrypoint.
    command: Vec<String>,
    /// Overrides the image's command.
    args: Vec<String>,
    hostname: String,
    env: Vec<String>,
    dir: String,
    user: String,
    stop_signal: String,
    stop_grace_period: Option<u64>,
    healthcheck: Option<Healthcheck>,
    secrets: Vec<Reference>,
    configs: Vec<Reference>,
    mounts: Vec<Mount>,
});
wire!(
    /// A volume (by name), a folder of the machine (`bind`), or room of the task's own.
    Mount {
        #[serde(rename = "Type")]
        kind: String,
        source: String,
        target: String,
    }
);
wire!(
    /// Durations in nanoseconds; zero means "the default".
    Healthcheck {
        test: Vec<String>,
        interval: u64,
        timeout: u64,
        retries: u64,
        start_period: u64,
        start_interval: u64,
    }
);
wire!(
    /// A secret or config given to a task as a file.
    Reference {
        #[serde(rename = "SecretID")]
        secret_id: String,
        #[serde(rename = "ConfigID")]
        config_id: String,
        secret_name: String,
        config_name: String,
        file: ReferenceFile,
    }
);
wire!(ReferenceFile {
    name: String,
    /// A number as text.
    #[serde(rename = "UID")]
    uid: String,
    #[serde(rename = "GID")]
    gid: String,
    mode: Option<u32>,
});
wire!(RestartPolicy {
    condition: String,
    delay: Option<u64>,
    max_attempts: Option<u64>,
    window: Option<u64>,
});
wire!(UpdateConfig {
    parallelism: u64,
    delay: i64,
    failure_action: String,
    monitor: i64,
    max_failure_ratio: f64,
    order: String,
});
wire!(Mode {
    replicated: Option<Replicated>,
    global: Option<serde_json::Value>,
    replicated_job: Option<ReplicatedJob>,
    global_job: Option<serde_json::Value>,
});
wire!(
    /// Absent: one at a time; as many completions as run at a time.
    ReplicatedJob {
        max_concurrent: Option<u64>,
        total_completions: Option<u64>,
    }
);
wire!(Replicated {
    replicas: Option<u32>,
});
wire!(EndpointSpec {
    mode: String,
    ports: Vec<Port>,
});
wire!(Port {
    name: String,
    protocol: String,
    target_port: u16,
    published_port: u16,
    publish_mode: String,
});

impl Reference {
    /// The id of the secret or config.
    pub fn id(&self) -> &str {
        if self.secret_id.is_empty() { &self.config_id } else { &self.secret_id }
    }

    pub fn name(&self) -> &str {
        if self.secret_name.is_empty() { &self.config_name } else { &self.secret_name }
    }
}

wire!(
    /// The task's part of a definition (see `convert::definition`), read back.
    Definition {
        task_template: TaskTemplate,
        endpoint_spec: EndpointSpec,
    }
);
