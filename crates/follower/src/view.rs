//! What a manager knows of a Swarm, reduced to what the ingress of a node needs. Pure.
//!
//! A view is made from the Docker API's answers on a manager; workers are given it by one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dockerapi::{
    convert::HEALTH_HTTP,
    object::{self, TaskState, UpdateState},
    publish::{self, DRAIN_UPGRADED, Port, Stop},
    stamp,
};
use orchestrator::{Time, traffic::Protocol};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Docker's monitor time when a service names none.
const MONITOR: Duration = Duration::from_secs(5);
/// What upgraded connections get when a service names nothing.
const UPGRADED: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(10);

/// Everything at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// By id.
    pub services: BTreeMap<String, Service>,
    pub tasks: Vec<Task>,
    /// By id.
    pub nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// The release it was last changed by; empty when there is none.
    pub release: String,
    /// Published port, target port, and how its bytes are understood.
    pub ports: Vec<(u16, u16, Protocol)>,
    /// The path by which the ingress sees whether a task is well.
    pub probe: Option<String>,
    pub monitor: Duration,
    pub upgraded: Duration,
    /// A rollout is under way: the next change may come at any moment.
    pub is_changing: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    pub service: String,
    /// The number of a replica, or the node of a global service's task.
    pub slot: String,
    pub node: String,
    pub created_at: Time,
    pub wanted: Wanted,
    pub state: State,
    /// The container's id; empty before there is one.
    pub container: String,
    /// Overlay network → address there.
    pub addresses: Vec<(String, IpAddr)>,
    /// `evenkeel.` labels of the container.
    pub labels: BTreeMap<String, String>,
    pub grace: Duration,
}

/// What Swarm wants of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// Made, not to be started yet.
    Prepared,
    Running,
    Stopped,
}

/// What Swarm has seen of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Coming,
    /// Started, and healthy where there is a check.
    Running,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub hostname: String,
    /// Where other nodes reach it; empty when that is not known.
    pub address: String,
    pub is_manager: bool,
    pub is_leader: bool,
    /// Swarm hears from it.
    pub is_up: bool,
}

impl View {
    pub fn of(
        services: &[object::Service],
        tasks: &[object::Task],
        nodes: &[object::Node],
    ) -> Self {
        let services: BTreeMap<_, _> =
            services.iter().map(|service| (service.id.clone(), Service::of(service))).collect();
        let tasks = tasks.iter().map(Task::of).collect();
        let nodes = nodes.iter().map(|node| (node.id.clone(), Node::of(node))).collect();
        Self { services, tasks, nodes }
    }

    /// Something is on its way: worth looking often.
    pub fn is_changing(&self) -> bool {
        let is_moving = |task: &Task| {
            matches!(
                (task.wanted, task.state),
                (Wanted::Prepared | Wanted::Running, State::Coming)
                    | (Wanted::Stopped, State::Coming | State::Running)
            )
        };
        self.services.values().any(|service| service.is_changing)
            || self.tasks.iter().any(is_moving)
    }

    /// `ala_api.1.<id>`.
    pub fn task_name(&self, task: &Task) -> String {
        let service = self.services.get(&task.service).map_or("", |service| &service.name);
        format!("{service}.{}.{}", task.slot, task.id)
    }
}

impl Service {
    fn of(service: &object::Service) -> Self {
        let spec = &service.spec;
        let port = |port: Port| (port.published, port.target, port.protocol);
        let monitor = spec.update_config.as_ref().map_or(0, |config| config.monitor);
        let monitor = u64::try_from(monitor).unwrap_or(0);
        let upgraded = spec.labels.get(DRAIN_UPGRADED).and_then(|t| stamp::parse_duration(t));
        let state = service.update_status.as_ref().map(|status| &status.state);
        Self {
            name: spec.name.clone(),
            release: spec.labels.get("evenkeel.release").cloned().unwrap_or_default(),
            ports: publish::ports(&spec.labels).into_iter().map(port).collect(),
            probe: spec.labels.get(HEALTH_HTTP).cloned(),
            monitor: if monitor == 0 { MONITOR } else { Duration::from_nanos(monitor) },
            upgraded: upgraded.unwrap_or(UPGRADED),
            is_changing: matches!(
                state,
                Some(UpdateState::Updating | UpdateState::RollbackStarted)
            ),
        }
    }
}

