//! Everything the engine knows: the orchestrator's world and the objects around it, with a list of
//! what changed since the last save.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dockerapi::{ApiError, spec};
use orchestrator::{Action, Availability, Event, ServiceId, Task, TaskId, Time, World, step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    asked::ports,
    happened::{self, Before},
    name::name_of,
};
use crate::{
    container::{self, Container},
    store::Write,
};

/// What the API shows of a service beside the orchestrator's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Docker's `Version.Index`: rises when the spec changes.
    pub index: u64,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What the operator sets of the node (`docker node update`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Docker's `Version.Index`; 0 until something was set.
    pub index: u64,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub availability: Availability,
    pub updated_at: Time,
}

/// The state, changed by the control loop only.
#[derive(Debug)]
pub struct State {
    pub world: World,
    pub services: BTreeMap<ServiceId, Service>,
    /// Kind (`config`, `secret`, `network`, `volume`) → id → object as the API shows it. Configs
    /// and secrets hold their data under `Spec.Data`.
    pub objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// Containers outside any service.
    pub containers: BTreeMap<TaskId, Container>,
    /// Exit codes of containers that are gone, oldest first.
    pub removed: VecDeque<(TaskId, i32)>,
    pub node_id: String,
    /// What the operator set of the node.
    pub node: NodeSpec,
    pub cluster_id: String,
    /// False after `docker swarm leave`.
    pub is_in_swarm: bool,
    pub(super) seed: u64,
    pub(super) identity_to_save: Option<Value>,
    pub created_at: Time,
    pub version_index: u64,
    pub is_ingress_connected: bool,
    pub listen_failures: BTreeMap<u16, String>,
    pub(super) last_time: Time,
    pub(super) actions: Vec<Action>,
    pub(super) are_routes_changed: bool,
    pub(super) events: Vec<Value>,
    pub(super) changed_objects: BTreeSet<(&'static str, String)>,
    pub(super) changed_containers: BTreeSet<TaskId>,
    pub(super) container_actions: Vec<(Container, container::Action)>,
    pub(super) is_node_changed: bool,
}

/// The kinds of object beside services and tasks. A `registry-auth` has the id of its service, and
/// is never shown.
pub const KINDS: [&str; 5] = ["config", "secret", "network", "volume", "registry-auth"];

impl State {
    pub fn now(&mut self) -> Time {
        super::clock(&mut self.last_time)
    }

    /// One step of the orchestrator; its actions wait for the save.
    pub fn step(&mut self, event: Event) {
        let before = self.rollout_states(&event);
        let stood = Before::of(&self.world, &event);
        let now = self.now();
        let actions = step(&mut self.world, now, event);
        for (id, action, attributes) in happened::since(&self.world, stood, &actions) {
            self.event("container", &action, &id, attributes);
        }
        self.actions.extend(actions);
        self.tell_rollouts(&before);
    }

    /// Specs and rollout states before a step, of the one service that it can change.
    fn rollout_states(&self, event: &Event) -> Vec<(ServiceId, u64, String)> {
        let id = match event {
            Event::Observed { task, .. } | Event::Published { task } | Event::Drained { task } => {
                self.world.task(task).map(|task| task.service.clone())
            }
            Event::RollbackRequested { id } => Some(id.clone()),
            Event::Tick => {
                let rolling = self.world.services().filter(|service| service.is_rolling());
                return rolling.map(|s| (s.id.clone(), s.spec_version, status(s))).collect();
            }
            Event::NodeChanged(_)
            | Event::JobTakenBack { .. }
            | Event::ServiceCreated { .. }
            | Event::ServiceUpdated { .. }
            | Event::ServiceRemoved { .. } => None,
        };
        let service = id.and_then(|id| self.world.service(&id));
        service.map(|s| (s.id.clone(), s.spec_version, status(s))).into_iter().collect()
    }

