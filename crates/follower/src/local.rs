//! What this node's own Docker tells of its containers: where they can be reached from the host.
//! Pure.
//!
//! A task on an overlay network has a second address on `docker_gwbridge`, which the host reaches
//! directly; one without networks has its address on the default bridge; one on the host's network
//! is the host.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde_json::Value;

/// Docker's label of a task's container.
const TASK: &str = "com.docker.swarm.task.id";

/// The containers of this node's tasks, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// This node's id; empty when it is in no Swarm.
    pub node: String,
    pub containers: BTreeMap<String, Container>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// The id of its task.
    pub task: String,
    /// Where the host reaches it.
    pub address: Option<IpAddr>,
    pub is_unhealthy: bool,
}

impl Local {
    /// From `GET /info`, `GET /containers/json` and `GET /networks/docker_gwbridge`.
    pub fn of(info: &Value, containers: &[Value], bridge: &Value) -> Self {
        let node = info.pointer("/Swarm/NodeID").and_then(Value::as_str).unwrap_or("");
        let one = |container: &Value| {
            let id = container.get("Id")?.as_str()?;
            Some((id.to_owned(), Container::of(id, container, bridge)))
        };
        let containers = containers.iter().filter_map(one).collect();
        Self { node: node.to_owned(), containers }
    }
}

impl Container {
    fn of(id: &str, container: &Value, bridge: &Value) -> Self {
        let task = container.get("Labels").and_then(|labels| labels.get(TASK)?.as_str());
        let status = container.get("Status").and_then(Value::as_str).unwrap_or("");
        Self {
            task: task.unwrap_or("").to_owned(),
            address: on_gateway(id, bridge).or_else(|| on_bridge(container)),
            is_unhealthy: status.contains("(unhealthy)"),
        }
    }
}

/// The address on `docker_gwbridge`, whose containers are listed by id.
fn on_gateway(id: &str, bridge: &Value) -> Option<IpAddr> {
    address(bridge.get("Containers")?.get(id)?.get("IPv4Address")?)
}

fn on_bridge(container: &Value) -> Option<IpAddr> {
    if container.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    address(container.pointer("/NetworkSettings/Networks/bridge/IPAddress")?)
}

/// `172.18.0.3/16` or `172.17.0.2`.
fn address(text: &Value) -> Option<IpAddr> {
    text.as_str()?.split('/').next()?.parse().ok()
}
