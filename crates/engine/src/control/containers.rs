//! Containers outside any service, beside the orchestrator's tasks: their steps, and doing what
//! follows from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use dockerapi::{ApiError, spec};
use orchestrator::{TaskId, Time};
use serde_json::{Map, Value, json};

use super::{Loop, State, container_id, hostname, task_name};
use crate::{
    container::{self, Action, Container, Event, Phase},
    driver::{Command, Launch, plan},
    traffic::{self, Drain, Endpoint, Protocol, Route},
};

/// Exit codes of removed containers that are remembered for those who wait.
const REMEMBERED: usize = 256;

impl State {
    /// One step of one container; its actions wait for the save.
    pub fn step_container(&mut self, id: &TaskId, event: Event) {
        let now = self.now();
        let Some(own) = self.containers.get_mut(id) else { return };
        let before = own.clone();
        let actions = container::step(own, now, event);
        if *own == before && actions.is_empty() {
            return;
        }
        self.changed_containers.insert(id.clone());
        let shown = own.clone();
        for action in actions {
            match action {
                Action::Tell(action, more) => {
                    let attributes = attributes(&shown, more);
                    self.event("container", action, &container_id(id), attributes);
                }
                Action::Routes => self.are_routes_changed = true,
                Action::Forget => {
                    self.forget_container(id);
                    self.container_actions.push((shown.clone(), Action::Forget));
                }
                other => self.container_actions.push((shown.clone(), other)),
            }
        }
    }

    fn forget_container(&mut self, id: &TaskId) {
        let Some(gone) = self.containers.remove(id) else { return };
        if self.removed.len() == REMEMBERED {
            self.removed.pop_front();
        }
        self.removed.push_back((id.clone(), gone.exit_code));
    }

    /// Something happened to every container.
    pub fn step_containers(&mut self, event: &Event) {
        let ids: Vec<TaskId> = self.containers.keys().cloned().collect();
        for id in ids {
            self.step_container(&id, event.clone());
        }
    }

    /// The next moment at which a container is due.
    pub(super) fn container_deadline(&self) -> Option<Time> {
        self.containers.values().filter_map(Container::deadline).min()
    }