    fn tell_rollouts(&mut self, before: &[(ServiceId, u64, String)]) {
        for (id, version, old) in before {
            let Some(service) = self.world.service(id) else { continue };
            let (name, new) = (service.spec.name.clone(), status(service));
            if service.spec_version != *version {
                self.version_index += 1;
                let (index, now) = (self.version_index, self.last_time);
                if let Some(service) = self.services.get_mut(id) {
                    (service.index, service.updated_at) = (index, now);
                }
                self.are_routes_changed = true;
            }
            if new != *old {
                let attributes = json!({
                    "name": name, "updatestate.old": old, "updatestate.new": new,
                });
                self.event("service", "update", &id.0, attributes);
            }
        }
    }

    /// Something for `GET /events`.
    pub fn event(&mut self, kind: &str, action: &str, id: &str, attributes: Value) {
        let now = self.now();
        self.events.push(json!({
            "Type": kind, "Action": action,
            "scope": if matches!(kind, "container" | "image") { "local" } else { "swarm" },
            "Actor": { "ID": id, "Attributes": attributes },
            "time": now.0 / 1_000_000_000, "timeNano": now.0,
        }));
    }

    /// A service by id, name or unique beginning of its id.
    pub fn find_service(&self, key: &str) -> Result<ServiceId, ApiError> {
        let there = || self.world.services().filter(|service| !service.is_removed);
        let exact =
            there().find(|s| s.id.0 == key).or_else(|| there().find(|s| s.spec.name == key));
        if let Some(service) = exact {
            return Ok(service.id.clone());
        }
        let all: Vec<_> = there().filter(|service| service.id.0.starts_with(key)).collect();
        match all.as_slice() {
            [one] => Ok(one.id.clone()),
            [] => Err(ApiError::not_found(format!("service {key} not found"))),
            some => Err(ApiError::bad_parameter(format!(
                "service {key} is ambiguous ({} matches found)",
                some.len()
            ))),
        }
    }

    /// An object by id, name or unique beginning of its id.
    pub fn find_object(&self, kind: &'static str, key: &str) -> Result<String, ApiError> {
        let all = &self.objects[kind];
        let by_name = || all.iter().find(|(_, object)| name_of(object) == key);
        if let Some((id, _)) = all.get_key_value(key).or_else(by_name) {
            return Ok(id.clone());
        }
        let starts: Vec<_> = all.keys().filter(|id| id.starts_with(key)).collect();
        match starts.as_slice() {
            [one] if !key.is_empty() => Ok((*one).clone()),
            _ if kind == "volume" => Err(ApiError::not_found(format!("get {key}: no such volume"))),
            _ => Err(ApiError::not_found(format!("{kind} {key} not found"))),
        }
    }

    pub fn put_object(&mut self, kind: &'static str, id: &str, object: Value) {
        self.objects.entry(kind).or_default().insert(id.to_owned(), object);
        self.changed_objects.insert((kind, id.to_owned()));
    }

    pub fn delete_object(&mut self, kind: &'static str, id: &str) {
        self.objects.entry(kind).or_default().remove(id);
        self.changed_objects.insert((kind, id.to_owned()));
    }

    /// Names of the services whose spec refers to this secret or config.
    pub fn users_of(&self, id: &str) -> Vec<String> {
        let quoted = format!("\"{id}\"");
        let refers = |s: &&orchestrator::Service| {
            let way_back = s.last_good.as_ref().filter(|_| s.is_rolling());
            let is_on_way_back = way_back.is_some_and(|(_, spec)| spec.raw.contains(&quoted));
            !s.is_removed && (s.spec.raw.contains(&quoted) || is_on_way_back)
        };
        self.world.services().filter(refers).map(|service| service.spec.name.clone()).collect()
    }

