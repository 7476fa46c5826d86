//! Turns a [`Stack`] into the request bodies `docker stack deploy` would send.
//!
//! Source of every rule: docker/cli `cli/compose/convert`. Two deliberate differences: configs
//! and secrets carry a hash of their content in their name, so that changed content redeploys
//! instead of being refused, and an explicit `monitor: 0s` stays zero (1 ns on the wire, where
//! 0 means Docker's default of 5 s).

mod container;
mod content;
mod deploy;
mod network;

pub(crate) use container::healthcheck as healthcheck_json;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::{Artifact, DockerBuild, Service, Stack};
use crate::order;

/// Label of everything that belongs to a stack.
pub const NAMESPACE_LABEL: &str = "com.docker.stack.namespace";
/// Service label: the image as the stack file names it, before a digest is pinned.
pub const IMAGE_LABEL: &str = "com.docker.stack.image";

/// Bodies in Docker's wire format, ready to be posted.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// `POST /networks/create` bodies, of the networks some service uses.
    pub networks: Vec<Value>,
    /// `POST /configs/create` bodies: `{Name, Labels, Data}`.
    pub configs: Vec<Value>,
    /// `POST /secrets/create` bodies: `{Name, Labels, Data}`. Never log these.
    pub secrets: Vec<Value>,
    /// A service comes after the ones it depends on; otherwise by name.
    pub services: Vec<LoweredService>,
    pub external: External,
}

/// Names that must exist in the engine before the stack is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct External {
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
    pub configs: Vec<String>,
    pub secrets: Vec<String>,
}

/// One service, ready to be created or updated.
#[derive(Debug, Clone, PartialEq)]
pub struct LoweredService {
    /// The key under `services:`.
    pub short_name: String,
    /// `<namespace>_<short name>`
    pub name: String,
    /// Docker's `ServiceSpec`. Networks are named, not yet ids; config and secret references have
    /// `ConfigName`/`SecretName` and no id.
    pub spec: Value,
    pub artifact: Option<Artifact>,
    pub build: Option<DockerBuild>,
    /// Short names.
    pub depends_on: Vec<String>,
    /// The file's `image:`; for a service that is built and names none, `<namespace>-<service>`.
    pub image: String,
}

impl Stack {
    /// The bodies for a stack called `namespace`.
    pub fn lower(&self, namespace: &str) -> Lowered {
        let scope = Scope { namespace, stack: self };
        let order = order::by_dependency(&self.services);
        Lowered {
            networks: network::networks(&scope),
            configs: content::create_bodies(&scope, &self.configs),
            secrets: content::create_bodies(&scope, &self.secrets),
            services: order.iter().map(|name| service(&scope, &self.services[name])).collect(),
            external: self.external(),
        }
    }

    fn external(&self) -> External {
        let used = network::used(self);
        let networks = self.networks.iter().filter(|(key, n)| n.external && used.contains(*key));
        let volumes = self.volumes.iter().filter(|(_, v)| v.external);
        let configs = self.configs.iter().filter(|(_, c)| c.external);
        let secrets = self.secrets.iter().filter(|(_, c)| c.external);
        External {
            networks: sorted(networks.map(|(key, n)| n.name.as_ref().unwrap_or(key))),
            volumes: sorted(volumes.map(|(key, v)| v.name.as_ref().unwrap_or(key))),
            configs: sorted(configs.map(|(key, c)| c.name.as_ref().unwrap_or(key))),
            secrets: sorted(secrets.map(|(key, c)| c.name.as_ref().unwrap_or(key))),
        }
    }
}

/// What a conversion needs to know of its surroundings.
pub(crate) struct Scope<'a> {
    pub namespace: &'a str,
    pub stack: &'a Stack,
}

impl Scope<'_> {
    pub fn name(&self, short: &str) -> String {
        format!("{}_{short}", self.namespace)
    }

    /// `labels` with the label that says which stack this belongs to.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = labels.clone();
        all.insert(NAMESPACE_LABEL.to_string(), self.namespace.to_string());
        all
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn service(scope: &Scope<'_>, service: &Service) -> LoweredService {
    let name = scope.name(&service.name);
    let image = service
        .image
        .clone()
        .unwrap_or_else(|| format!("{}-{}", scope.namespace, service.name).to_lowercase());
    let mut labels = scope.labels(&service.deploy.labels);
    labels.insert(IMAGE_LABEL.to_string(), image.clone());
    labels.extend(own_labels(service));
    let mut task = serde_json::Map::new();
    task.insert("ContainerSpec".into(), container::spec(scope, service, &image));
    task.insert("Resources".into(), deploy::resources(&service.deploy));
    if let Some(policy) = &service.deploy.restart_policy {
        task.insert("RestartPolicy".into(), deploy::restart_policy(policy));
    }
    task.insert("Placement".into(), deploy::placement(&service.deploy));
    if let Some(logging) = &service.logging {
        task.insert("LogDriver".into(), deploy::log_driver(logging));
    }
    task.insert("Networks".into(), network::attachments(scope, service));
    task.insert("ForceUpdate".into(), json!(0));
    let mut spec = json!({
        "Name": name,
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": deploy::mode(&service.deploy),
        "EndpointSpec": deploy::endpoint(service),
    });
    if let Some(config) = &service.deploy.update_config {
        spec["UpdateConfig"] = deploy::update_config(config);
    }
    if let Some(config) = &service.deploy.rollback_config {
        spec["RollbackConfig"] = deploy::update_config(config);
    }
    LoweredService {
        short_name: service.name.clone(),
        name,
        spec,
        artifact: service.artifact.clone(),
        build: service.build.clone(),
        depends_on: service.depends_on.clone(),
        image,
    }
}

/// What Docker has no words for, as labels of the service (never of its containers: a label there
/// would restart the tasks).
fn own_labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut put = |key: String, value: String| drop(labels.insert(key, value));
    if let Some(path) = &service.health_http {
        put("evenkeel.health.http".into(), path.clone());
    }
    if let Some(deadline) = service.progress_deadline {
        put("evenkeel.progress_deadline".into(), crate::quantity::go_duration(deadline));
    }
    if let Some(drain) = service.drain_upgraded {
        put("evenkeel.drain.upgraded".into(), crate::quantity::go_duration(drain));
    }
    if service.stays_on_mesh {
        put("evenkeel.ingress".into(), "false".into());
    }
    if !service.depends_on.is_empty() {
        put("evenkeel.depends_on".into(), service.depends_on.join(","));
    }
    for port in &service.ports {
        let Some(published) = port.published else { continue };
        if let Some(protocol) = &port.app_protocol {
            put(format!("evenkeel.port.{published}.protocol"), protocol.clone());
        }
        if let Some(address) = &port.host_ip {
            put(format!("evenkeel.port.{published}.host_ip"), address.clone());
        }
    }
    labels
}