    /// A name that neither a container nor a task has.
    pub fn check_name(&self, name: &str) -> Result<(), ApiError> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if name.len() < 2 || !starts_well || !name.chars().all(is_fine) {
            return Err(ApiError::bad_parameter(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        let own = self.containers.values().find(|own| own.name == name).map(|own| &own.id);
        let task = || {
            let mut started = self.world.tasks().filter(|task| task.is_started);
            started.find(|task| task_name(&self.world, task) == name).map(|task| &task.id)
        };
        match own.or_else(task) {
            None => Ok(()),
            Some(id) => Err(ApiError {
                status: http::StatusCode::CONFLICT,
                message: format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \
                     \"{}\". You have to remove (or rename) that container to be able to reuse \
                     that name.",
                    container_id(id)
                ),
            }),
        }
    }

    /// What the ingress knows a container by: its name, where no other has taken that.
    pub fn pool_of(&self, own: &Container) -> String {
        let pool = format!("/{}", own.name);
        let mut others = self.containers.values().filter(|other| other.id != own.id);
        match others.any(|other| other.pool == pool) {
            true => format!("{pool}.{}", own.id),
            false => pool,
        }
    }

    /// A task or container whose process runs, or is about to.
    pub fn is_running(&self, id: &TaskId) -> bool {
        match self.containers.get(id) {
            Some(own) => own.is_up(),
            None => self.world.task(id).is_some_and(|task| !task.observed.is_end()),
        }
    }

    pub fn is_running_or_waits(&self, id: &TaskId) -> bool {
        let waits = self.containers.get(id).is_some_and(Container::holds_ports);
        waits || self.is_running(id)
    }

    /// The exit code of a container that ended, or is gone.
    pub fn code_of(&self, id: &TaskId) -> i32 {
        if let Some(own) = self.containers.get(id) {
            return own.exit_code;
        }
        if let Some((_, code)) = self.removed.iter().rev().find(|(gone, _)| gone == id) {
            return *code;
        }
        self.world.task(id).map_or(137, |task| task.exit_code.unwrap_or(0))
    }

    /// Who has a published port: a service, or a container other than `but`.
    pub fn port_holder(&self, port: u16, but: Option<&TaskId>) -> Option<String> {
        let wanted = spec::Port { published_port: port, ..spec::Port::default() };
        if let Some((service, ..)) = self.publisher(&wanted, None) {
            return Some(format!("service {service}"));
        }
        let mut others = self.containers.values().filter(|own| Some(&own.id) != but);
        let holder = others
            .find(|own| own.holds_ports() && own.ports.iter().any(|own| own.published == port));
        holder.map(|own| format!("container {}", own.name))
    }
}

fn attributes(own: &Container, more: Vec<(&'static str, String)>) -> Value {
    let mut all: Map<String, Value> = own.asked["Labels"].as_object().cloned().unwrap_or_default();
    all.insert("image".to_owned(), own.asked["Image"].clone());
    all.insert("name".to_owned(), json!(own.name));
    all.extend(more.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
    Value::Object(all)
}

/// Each run of a container is an endpoint of its own: one that starts is never taken for the one
/// that has just ended.
fn endpoint(own: &Container, run: u64) -> String {
    format!("{}.{run}", own.id)
}

/// The routes of all containers that have their ports.
pub(super) fn routes(state: &State) -> impl Iterator<Item = Route> {
    let holders = state.containers.values().filter(|own| own.holds_ports());
    holders.flat_map(|own| {
        own.ports.iter().map(|port| Route {
            published_port: port.published,
            target_port: port.target,
            protocol: Protocol::Tcp,
            service: own.pool.clone(),
            address: port.host,
        })
    })
}

impl Loop {
    pub(super) fn perform_for_containers(&mut self, actions: Vec<(Container, Action)>) {
        for (own, action) in actions {
            let id = own.id.clone();
            match action {
                Action::Prepare => self.driver.send(Command::Prepare(launch(&self.state, &own))),
                Action::Run => self.driver.send(Command::Run(launch(&self.state, &own))),
                Action::Adopt => self.driver.send(Command::Adopt(launch(&self.state, &own))),
                Action::Stop => self.driver.send(Command::Stop(id)),
                Action::Kill => self.driver.send(Command::Signal(id, 9)),
                Action::Publish if !own.ports.is_empty() => {
                    let endpoint = self.container_endpoint(&own);
                    self.tell(traffic::Command::Publish(endpoint));
                }
                Action::Unpublish if !own.ports.is_empty() => {
                    // The run that has ended; connections ended with it.
                    let task = endpoint(&own, own.ends.saturating_sub(1));
                    let (requests, upgraded) = (Duration::ZERO, Duration::ZERO);
                    self.tell(traffic::Command::Drain(Drain { task, requests, upgraded }));
                }
                Action::Forget => self.driver.send(Command::Forget(id)),
                Action::Publish | Action::Unpublish | Action::Routes | Action::Tell(..) => {}
            }
        }
    }

    fn container_endpoint(&self, own: &Container) -> Endpoint {
        Endpoint {
            task: endpoint(own, own.ends),
            task_name: own.name.clone(),
            service: own.pool.clone(),
            release: String::new(),
            addresses: self.driver.addresses(&own.id),
            probation: Duration::ZERO,
            peer: None,
            probe: None,
        }
    }

    /// Containers that take connections, for an ingress that has just connected.
    pub(super) fn container_endpoints(&self) -> Vec<Endpoint> {
        let all = self.state.containers.values();
        let running = all.filter(|own| own.phase == Phase::Running && !own.ports.is_empty());
        running.map(|own| self.container_endpoint(own)).collect()
    }
}

fn launch(state: &State, own: &Container) -> Launch {
    let labels = own.asked["Labels"].as_object().into_iter().flatten();
    let labels: BTreeMap<String, String> =
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    Launch {
        task: own.id.clone(),
        name: own.name.clone(),
        service_id: String::new(),
        service_name: String::new(),
        slot: 0,
        node_id: state.node_id.clone(),
        node_hostname: hostname(),
        definition: Arc::clone(&own.definition),
        service_labels: labels,
        registry_auth: Default::default(),
        files: BTreeMap::new(),
        templates: BTreeSet::new(),
        is_alone: true,
    }
}

/// The signal that stops a container, for its events.
pub fn stop_signal(own: &Container) -> i32 {
    plan::signal_number(own.asked["StopSignal"].as_str().unwrap_or("")).unwrap_or(15)
}