    /// The service, other than `but`, that publishes a port, and as what. Two services may want
    /// the same port of the machine (mode `host`): the tasks of one wait until it is free.
    pub fn publisher(
        &self,
        port: &spec::Port,
        but: Option<&ServiceId>,
    ) -> Option<(String, ServiceId, &'static str)> {
        let is_host = |port: &spec::Port| port.publish_mode == "host";
        let others = self.world.services().filter(|s| !s.is_removed && Some(&s.id) != but);
        others.into_iter().find_map(|service| {
            let ports = ports(&service.spec);
            let conflicts = |p: &&spec::Port| {
                p.published_port == port.published_port && !(is_host(p) && is_host(port))
            };
            let held = ports.iter().find(conflicts)?;
            let mode = if is_host(held) { "a host-published" } else { "an ingress" };
            Some((service.spec.name.clone(), service.id.clone(), mode))
        })
    }

    /// Whether requests to a published port are this service's. A port of the machine (mode
    /// `host`) belongs to one service at a time: the one whose task has it.
    pub fn has_port(&self, service: &orchestrator::Service, port: &spec::Port) -> bool {
        let holds = |task: &Task| {
            let is_there = task.unplaced.is_none() && !task.observed.is_end();
            let mut held = task.spec.needs.host_ports.iter();
            is_there && held.any(|held| held.port == port.published_port)
        };
        port.publish_mode != "host" || self.world.tasks_of(&service.id).any(holds)
    }

    /// A new container, or one whose record changed.
    pub fn put_container(&mut self, own: Container) {
        self.changed_containers.insert(own.id.clone());
        self.containers.insert(own.id.clone(), own);
    }

    pub fn put_service(&mut self, id: &ServiceId) {
        let now = self.now();
        self.version_index += 1;
        let created_at = self.services.get(id).map_or(now, |service| service.created_at);
        let service = Service { index: self.version_index, created_at, updated_at: now };
        self.services.insert(id.clone(), service);
        self.are_routes_changed = true;
    }

    /// Everything that changed since the last call, as rows.
    pub(super) fn take_writes(&mut self) -> Vec<Write> {
        let changes = self.world.take_changes();
        let mut writes = Vec::new();
        for id in &changes.services {
            let world = self.world.service(id);
            if world.is_none() {
                self.services.remove(id);
                if self.objects.get_mut("registry-auth").is_some_and(|a| a.remove(&id.0).is_some())
                {
                    self.changed_objects.insert(("registry-auth", id.0.clone()));
                }
                self.are_routes_changed = true;
            }
            let body =
                world.map(|s| json!({ "world": s, "api": self.services.get(id) }).to_string());
            writes.push(Write { kind: "service", id: id.0.clone(), body });
        }
        for id in &changes.tasks {
            // Who holds a port of the machine may have changed with any of its tasks.
            self.are_routes_changed |=
                self.world.task(id).is_some_and(|task| !task.spec.needs.host_ports.is_empty());
            let body = self.world.task(id).and_then(|task| serde_json::to_string(task).ok());
            writes.push(Write { kind: "task", id: id.0.clone(), body });
        }
        for id in std::mem::take(&mut self.changed_containers) {
            let body = self.containers.get(&id).and_then(|own| serde_json::to_string(own).ok());
            writes.push(Write { kind: "container", id: id.0, body });
        }
        for (kind, id) in std::mem::take(&mut self.changed_objects) {
            let body = self.objects[kind].get(&id).map(Value::to_string);
            writes.push(Write { kind, id, body });
        }
        if let Some(identity) = &self.identity_to_save {
            let body = Some(identity.to_string());
            writes.push(Write { kind: "meta", id: "identity".to_owned(), body });
        }
        if std::mem::take(&mut self.is_node_changed) {
            let body = serde_json::to_string(&self.node).ok();
            writes.push(Write { kind: "meta", id: "node".to_owned(), body });
        }
        if !writes.is_empty() {
            let body = json!({
                "ids_issued": self.world.ids_issued(), "version_index": self.version_index,
            });
            let body = Some(body.to_string());
            writes.push(Write { kind: "meta", id: "counters".to_owned(), body });
        }
        writes
    }
}

fn status(service: &orchestrator::Service) -> String {
    let state = service.rollout.as_ref().map(|rollout| json!(rollout.state));
    state.and_then(|state| Some(state.as_str()?.to_owned())).unwrap_or_default()
}
