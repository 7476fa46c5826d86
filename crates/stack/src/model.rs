//! A stack file after reading: plain values, every short form written out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Everything a stack file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stack {
    /// The top-level `name:`, if any; the command line wins over it.
    pub name: Option<String>,
    pub services: BTreeMap<String, Service>,
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    pub configs: BTreeMap<String, Content>,
    pub secrets: BTreeMap<String, Content>,
    pub settings: StackSettings,
}

/// The top-level `x-evenkeel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSettings {
    /// Images kept per service when a release is done.
    pub keep_images: u32,
    /// Release records kept.
    pub keep_releases: u32,
}

impl Default for StackSettings {
    fn default() -> Self {
        Self { keep_images: 3, keep_releases: 50 }
    }
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// The key under `services:`.
    pub name: String,
    pub image: Option<String>,
    pub build: Option<DockerBuild>,
    pub artifact: Option<Artifact>,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    /// `None`: the variable is removed from the image's environment.
    pub environment: BTreeMap<String, Option<String>>,
    /// Labels of the containers, not of the service.
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    pub mounts: Vec<Mount>,
    pub configs: Vec<Grant>,
    pub secrets: Vec<Grant>,
    pub networks: BTreeMap<String, Attachment>,
    pub healthcheck: Option<Healthcheck>,
    pub deploy: Deploy,
    pub depends_on: Vec<String>,
    pub logging: Option<Logging>,
    pub process: Process,
    /// `x-evenkeel.health.http`
    pub health_http: Option<String>,
    /// `x-evenkeel.progress_deadline`
    pub progress_deadline: Option<Duration>,
    /// `x-evenkeel.drain.upgraded`
    pub drain_upgraded: Option<Duration>,
    /// `x-evenkeel.ingress: false`
    pub stays_on_mesh: bool,
}

/// How the process inside a container runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    pub hostname: Option<String>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub working_dir: Option<String>,
    pub stop_signal: Option<String>,
    pub stop_grace_period: Option<Duration>,
    pub init: Option<bool>,
    pub read_only: bool,
    pub tty: bool,
    pub stdin_open: bool,
    pub isolation: Option<String>,
    pub oom_score_adj: Option<i64>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub sysctls: BTreeMap<String, String>,
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `(address, name)`
    pub extra_hosts: Vec<(String, String)>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
}

/// A limit of the kernel for a process; -1 is "no limit".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}

/// `build:`, done by a Docker engine. Paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerBuild {
    pub context: PathBuf,
    pub dockerfile: Option<String>,
    pub target: Option<String>,
    pub args: BTreeMap<String, Option<String>>,
    pub labels: BTreeMap<String, String>,
}

/// `x-evenkeel.artifact`: an image made of files, without Docker. Paths of the host are relative
/// to the stack file's folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Artifact {
    /// The build command, an argument vector; none means the files are already there.
    pub build: Option<Vec<String>>,
    /// Path in the image → path on the host; a path that ends in `/` is a folder.
    pub files: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// In Docker's form: `{"Test":[…],"Interval":ns,…}`.
    pub healthcheck: Option<Value>,
}

/// One published or internal port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub target: u16,
    /// `None`: any free port.
    pub published: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `ingress` or `host`.
    pub mode: String,
    /// `tcp` or `http`, when the file says so.
    pub app_protocol: Option<String>,
    /// The address of the host the file asks for; Swarm cannot honour it.
    pub host_ip: Option<String>,
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute host path, key of `volumes:`, or nothing for an anonymous volume or tmpfs.
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    pub consistency: Option<String>,
    pub propagation: Option<String>,
    pub no_copy: bool,
    pub subpath: Option<String>,
    pub tmpfs_size: Option<u64>,
    pub tmpfs_mode: Option<u32>,
}

/// What kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

/// A service's use of a config or secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub source: String,
    pub target: Option<String>,
    pub uid: String,
    pub gid: String,
    pub mode: u32,
}

/// A service's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    pub aliases: Vec<String>,
    pub driver_opts: BTreeMap<String, String>,
}

/// When a container counts as healthy. Absent fields are the image's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// Empty: the image's. `["NONE"]`: no check.
    pub test: Vec<String>,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub retries: Option<u64>,
}

/// `deploy:`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deploy {
    pub mode: Mode,
    pub replicas: Option<u64>,
    /// Labels of the service.
    pub labels: BTreeMap<String, String>,
    pub update_config: Option<UpdateConfig>,
    pub rollback_config: Option<UpdateConfig>,
    pub restart_policy: Option<RestartPolicy>,
    pub limits: Option<Resources>,
    pub reservations: Option<Resources>,
    pub constraints: Vec<String>,
    /// The labels to spread over.
    pub spread: Vec<String>,
    pub max_replicas_per_node: Option<u64>,
    pub endpoint_mode: Option<String>,
}

/// How many tasks, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

/// `update_config` and `rollback_config`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateConfig {
    pub parallelism: Option<u64>,
    pub delay: Option<Duration>,
    pub failure_action: Option<String>,
    pub monitor: Option<Duration>,
    pub max_failure_ratio: Option<f64>,
    pub order: Option<String>,
}

/// `restart_policy`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    pub condition: Option<String>,
    pub delay: Option<Duration>,
    pub max_attempts: Option<u64>,
    pub window: Option<Duration>,
}

/// Limits or reservations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    pub nano_cpus: Option<i64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<i64>,
    /// `(kind, amount)`
    pub generic: Vec<(String, i64)>,
}

/// `logging:`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
}

/// An entry of the top-level `networks:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    pub external: bool,
    pub name: Option<String>,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv6: Option<bool>,
    pub labels: BTreeMap<String, String>,
    pub ipam_driver: Option<String>,
    pub subnets: Vec<Subnet>,
}

/// One `ipam.config` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnet {
    pub subnet: Option<String>,
    pub ip_range: Option<String>,
    pub gateway: Option<String>,
}

/// An entry of the top-level `volumes:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    pub external: bool,
    pub name: Option<String>,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// An entry of the top-level `configs:` or `secrets:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub external: bool,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub template_driver: Option<String>,
    pub payload: Payload,
}

/// Bytes that are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}
