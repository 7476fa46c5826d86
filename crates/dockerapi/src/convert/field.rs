//! Field names as Go's JSON reads them, whatever their case: the Python SDK says `replicated`.

use serde_json::Value;

/// Where the fields of a service spec are, outermost first, and how they are spelt.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Name",
            "Labels",
            "TaskTemplate",
            "Mode",
            "UpdateConfig",
            "RollbackConfig",
            "Networks",
            "EndpointSpec",
        ],
    ),
    ("/Mode", &["Replicated", "Global", "ReplicatedJob", "GlobalJob"]),
    ("/Mode/Replicated", &["Replicas"]),
    ("/Mode/ReplicatedJob", &["MaxConcurrent", "TotalCompletions"]),
    (
        "/TaskTemplate",
        &[
            "ContainerSpec",
            "Resources",
            "RestartPolicy",
            "Placement",
            "Networks",
            "LogDriver",
            "ForceUpdate",
            "Runtime",
        ],
    ),
    (
        "/TaskTemplate/ContainerSpec",
        &[
            "Image",
            "Labels",
            "Command",
            "Args",
            "Hostname",
            "Env",
            "Dir",
            "User",
            "Groups",
            "TTY",
            "OpenStdin",
            "StopSignal",
            "StopGracePeriod",
            "Healthcheck",
            "Hosts",
            "Mounts",
            "Secrets",
            "Configs",
            "Isolation",
            "Init",
            "Sysctls",
        ],
    ),
    ("/TaskTemplate/RestartPolicy", &["Condition", "Delay", "MaxAttempts", "Window"]),
    ("/UpdateConfig", UPDATE),
    ("/RollbackConfig", UPDATE),
    ("/EndpointSpec", &["Mode", "Ports"]),
];

const UPDATE: &[&str] =
    &["Parallelism", "Delay", "FailureAction", "Monitor", "MaxFailureRatio", "Order"];

/// Spells the fields of a service spec as Docker does. What is spelt right wins over what is not;
/// labels and other names of the operator's are left alone.
pub fn spell(raw: &mut Value) {
    for (path, fields) in FIELDS {
        let Some(map) = raw.pointer_mut(path).and_then(Value::as_object_mut) else { continue };
        for field in *fields {
            if map.contains_key(*field) {
                continue;
            }
            let other = map.keys().find(|key| key.eq_ignore_ascii_case(field)).cloned();
            if let Some(value) = other.and_then(|other| map.remove(&other)) {
                map.insert((*field).to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_known_whatever_their_case() {
        let mut raw = json!({
            "name": "a", "Labels": { "name": "b", "mode": "c" },
            "TaskTemplate": { "containerspec": { "image": "a:1", "Env": ["env=1"] } },
            "Mode": { "replicated": { "replicas": 2 } },
        });
        spell(&mut raw);
        let wanted = json!({
            "Name": "a", "Labels": { "name": "b", "mode": "c" },
            "TaskTemplate": { "ContainerSpec": { "Image": "a:1", "Env": ["env=1"] } },
            "Mode": { "Replicated": { "Replicas": 2 } },
        });
        assert_eq!(raw, wanted);
    }

    #[test]
    fn what_is_no_object_is_left_as_it_is() {
        for mut raw in [json!(null), json!([1]), json!({ "Mode": "x", "TaskTemplate": 7 })] {
            let before = raw.clone();
            spell(&mut raw);
            assert_eq!(raw, before);
        }
    }
}
