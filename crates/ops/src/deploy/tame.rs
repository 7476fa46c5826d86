//! Settings that a Docker Swarm cannot keep as they are written, made such that it can: said to the
//! operator, and the same every time, so that they are no change of their own. Pure.

use serde_json::{Value, json};

use crate::judge::is_job;

/// Changes the spec of a service; says what was changed and why. `has_check`: its image or the spec
/// has a health check. `nodes`: how many take tasks.
pub(super) fn tame(name: &str, spec: &mut Value, has_check: bool, nodes: u64) -> Vec<String> {
    let mut said = Vec::new();
    if is_job(spec) {
        return said;
    }
    said.extend(restart_unhealthy(name, spec, has_check));
    said.extend(make_room(name, spec, nodes));
    said
}

/// Docker calls a task that it stopped as unhealthy complete when its process ends with 0, and
/// `on-failure` then starts no other.
fn restart_unhealthy(name: &str, spec: &mut Value, has_check: bool) -> Option<String> {
    let policy = &mut spec["TaskTemplate"]["RestartPolicy"];
    if !has_check || policy["Condition"] != "on-failure" {
        return None;
    }
    policy["Condition"] = json!("any");
    Some(format!(
        "{name}: restarted on any end instead of on failure: Docker takes an unhealthy task that \
         ends with 0 for one that is done"
    ))
}

/// A new task that waits for what only the old one's end gives it waits for ever: there the old one
/// goes first.
fn make_room(name: &str, spec: &mut Value, nodes: u64) -> Option<String> {
    let why = lack_of_room(spec, nodes)?;
    let mut is_changed = false;
    for config in ["UpdateConfig", "RollbackConfig"] {
        if spec[config]["Order"] == "start-first" {
            spec[config]["Order"] = json!("stop-first");
            is_changed = true;
        }
    }
    let what = format!("{name}: the old task stops before the new one starts: {why}");
    is_changed.then_some(what)
}

/// Why an additional task has no place beside the old ones.
fn lack_of_room(spec: &Value, nodes: u64) -> Option<&'static str> {
    let ports = spec.pointer("/EndpointSpec/Ports").and_then(Value::as_array);
    let has_host_port = ports.into_iter().flatten().any(|port| {
        port["PublishMode"] == "host" && port["PublishedPort"].as_u64().unwrap_or(0) != 0
    });
    let most = spec.pointer("/TaskTemplate/Placement/MaxReplicas").and_then(Value::as_u64);
    let most = most.filter(|most| *most > 0);
    let places = if has_host_port { nodes } else { nodes.saturating_mul(most?) };
    let replicated = spec.pointer("/Mode/Replicated");
    let wanted = match replicated {
        Some(mode) => mode["Replicas"].as_u64().unwrap_or(1),
        None => nodes,
    };
    if wanted == 0 || places > wanted {
        return None;
    }
    Some(match has_host_port {
        true => "both cannot have the node's port",
        false => "no node may have one more (max_replicas_per_node)",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: &Value) -> Value {
        let mut spec = json!({
            "Mode": { "Replicated": { "Replicas": 1 } },
            "TaskTemplate": { "RestartPolicy": { "Condition": "on-failure" } },
            "UpdateConfig": { "Order": "start-first" },
            "RollbackConfig": { "Order": "start-first" },
        });
        for (key, value) in more.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        spec
    }

    fn orders(spec: &Value) -> [&str; 2] {
        ["UpdateConfig", "RollbackConfig"].map(|key| spec[key]["Order"].as_str().unwrap_or(""))
    }

    #[test]
    fn a_health_check_makes_any_end_a_reason_to_restart() {
        let mut checked = spec(&json!({}));
        assert_eq!(tame("web", &mut checked, true, 1).len(), 1);
        assert_eq!(checked["TaskTemplate"]["RestartPolicy"]["Condition"], "any");
        let mut plain = spec(&json!({}));
        assert_eq!(tame("web", &mut plain, false, 1), Vec::<String>::new());
        assert_eq!(plain, spec(&json!({})));
    }

    #[test]
    fn a_task_that_has_no_place_beside_the_old_one_comes_after_it() {
        let port = json!([{ "PublishMode": "host", "PublishedPort": 80, "TargetPort": 80 }]);
        let mut host = spec(&json!({ "EndpointSpec": { "Ports": port } }));
        let said = tame("web", &mut host, false, 1);
        assert!(said[0].contains("the node's port"), "{said:?}");
        assert_eq!(orders(&host), ["stop-first"; 2]);
        let mut roomy = spec(&json!({ "EndpointSpec": { "Ports": port } }));
        assert!(tame("web", &mut roomy, false, 2).is_empty());
        assert_eq!(orders(&roomy), ["start-first"; 2]);
        let mut global =
            spec(&json!({ "EndpointSpec": { "Ports": port }, "Mode": { "Global": {} } }));
        assert_eq!(tame("web", &mut global, false, 2).len(), 1);
    }

    #[test]
    fn a_limit_of_replicas_per_node_leaves_room_or_not() {
        let template = json!({ "Placement": { "MaxReplicas": 2 } });
        let of = |replicas: u64| {
            spec(&json!({
                "Mode": { "Replicated": { "Replicas": replicas } }, "TaskTemplate": template,
            }))
        };
        for (replicas, order) in [(1, "start-first"), (2, "stop-first")] {
            let mut spec = of(replicas);
            tame("web", &mut spec, false, 1);
            assert_eq!(orders(&spec), [order; 2], "{replicas}");
        }
        let mut boundless =
            spec(&json!({ "TaskTemplate": { "Placement": { "MaxReplicas": u64::MAX } } }));
        assert!(tame("web", &mut boundless, false, 3).is_empty());
    }
}
