//! The `deploy:` part of a service: mode, updates, restarts, resources, placement, ports.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::{Deploy, Logging, Mode, Port, Resources, RestartPolicy, Service, UpdateConfig};

/// Nanoseconds as Docker writes them.
pub fn nanos(duration: Duration) -> Value {
    json!(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Inserts `key` unless the value is nothing, as Go's `omitempty` does.
pub fn put(object: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    if !empty {
        object.insert(key.to_string(), value);
    }
}

pub fn mode(deploy: &Deploy) -> Value {
    let replicas = deploy.replicas.unwrap_or(1);
    match deploy.mode {
        Mode::Replicated => json!({"Replicated": {"Replicas": replicas}}),
        Mode::Global => json!({"Global": {}}),
        Mode::ReplicatedJob => {
            json!({"ReplicatedJob": {"MaxConcurrent": replicas, "TotalCompletions": replicas}})
        }
        Mode::GlobalJob => json!({"GlobalJob": {}}),
    }
}

/// An absent `parallelism` is 1; the zero of the wire format means "all at once".
pub fn update_config(config: &UpdateConfig) -> Value {
    let mut out = Map::new();
    out.insert("Parallelism".into(), json!(config.parallelism.unwrap_or(1)));
    put(&mut out, "Delay", config.delay.map_or(Value::Null, nanos));
    put(&mut out, "FailureAction", json!(config.failure_action));
    let monitor = config.monitor.map(|m| if m.is_zero() { Duration::from_nanos(1) } else { m });
    put(&mut out, "Monitor", monitor.map_or(Value::Null, nanos));
    let ratio = config.max_failure_ratio.unwrap_or(0.0);
    out.insert("MaxFailureRatio".into(), if ratio == 0.0 { json!(0) } else { json!(ratio) });
    out.insert("Order".into(), json!(config.order.as_deref().unwrap_or("stop-first")));
    Value::Object(out)
}

/// Unlike elsewhere a zero is written: `delay: 0s` is not the default of 5 s.
pub fn restart_policy(policy: &RestartPolicy) -> Value {
    let mut out = Map::new();
    put(&mut out, "Condition", json!(policy.condition));
    if let Some(delay) = policy.delay {
        out.insert("Delay".into(), nanos(delay));
    }
    if let Some(attempts) = policy.max_attempts {
        out.insert("MaxAttempts".into(), json!(attempts));
    }
    if let Some(window) = policy.window {
        out.insert("Window".into(), nanos(window));
    }
    Value::Object(out)
}

pub fn resources(deploy: &Deploy) -> Value {
    let mut out = Map::new();
    if let Some(limits) = &deploy.limits {
        out.insert("Limits".into(), amounts(limits));
    }
    if let Some(reservations) = &deploy.reservations {
        out.insert("Reservations".into(), amounts(reservations));
    }
    Value::Object(out)
}

fn amounts(resources: &Resources) -> Value {
    let mut out = Map::new();
    put(&mut out, "NanoCPUs", json!(resources.nano_cpus));
    put(&mut out, "MemoryBytes", json!(resources.memory_bytes));
    put(&mut out, "Pids", json!(resources.pids));
    let generic = resources
        .generic
        .iter()
        .map(|(kind, value)| json!({"DiscreteResourceSpec": {"Kind": kind, "Value": value}}));
    put(&mut out, "GenericResources", generic.collect());
    Value::Object(out)
}

pub fn placement(deploy: &Deploy) -> Value {
    let mut out = Map::new();
    put(&mut out, "Constraints", json!(deploy.constraints));
    let spread = deploy.spread.iter().map(|label| json!({"Spread": {"SpreadDescriptor": label}}));
    put(&mut out, "Preferences", spread.collect());
    put(&mut out, "MaxReplicas", json!(deploy.max_replicas_per_node));
    Value::Object(out)
}

pub fn log_driver(logging: &Logging) -> Value {
    let mut out = Map::new();
    put(&mut out, "Name", json!(logging.driver));
    put(&mut out, "Options", json!(logging.options));
    Value::Object(out)
}

pub fn endpoint(service: &Service) -> Value {
    let mut ports: Vec<&Port> = service.ports.iter().collect();
    ports.sort_by_key(|port| (port.published.unwrap_or(0), port.target, port.protocol.clone()));
    let mut out = Map::new();
    put(&mut out, "Mode", json!(service.deploy.endpoint_mode));
    put(&mut out, "Ports", ports.into_iter().map(port).collect());
    Value::Object(out)
}

fn port(port: &Port) -> Value {
    let mut out = Map::new();
    put(&mut out, "Protocol", json!(port.protocol));
    put(&mut out, "TargetPort", json!(port.target));
    put(&mut out, "PublishedPort", json!(port.published));
    put(&mut out, "PublishMode", json!(port.mode));
    Value::Object(out)
}
