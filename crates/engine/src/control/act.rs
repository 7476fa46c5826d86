//! Doing what the orchestrator asked: commands to the driver and to the ingress.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dockerapi::publish::protocol_of;
use orchestrator::{Action, Observed, SlotKey, Task, TaskId, Traffic};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Loop,
    asked::{drain_times, label, ports},
    auth, containers,
    name::task_name,
};
use crate::{
    driver::{Command, Launch},
    template,
    traffic::{self, Drain, Endpoint, Protocol, Route},
};

/// What a drain may take beyond the deadlines that the ingress itself keeps.
const PATIENCE: Duration = Duration::from_secs(10);

impl Loop {
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare { task } => {
                    self.launch(&task, Command::Prepare);
                    self.preparing.insert(task);
                }
                Action::Start { task } => self.launch(&task, Command::Start),
                Action::Publish { task } => {
                    if let Some(endpoint) = self.endpoint(&task) {
                        self.tell(traffic::Command::Publish(endpoint));
                    }
                }
                Action::Drain { task } => {
                    let drain = self.drain(&task);
                    let patience = drain.requests.max(drain.upgraded) + PATIENCE;
                    self.drains.insert(task, Instant::now() + patience);
                    self.tell(traffic::Command::Drain(drain));
                }
                Action::Stop { task } => self.driver.send(Command::Stop(task)),
                Action::Forget { task } => {
                    self.drains.remove(&task);
                    self.driver.send(Command::Forget(task));
                }
            }
        }
    }

    /// A task that is no longer wanted before it ever started has nothing to stop, but its image
    /// may still be pulled.
    pub(super) fn stop_unwanted(&mut self) {
        let (world, driver) = (&self.state.world, &self.driver);
        self.preparing.retain(|id| {
            let Some(task) = world.task(id) else { return false };
            if task.is_started {
                return false;
            }
            if task.is_live() {
                return task.observed < Observed::Ready;
            }
            driver.send(Command::Stop(id.clone()));
            false
        });
    }

    /// After a start of the engine: every task that may still run is looked for.
    pub(super) fn adopt(&mut self) {
        let ids: Vec<TaskId> = self
            .state
            .world
            .tasks()
            .filter(|task| !task.observed.is_end() && task.observed > Observed::New)
            .map(|task| task.id.clone())
            .collect();
        self.driver.sweep(&ids.iter().cloned().collect());
        for id in ids {
            self.launch(&id, Command::Adopt);
            self.preparing.insert(id);
        }
    }

    fn launch(&self, id: &TaskId, command: impl FnOnce(Launch) -> Command) {
        let Some(task) = self.state.world.task(id) else { return };
        self.driver.send(command(self.launch_of(task)));
    }

    fn launch_of(&self, task: &Task) -> Launch {
        let world = &self.state.world;
        let service = world.service(&task.service);
        let raw = service.and_then(|s| serde_json::from_str::<Value>(&s.spec.raw).ok());
        let labels = raw.as_ref().and_then(|raw| raw.get("Labels")?.as_object());
        let service_labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let (files, templates) = self.files(&task.spec.definition);
        Launch {
            task: task.id.clone(),
            name: task_name(world, task),
            service_id: task.service.0.clone(),
            service_name: service.map(|s| s.spec.name.clone()).unwrap_or_default(),
            slot: match task.slot {
                SlotKey::Replica(number) => number,
                SlotKey::Node(_) => 0,
            },
            node_id: task.node.clone(),
            node_hostname: hostname(),
            definition: task.spec.definition.clone(),
            service_labels,
            registry_auth: auth::of(&self.state, &task.service),
            files,
            templates,
            is_alone: false,
        }
    }

    /// The bytes of the secrets and configs that a definition refers to, and which are templates.
    fn files(&self, definition: &str) -> (BTreeMap<String, Vec<u8>>, BTreeSet<String>) {
        use base64::Engine as _;
        let definition: dockerapi::spec::Definition =
            serde_json::from_str(definition).unwrap_or_default();
        let spec = definition.task_template.container_spec.unwrap_or_default();
        let secrets = spec.secrets.iter().map(|reference| ("secret", reference.id()));
        let configs = spec.configs.iter().map(|reference| ("config", reference.id()));
        let (mut files, mut templates) = (BTreeMap::new(), BTreeSet::new());
        for (kind, id) in secrets.chain(configs) {
            let spec = self.state.objects[kind].get(id).and_then(|object| object.get("Spec"));
            let Some(data) = spec.and_then(|spec| spec.get("Data")?.as_str()) else { continue };
            let engine = base64::engine::general_purpose::STANDARD;
            let Ok(bytes) = engine.decode(data) else { continue };
            files.insert(id.to_owned(), bytes);
            if spec.is_some_and(template::is_template) {
                templates.insert(id.to_owned());
            }
        }
        (files, templates)
    }

    fn endpoint(&self, id: &TaskId) -> Option<Endpoint> {
        let task = self.state.world.task(id)?;
        let service = self.state.world.service(&task.service)?;
        Some(Endpoint {
            task: id.0.clone(),
            task_name: task_name(&self.state.world, task),
            service: service.spec.name.clone(),
            release: label(&service.spec, "evenkeel.release").unwrap_or_default(),
            addresses: self.driver.addresses(id),
            probation: service.spec.update.monitor,
            peer: None,
            // The engine's own prober asks it.
            probe: None,
        })
    }

    fn drain(&self, id: &TaskId) -> Drain {
        let task = self.state.world.task(id);
        let service = task.and_then(|task| self.state.world.service(&task.service));
        let [requests, upgraded] = drain_times(service);
        Drain { task: id.0.clone(), requests, upgraded }
    }

    fn all_routes(&self) -> Vec<Route> {
        let services = self.state.world.services().filter(|service| !service.is_removed);
        services
            .flat_map(|service| {
                let open = ports(&service.spec).into_iter();
                open.filter(|port| self.state.has_port(service, port)).map(|port| {
                    let key = format!("evenkeel.port.{}.protocol", port.published_port);
                    let named = label(&service.spec, &key);
                    let protocol = named.and_then(|name| protocol_of(&name));
                    Route {
                        published_port: port.published_port,
                        target_port: port.target_port,
                        protocol: protocol.unwrap_or(Protocol::Http),
                        service: service.spec.name.clone(),
                        address: None,
                    }
                })
            })
            .chain(containers::routes(&self.state))
            .collect()
    }

    pub(super) fn routes(&mut self) {
        let routes = self.all_routes();
        let published: Vec<u16> = routes.iter().map(|route| route.published_port).collect();
        self.state.listen_failures.retain(|port, _| published.contains(port));
        self.tell(traffic::Command::Routes(routes));
    }

    /// The whole wanted state for an ingress that has just connected.
    pub(super) fn sync(&mut self) {
        self.state.listen_failures.clear();
        let of = |wanted: &[Traffic]| -> Vec<TaskId> {
            let tasks = self.state.world.tasks().filter(|task| wanted.contains(&task.traffic));
            tasks.map(|task| task.id.clone()).collect()
        };
        let published = of(&[Traffic::Publishing, Traffic::Published]);
        let published = published.iter().filter_map(|id| self.endpoint(id));
        let published = published.chain(self.container_endpoints()).collect();
        let draining = of(&[Traffic::Draining]).iter().map(|id| self.drain(id)).collect();
        let routes = self.all_routes();
        self.tell(traffic::Command::Sync { routes, published, draining });
    }

    /// Commands are dropped while there is no ingress: the next connection begins with a sync.
    pub(super) fn tell(&mut self, command: traffic::Command) {
        if self.is_connected && self.commands.try_send(command).is_err() {
            tracing::warn!("the ingress does not take commands; waiting for it to connect again");
            self.is_connected = false;
        }
    }
}

/// This machine's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
