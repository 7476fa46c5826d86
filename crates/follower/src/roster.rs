//! Which tasks the ingress sends requests to, decided from what a manager and this node's Docker
//! tell. Pure.
//!
//! ```text
//!            runs and is wanted            the ingress says so
//! (unknown) ─────────────────────▶ Joining ──────────────────▶ Ready
//!                                     └──────────┬──────────────┘
//!                                  it may go: Draining ──the ingress says so──▶ Drained ─▶ (ended: forgotten)
//! ```
//!
//! A task that Swarm wants stopped **may go** when nobody replaces it in its slot, or when the one
//! that does has been ready for the monitor time, or when its own time is over. Until then it
//! serves on beside its replacement: one that crashes just after it became healthy costs nothing.
//! Swarm itself gives a task about three seconds until its stop signal; only one whose real signal
//! is ours to send ([`Stop`](dockerapi::publish::Stop)) may stay longer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use orchestrator::{
    Time,
    traffic::{Command, Drain, Endpoint, Route},
};

use crate::{
    local::Local,
    peer::RELAY_PORT,
    view::{Service, State, Task, View, Wanted},
};

/// How long a task that Swarm signals by itself stays after it is not wanted, for a replacement
/// that is not ready yet; and how long its requests in flight get then. Swarm's signal comes 3.1 s
/// after, or 1.1 s where the task is on no overlay network.
const ON_OVERLAY: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(1800)];
const ON_NONE: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(700)];

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Joining,
    Ready,
    Draining,
    Drained,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    endpoint: Endpoint,
    drain: Drain,
    service: String,
    slot: String,
    stage: Stage,
    ready_at: Option<Time>,
    /// Since when Swarm wants it stopped.
    leaving_at: Option<Time>,
    /// A replacement ran when it was first seen to leave.
    is_replaced: bool,
    /// How long it may stay at most.
    linger: Duration,
    monitor: Duration,
}

/// What one node's ingress was told, and what it answered.
#[derive(Debug, Default)]
pub struct Roster {
    known: BTreeMap<String, Known>,
    routes: Vec<Route>,
}

impl Roster {
    /// Compares what there is with what the ingress was told; returns what to tell it now.
    pub fn look(&mut self, now: Time, view: &View, local: &Local) -> Vec<Command> {
        let mut commands = Vec::new();
        let routes = routes(view);
        if routes != self.routes {
            self.routes = routes.clone();
            commands.push(Command::Routes(routes));
        }
        let mut gone: Vec<String> = self.known.keys().cloned().collect();
        for task in &view.tasks {
            gone.retain(|id| *id != task.id);
            let Some(service) = view.services.get(&task.service) else { continue };
            if service.ports.is_empty() && !self.known.contains_key(&task.id) {
                continue;
            }
            commands.extend(self.consider(now, view, task, service, local));
        }
        for id in gone {
            commands.extend(self.drain(&id));
            self.known.retain(|known, about| *known != id || about.stage < Stage::Drained);
        }
        commands
    }

    /// One task that Swarm still lists.
    fn consider(
        &mut self,
        now: Time,
        view: &View,
        task: &Task,
        service: &Service,
        local: &Local,
    ) -> Option<Command> {
        let is_ill = local.containers.get(&task.container).is_some_and(|c| c.is_unhealthy);
        let serves = task.state == State::Running && task.wanted == Wanted::Running && !is_ill;
        if serves {
            let mut endpoint = endpoint(view, task, service, local)?;
            let known = self.known.get(&task.id);
            if let Some(known) = known {
                // The service moved on; a task stays what it was when it came.
                endpoint.release.clone_from(&known.endpoint.release);
                endpoint.probation = known.endpoint.probation;
            }
            if known.is_some_and(|k| k.endpoint == endpoint || k.stage > Stage::Ready) {
                return None;
            }
            let known = Known::new(endpoint.clone(), task, service);
            self.known.insert(task.id.clone(), known);
            return Some(Command::Publish(endpoint));
        }
        let known = self.known.get(&task.id)?;
        if task.state == State::Ended || is_ill {
            let command = self.drain(&task.id);
            self.known.retain(|id, k| *id != task.id || k.stage < Stage::Drained || is_ill);
            return command;
        }
        let is_first = known.leaving_at.is_none();
        let is_replaced =
            if is_first { replacement(view, task).is_some() } else { known.is_replaced };
        if let Some(known) = self.known.get_mut(&task.id) {
            known.leaving_at.get_or_insert(now);
            known.is_replaced = is_replaced;
        }
        if self.may_go(now, view, task) { self.drain(&task.id) } else { None }
    }

    fn may_go(&self, now: Time, view: &View, task: &Task) -> bool {
        let Some(known) = self.known.get(&task.id) else { return true };
        let is_over = known.leaving_at.is_some_and(|at| now.since(at) >= known.linger);
        if is_over || !known.is_replaced {
            return true;
        }
        let ready_since = replacement(view, task)
            .and_then(|new| self.known.get(&new.id))
            .filter(|new| new.stage == Stage::Ready)
            .and_then(|new| new.ready_at);
        let wait = if task.stop().is_some() { known.monitor } else { Duration::ZERO };
        ready_since.is_some_and(|at| now.since(at) >= wait)
    }

