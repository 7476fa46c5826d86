//! What only the Swarm's leader does: keep one link on every node for each overlay network that
//! routed tasks are on, and none for others. What is to be done is pure.
//!
//! A link is a task of a global service that does nothing but stand in the network: its namespace is
//! the way by which a node's ingress reaches tasks of other nodes. One service for each network, so
//! that none of them ever has to change.

use std::collections::{BTreeMap, BTreeSet};

use dockerapi::{Client, ClientError};
use serde_json::{Value, json};

use crate::{facts::LINK, view::View};

/// Links: network → id of the service that stands in it.
pub(crate) type Links = BTreeMap<String, String>;

/// What to do about the links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Todo {
    /// Networks that need one.
    pub(crate) create: BTreeSet<String>,
    /// Services that nobody needs any more.
    pub(crate) remove: BTreeSet<String>,
}

/// One node reaches all its tasks by itself; several need links.
pub(crate) fn todo(view: &View) -> Todo {
    let links: Links = view
        .services
        .iter()
        .filter_map(|(id, service)| Some((service.link.clone()?, id.clone())))
        .collect();
    let routed = view.services.values().filter(|service| !service.ports.is_empty());
    let wanted: BTreeSet<&String> = match view.nodes.len() {
        0 | 1 => BTreeSet::new(),
        _ => routed.flat_map(|service| &service.networks).collect(),
    };
    let create = wanted.iter().filter(|n| !links.contains_key(**n)).map(|n| (*n).clone());
    let remove = links.iter().filter(|(n, _)| !wanted.contains(n)).map(|(_, id)| id.clone());
    Todo { create: create.collect(), remove: remove.collect() }
}

/// Makes it so.
pub(crate) async fn perform(docker: &Client, image: &str, todo: &Todo) -> Result<(), ClientError> {
    for network in &todo.create {
        match docker.create_service(&spec(network, image)).await {
            Ok(_) => tracing::info!(network, "made a link on every node"),
            // The leader before this one was quicker.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    for service in &todo.remove {
        match docker.remove_service(service).await {
            Ok(()) => tracing::info!(service, "removed a link that leads nowhere"),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn spec(network: &str, image: &str) -> Value {
    let short: String = network.chars().take(12).collect();
    json!({
        "Name": format!("evenkeel_link_{short}"),
        "Labels": { LINK: network },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": image, "Labels": { LINK: network },
                "User": "65534", "ReadOnly": true, "CapabilityDrop": ["ALL"],
                "StopGracePeriod": 1_000_000_000,
            },
            "Resources": { "Limits": { "MemoryBytes": 32 << 20 } },
            "RestartPolicy": { "Condition": "any", "Delay": 1_000_000_000 },
            "Networks": [{ "Target": network }],
            "LogDriver": { "Name": "none" },
        },
        "Mode": { "Global": {} },
        "EndpointSpec": { "Mode": "dnsrr" },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orchestrator::traffic::Protocol;

    use super::*;
    use crate::view::{Node, Service};

    fn service(network: &str, is_link: bool) -> Service {
        Service {
            name: "s".to_owned(),
            release: String::new(),
            ports: if is_link { Vec::new() } else { vec![(80, 80, Protocol::Http)] },
            probe: None,
            networks: BTreeSet::from([network.to_owned()]),
            link: is_link.then(|| network.to_owned()),
            monitor: Duration::ZERO,
            upgraded: Duration::ZERO,
            is_changing: false,
        }
    }

    fn view(nodes: usize, services: &[(&str, Service)]) -> View {
        let node = Node {
            hostname: String::new(),
            address: String::new(),
            is_manager: true,
            is_leader: false,
            is_up: true,
        };
        View {
            services: services.iter().map(|(id, s)| ((*id).to_owned(), s.clone())).collect(),
            tasks: Vec::new(),
            nodes: (0..nodes).map(|n| (n.to_string(), node.clone())).collect(),
        }
    }

    #[test]
    fn a_network_of_routed_tasks_gets_a_link_when_there_are_several_nodes() {
        let services = [("a", service("n1", false)), ("b", service("n1", false))];
        assert_eq!(todo(&view(1, &services)), Todo::default());
        assert_eq!(todo(&view(2, &services)).create, BTreeSet::from(["n1".to_owned()]));
        let linked = [services[0].clone(), ("l", service("n1", true))];
        assert_eq!(todo(&view(2, &linked)), Todo::default());
    }

    #[test]
    fn a_link_that_nobody_needs_goes() {
        let todo = todo(&view(2, &[("l", service("n1", true))]));
        assert_eq!(todo.remove, BTreeSet::from(["l".to_owned()]));
    }
}
