//! What a service's tasks need of the node: placement, reservations, ports of the machine.

use orchestrator::{Constraint, HostPort, Needs, Platform};

use crate::{error::ApiError, spec};

/// Reads the needs of a spec; a constraint that cannot be read is told in Docker's words.
pub fn needs(wire: &spec::ServiceSpec) -> Result<Needs, ApiError> {
    let placement = wire.task_template.placement.clone().unwrap_or_default();
    let resources = wire.task_template.resources.clone().unwrap_or_default();
    let reserved = resources.reservations.unwrap_or_default();
    let constraints: Result<Vec<Constraint>, ApiError> = placement
        .constraints
        .iter()
        .map(|text| Constraint::parse(text).map_err(|error| ApiError::invalid(error.to_string())))
        .collect();
    let platforms = placement
        .platforms
        .into_iter()
        .map(|platform| Platform { os: platform.os, arch: platform.architecture });
    let generic = reserved.generic_resources.into_iter().filter_map(|resource| {
        Some(resource.discrete_resource_spec.or(resource.named_resource_spec)?.kind)
    });
    Ok(Needs {
        constraints: constraints?,
        platforms: platforms.collect(),
        nano_cpus: reserved.nano_cpus,
        memory_bytes: reserved.memory_bytes,
        generic: generic.collect(),
        max_per_node: placement.max_replicas,
        host_ports: host_ports(&wire.endpoint_spec),
    })
}

fn host_ports(endpoint: &spec::EndpointSpec) -> Vec<HostPort> {
    let of_the_machine = endpoint.ports.iter().filter(|port| port.publish_mode == "host");
    of_the_machine
        .map(|port| {
            let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
            HostPort { protocol: protocol.to_owned(), port: port.published_port }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn needs_are_read_from_placement_reservations_and_ports() {
        let wire: spec::ServiceSpec = serde_json::from_value(json!({
            "TaskTemplate": {
                "Placement": {
                    "Constraints": ["node.role==manager"], "MaxReplicas": 2,
                    "Platforms": [{ "Architecture": "amd64", "OS": "linux" }],
                },
                "Resources": {
                    "Limits": { "MemoryBytes": 9 },
                    "Reservations": {
                        "NanoCPUs": 5, "MemoryBytes": 7,
                        "GenericResources": [
                            { "DiscreteResourceSpec": { "Kind": "gpu", "Value": 1 } },
                        ],
                    },
                },
            },
            "EndpointSpec": { "Ports": [
                { "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host" },
                { "TargetPort": 81, "PublishedPort": 8081, "PublishMode": "ingress" },
            ] },
        }))
        .expect("a spec");
        let needs = needs(&wire).expect("valid");
        assert_eq!((needs.nano_cpus, needs.memory_bytes, needs.max_per_node), (5, 7, 2));
        assert_eq!(needs.generic, ["gpu"]);
        assert_eq!(needs.platforms[0].arch, "amd64");
        assert_eq!(needs.constraints[0].to_string(), "node.role==manager");
        let port = HostPort { protocol: "tcp".to_owned(), port: 8080 };
        assert_eq!(needs.host_ports, [port]);
    }
}