    fn drain(&mut self, task: &str) -> Option<Command> {
        let known = self.known.get_mut(task).filter(|known| known.stage < Stage::Draining)?;
        known.stage = Stage::Draining;
        Some(Command::Drain(known.drain.clone()))
    }

    /// The ingress sends requests to it.
    pub fn published(&mut self, now: Time, task: &str) {
        if let Some(known) = self.known.get_mut(task).filter(|k| k.stage == Stage::Joining) {
            known.stage = Stage::Ready;
            known.ready_at = Some(now);
        }
    }

    /// The ingress has nothing of it in flight, and sends it nothing more.
    pub fn drained(&mut self, task: &str) {
        if let Some(known) = self.known.get_mut(task).filter(|k| k.stage == Stage::Draining) {
            known.stage = Stage::Drained;
        }
    }

    /// Everything, for an ingress that has just connected.
    pub fn sync(&mut self) -> Command {
        // What it had before it was started anew is gone with it.
        self.known.retain(|_, known| known.stage < Stage::Drained);
        let of = |is: fn(Stage) -> bool| self.known.values().filter(move |k| is(k.stage));
        Command::Sync {
            routes: self.routes.clone(),
            published: of(|s| s < Stage::Draining).map(|k| k.endpoint.clone()).collect(),
            draining: of(|s| s == Stage::Draining).map(|k| k.drain.clone()).collect(),
        }
    }

    pub fn stage(&self, task: &str) -> Option<Stage> {
        self.known.get(task).map(|known| known.stage)
    }

    pub fn endpoint(&self, task: &str) -> Option<&Endpoint> {
        self.known.get(task).map(|known| &known.endpoint)
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// A decision waits for time to pass.
    pub fn is_waiting(&self) -> bool {
        self.known.values().any(|k| k.leaving_at.is_some() && k.stage < Stage::Drained)
    }
}

impl Known {
    fn new(endpoint: Endpoint, task: &Task, service: &Service) -> Self {
        let stop = task.stop();
        let (linger, requests, upgraded) = match &stop {
            Some(stop) => {
                // Both have their turn before the signal is sent in any case.
                let after = service.upgraded.max(stop.grace);
                (stop.within.saturating_sub(after), stop.grace, service.upgraded)
            }
            None => {
                let [linger, rest] = if task.addresses.is_empty() { ON_NONE } else { ON_OVERLAY };
                (linger, rest, rest)
            }
        };
        Self {
            drain: Drain { task: endpoint.task.clone(), requests, upgraded },
            endpoint,
            service: task.service.clone(),
            slot: task.slot.clone(),
            stage: Stage::Joining,
            ready_at: None,
            leaving_at: None,
            is_replaced: false,
            linger,
            monitor: service.monitor,
        }
    }
}

/// The newest task that runs in a leaving task's slot.
fn replacement<'a>(view: &'a View, task: &Task) -> Option<&'a Task> {
    view.tasks
        .iter()
        .filter(|new| {
            new.service == task.service
                && new.slot == task.slot
                && new.id != task.id
                && new.state == State::Running
                && new.wanted == Wanted::Running
        })
        .max_by_key(|new| new.created_at)
}

/// A task of this node is reached by itself, one of another through the ingress there.
fn endpoint(view: &View, task: &Task, service: &Service, local: &Local) -> Option<Endpoint> {
    let is_here = task.node == local.node;
    let (address, peer): (IpAddr, _) = if is_here {
        (local.containers.get(&task.container)?.address?, None)
    } else {
        (view.nodes.get(&task.node)?.address.parse().ok()?, Some(task.node.clone()))
    };
    let port = |target: u16| if is_here { target } else { RELAY_PORT };
    let ports = service.ports.iter().map(|(_, target, _)| *target);
    Some(Endpoint {
        task: task.id.clone(),
        task_name: view.task_name(task),
        service: service.name.clone(),
        release: service.release.clone(),
        addresses: ports.map(|to| (to, SocketAddr::new(address, port(to)))).collect(),
        probation: service.monitor,
        peer,
        probe: service.probe.clone(),
    })
}

fn routes(view: &View) -> Vec<Route> {
    let mut by_port = BTreeMap::new();
    for service in view.services.values() {
        for &(published_port, target_port, protocol) in &service.ports {
            let service = service.name.clone();
            let address = None;
            let route = Route { published_port, target_port, protocol, service, address };
            // Two that want the same port: always the same one gets it.
            by_port
                .entry(published_port)
                .and_modify(|known: &mut Route| {
                    if route.service < known.service {
                        *known = route.clone();
                    }
                })
                .or_insert_with(|| route.clone());
        }
    }
    by_port.into_values().collect()
}

#[cfg(test)]
mod tests;