impl Task {
    fn of(task: &object::Task) -> Self {
        let container = task.spec.container_spec.as_ref();
        let labels = container.map(|container| &container.labels);
        let own = labels.into_iter().flatten().filter(|(key, _)| key.starts_with("evenkeel."));
        let status = task.status.container_status.as_ref();
        let slot = match task.slot {
            0 => task.node_id.clone(),
            number => number.to_string(),
        };
        let grace = container.and_then(|container| container.stop_grace_period);
        Self {
            id: task.id.clone(),
            service: task.service_id.clone(),
            slot,
            node: task.node_id.clone(),
            created_at: stamp::parse(&task.created_at).unwrap_or_default(),
            wanted: Wanted::of(&task.desired_state),
            state: State::of(&task.status.state),
            container: status.map(|status| status.container_id.clone()).unwrap_or_default(),
            addresses: addresses(&task.extra),
            labels: own.map(|(key, value)| (key.clone(), value.clone())).collect(),
            grace: grace.map_or(GRACE, Duration::from_nanos),
        }
    }

    /// How it is stopped, when its stop waits for the drain.
    pub fn stop(&self) -> Option<Stop> {
        Stop::of(&self.labels)
    }
}

/// `NetworksAttachments` without the routing mesh's own network.
fn addresses(task: &serde_json::Map<String, Value>) -> Vec<(String, IpAddr)> {
    let attachments = task.get("NetworksAttachments").and_then(Value::as_array);
    let one = |attachment: &Value| {
        let network = attachment.get("Network")?;
        if network.pointer("/Spec/Ingress").and_then(Value::as_bool) == Some(true) {
            return None;
        }
        let address = attachment.get("Addresses")?.as_array()?.first()?.as_str()?;
        let address = address.split('/').next()?.parse().ok()?;
        Some((network.get("ID")?.as_str()?.to_owned(), address))
    };
    attachments.into_iter().flatten().filter_map(one).collect()
}

impl Wanted {
    fn of(state: &TaskState) -> Self {
        match state {
            TaskState::Running => Self::Running,
            TaskState::Complete
            | TaskState::Shutdown
            | TaskState::Failed
            | TaskState::Rejected
            | TaskState::Remove
            | TaskState::Orphaned => Self::Stopped,
            TaskState::New
            | TaskState::Allocated
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Other(_) => Self::Prepared,
        }
    }
}

impl State {
    fn of(state: &TaskState) -> Self {
        match state {
            TaskState::Running => Self::Running,
            TaskState::Complete
            | TaskState::Shutdown
            | TaskState::Failed
            | TaskState::Rejected
            | TaskState::Remove
            | TaskState::Orphaned => Self::Ended,
            TaskState::New
            | TaskState::Allocated
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Other(_) => Self::Coming,
        }
    }
}

/// Of the leader, Swarm may know only that it is itself: as a manager it has said more.
fn address(node: &object::Node) -> String {
    let is_of_use = |at: &IpAddr| !at.is_unspecified() && !at.is_loopback();
    let of_status = node.status.addr.parse().ok().filter(is_of_use);
    let of_manager = || {
        let manager = node.manager_status.as_ref()?.addr.parse::<SocketAddr>().ok()?;
        Some(manager.ip()).filter(is_of_use)
    };
    of_status.or_else(of_manager).map(|at| at.to_string()).unwrap_or_default()
}

impl Node {
    fn of(node: &object::Node) -> Self {
        let manager = node.manager_status.as_ref();
        Self {
            hostname: node.description.hostname.clone(),
            address: address(node),
            is_manager: manager.is_some(),
            is_leader: manager.is_some_and(|manager| manager.leader),
            is_up: node.status.state == "ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_where_others_reach_it_and_nowhere_when_nobody_says() {
        let address = |status: &str, manager: Option<&str>| {
            let manager = manager.map(|at| json!({ "Leader": true, "Addr": at }));
            let node = json!({ "ID": "n", "Status": { "Addr": status }, "ManagerStatus": manager });
            Node::of(&serde_json::from_value(node).expect("a node")).address
        };
        assert_eq!(address("192.0.2.7", None), "192.0.2.7");
        assert_eq!(address("192.0.2.7", Some("192.0.2.1:2377")), "192.0.2.7");
        assert_eq!(address("0.0.0.0", Some("192.0.2.1:2377")), "192.0.2.1");
        assert_eq!(address("127.0.0.1", Some("[2001:db8::1]:2377")), "2001:db8::1");
        assert_eq!(address("0.0.0.0", Some("0.0.0.0:2377")), "");
        assert_eq!(address("", None), "");
    }
}
