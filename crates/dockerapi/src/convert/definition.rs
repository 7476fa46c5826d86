//! What makes a task dirty when it changes, as text that is equal exactly when nothing that
//! matters changed.
//!
//! Docker compares the two messages field by field, and `nil` differs from an explicit default
//! there: a client that posts back what it got with `insertDefaults=true` restarts every task.
//! Here both are brought to one form first.

use serde_json::{Map, Value, json};

/// Zero is a wish of its own here, not the same as absent.
const ZERO_COUNTS: [&str; 3] = ["StopGracePeriod", "Delay", "Mode"];

/// Docker's defaults; a field that has its default is left out.
fn defaults() -> [(&'static str, Value); 6] {
    [
        ("/TaskTemplate/ContainerSpec/StopGracePeriod", json!(10_000_000_000u64)),
        ("/TaskTemplate/ContainerSpec/Isolation", json!("default")),
        ("/TaskTemplate/RestartPolicy/Condition", json!("any")),
        ("/TaskTemplate/RestartPolicy/Delay", json!(5_000_000_000u64)),
        ("/TaskTemplate/RestartPolicy/MaxAttempts", json!(0)),
        ("/EndpointSpec/Mode", json!("vip")),
    ]
}

/// The task template and the endpoint spec of a service spec as canonical JSON, keys sorted.
///
/// `null`, empty lists, maps and texts, and zeros mean the same as absent fields.
pub fn definition(raw: &Value) -> String {
    let part = |key: &str| raw.get(key).cloned().unwrap_or(Value::Null);
    let mut whole = json!({
        "TaskTemplate": part("TaskTemplate"), "EndpointSpec": part("EndpointSpec"),
    });
    if let Some(template) = whole["TaskTemplate"].as_object_mut() {
        template.remove("Runtime");
    }
    for (path, default) in defaults() {
        let Some((parent, key)) = path.rsplit_once('/') else { continue };
        let Some(map) = whole.pointer_mut(parent).and_then(Value::as_object_mut) else { continue };
        if map.get(key) == Some(&default) {
            map.remove(key);
        }
    }
    name_ports(&mut whole);
    let whole = tidy("", whole).unwrap_or_default();
    let part = |key: &str| whole.get(key).cloned().unwrap_or_else(|| json!({}));
    sorted(json!({
        "TaskTemplate": part("TaskTemplate"), "EndpointSpec": part("EndpointSpec"),
    }))
    .to_string()
}

/// Ports carry their protocol and mode by name: what reads a definition need not know defaults.
fn name_ports(whole: &mut Value) {
    let ports = whole.pointer_mut("/EndpointSpec/Ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        for (key, default) in [("Protocol", "tcp"), ("PublishMode", "ingress")] {
            let value = port.entry(key).or_insert(Value::Null);
            if value.as_str().is_none_or(str::is_empty) {
                *value = json!(default);
            }
        }
    }
}

/// A definition but for where its tasks may run: a change of only that restarts no task that may
/// stay where it is.
pub fn without_placement(definition: &str) -> String {
    let mut whole: Value = serde_json::from_str(definition).unwrap_or(Value::Null);
    if let Some(template) = whole.get_mut("TaskTemplate").and_then(Value::as_object_mut) {
        template.remove("Placement");
    }
    sorted(whole).to_string()
}

fn tidy(key: &str, value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Number(number) if number.as_f64() == Some(0.0) && !ZERO_COUNTS.contains(&key) => {
            None
        }
        Value::Bool(false) => None,
        Value::Array(list) => {
            let tidied = list.into_iter().map(|value| tidy("", value).unwrap_or(json!("")));
            let list: Vec<Value> = tidied.collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        Value::Object(map) => {
            let tidied = map.into_iter().filter_map(|(key, value)| {
                let value = tidy(&key, value)?;
                Some((key, value))
            });
            let map: Map<String, Value> = tidied.collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        other => Some(other),
    }
}

/// With keys in order, whatever map the JSON library was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = include_str!("../../tests/data/service.json");
    const WITH_DEFAULTS: &str = include_str!("../../tests/data/service_insertDefaults.json");

    fn spec_of(text: &str) -> Value {
        let service: Value = serde_json::from_str(text).expect("is JSON");
        service["Spec"].clone()
    }

    #[test]
    fn a_spec_read_with_its_defaults_filled_in_is_the_same_definition() {
        assert_eq!(definition(&spec_of(PLAIN)), definition(&spec_of(WITH_DEFAULTS)));
    }

    #[test]
    fn what_the_operator_changes_is_seen() {
        let plain = spec_of(PLAIN);
        let changed = |path: &str, value: Value| {
            let (parent, key) = path.rsplit_once('/').expect("a path");
            let mut spec = plain.clone();
            let map = match parent {
                "" => spec.as_object_mut(),
                parent => spec.pointer_mut(parent).and_then(Value::as_object_mut),
            };
            map.expect("there").insert(key.to_owned(), value);
            definition(&spec) != definition(&plain)
        };
        assert!(changed("/TaskTemplate/ContainerSpec/Image", json!("other:1")));
        assert!(changed("/TaskTemplate/ContainerSpec/Env", json!(["A="])));
        assert!(changed("/TaskTemplate/ContainerSpec/StopGracePeriod", json!(0)));
        assert!(changed("/TaskTemplate/ForceUpdate", json!(1)));
        assert!(changed("/TaskTemplate/RestartPolicy/Delay", json!(0)));
        assert!(changed("/EndpointSpec/Ports", json!([])));
        assert!(!changed("/Labels", json!({ "a": "b" })));
        assert!(!changed("/UpdateConfig", json!({ "Parallelism": 7 })));
        let mut moved = plain.clone();
        moved["TaskTemplate"]["Placement"] = json!({ "Constraints": ["node.id==b"] });
        assert_ne!(definition(&moved), definition(&plain));
        let bare = |spec: &Value| without_placement(&definition(spec));
        assert_eq!(bare(&moved), bare(&plain));
        assert!(!changed("/TaskTemplate/ContainerSpec/Mounts", json!([])));
    }
}
