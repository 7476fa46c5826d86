//! A service spec without what means nothing: nulls, empty values, explicit defaults, ids.

use serde_json::{Map, Value, json};

use super::keyed;

/// Defaults of the engine (swarmkit `api/defaults/service.go`, moby `daemon/cluster/convert`), by
/// path; `*` is any key.
const DEFAULTS: &[(&str, Default)] = &[
    ("TaskTemplate.ForceUpdate", Default::Number(0)),
    ("TaskTemplate.Runtime", Default::Text("container")),
    ("TaskTemplate.ContainerSpec.Isolation", Default::Text("default")),
    ("TaskTemplate.ContainerSpec.StopGracePeriod", Default::Number(10_000_000_000)),
    ("TaskTemplate.RestartPolicy.Condition", Default::Text("any")),
    ("TaskTemplate.RestartPolicy.Delay", Default::Number(5_000_000_000)),
    ("TaskTemplate.RestartPolicy.MaxAttempts", Default::Number(0)),
    ("TaskTemplate.RestartPolicy.Window", Default::Number(0)),
    ("Mode.Replicated.Replicas", Default::Number(1)),
    ("EndpointSpec.Mode", Default::Text("vip")),
    ("EndpointSpec.Ports.*.PublishedPort", Default::Any),
    ("EndpointSpec.Ports.*.Protocol", Default::Text("tcp")),
    ("EndpointSpec.Ports.*.PublishMode", Default::Text("ingress")),
    ("TaskTemplate.ContainerSpec.Ulimits.*.Name", Default::Any),
    ("TaskTemplate.ContainerSpec.Secrets.*.File.Name", Default::Any),
    ("TaskTemplate.ContainerSpec.Configs.*.File.Name", Default::Any),
    ("TaskTemplate.ContainerSpec.Secrets.*.File.UID", Default::Text("0")),
    ("TaskTemplate.ContainerSpec.Secrets.*.File.GID", Default::Text("0")),
    ("TaskTemplate.ContainerSpec.Secrets.*.File.Mode", Default::Number(0o444)),
    ("TaskTemplate.ContainerSpec.Secrets.*.SecretID", Default::Any),
    ("TaskTemplate.ContainerSpec.Configs.*.File.UID", Default::Text("0")),
    ("TaskTemplate.ContainerSpec.Configs.*.File.GID", Default::Text("0")),
    ("TaskTemplate.ContainerSpec.Configs.*.File.Mode", Default::Number(0o444)),
    ("TaskTemplate.ContainerSpec.Configs.*.ConfigID", Default::Any),
    ("UpdateConfig.Parallelism", Default::Number(1)),
    ("UpdateConfig.FailureAction", Default::Text("pause")),
    ("UpdateConfig.Monitor", Default::Number(5_000_000_000)),
    ("UpdateConfig.Order", Default::Text("stop-first")),
    ("RollbackConfig.Parallelism", Default::Number(1)),
    ("RollbackConfig.FailureAction", Default::Text("pause")),
    ("RollbackConfig.Monitor", Default::Number(5_000_000_000)),
    ("RollbackConfig.Order", Default::Text("stop-first")),
];

#[derive(Clone, Copy)]
enum Default {
    Number(u64),
    Text(&'static str),
    /// Whatever stands there means nothing.
    Any,
}

impl Default {
    fn is(self, value: &Value) -> bool {
        match self {
            Default::Number(number) => value.as_f64() == Some(number as f64),
            Default::Text(text) => value.as_str() == Some(text),
            Default::Any => true,
        }
    }
}

/// Paths at which a zero or `false` is the same as nothing. Elsewhere zero means something
/// (`Parallelism`, `Replicas`, `Delay` of a restart policy).
const ZERO_IS_NOTHING: &[&str] = &[
    "UpdateConfig.Delay",
    "UpdateConfig.MaxFailureRatio",
    "RollbackConfig.Delay",
    "RollbackConfig.MaxFailureRatio",
    "TaskTemplate.ContainerSpec.TTY",
    "TaskTemplate.ContainerSpec.OpenStdin",
    "TaskTemplate.ContainerSpec.ReadOnly",
    "TaskTemplate.ContainerSpec.OomScoreAdj",
    "TaskTemplate.ContainerSpec.Privileges.NoNewPrivileges",
    "TaskTemplate.ContainerSpec.Mounts.*.ReadOnly",
    "TaskTemplate.ContainerSpec.Healthcheck.Interval",
    "TaskTemplate.ContainerSpec.Healthcheck.Timeout",
    "TaskTemplate.ContainerSpec.Healthcheck.StartPeriod",
    "TaskTemplate.ContainerSpec.Healthcheck.StartInterval",
    "TaskTemplate.ContainerSpec.Healthcheck.Retries",
    "TaskTemplate.Resources.Limits.*",
    "TaskTemplate.Resources.Reservations.*",
    "TaskTemplate.Placement.MaxReplicas",
];

/// The spec in its shortest form, lists with an identity turned into maps.
pub fn spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for config in ["/UpdateConfig", "/RollbackConfig"] {
        spec.pointer_mut(config).map(fill_update_config);
    }
    key_lists(&mut spec);
    reduced(&spec, "").unwrap_or_else(|| json!({}))
}

/// In an object that is there, an absent `Parallelism` is 0 (all at once) while an absent object
/// is 1; an absent or zero `Monitor` is 5 s.
fn fill_update_config(config: &mut Value) {
    let Some(fields) = config.as_object_mut() else { return };
    fields.entry("Parallelism").or_insert(json!(0));
    if fields.get("Monitor").and_then(Value::as_u64) == Some(0) {
        fields.remove("Monitor");
    }
}

fn key_lists(spec: &mut Value) {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_string();
    let env = "/TaskTemplate/ContainerSpec/Env";
    if let Some(vars) = spec.pointer_mut(env)
        && let Value::Array(items) = vars
    {
        *vars = variables(items);
    }
    rekey(spec, "/TaskTemplate/ContainerSpec/Mounts", |item| text(item, "Target"));
    rekey(spec, "/TaskTemplate/ContainerSpec/Secrets", |item| text(&item["File"], "Name"));
    rekey(spec, "/TaskTemplate/ContainerSpec/Configs", |item| text(&item["File"], "Name"));
    rekey(spec, "/TaskTemplate/ContainerSpec/Ulimits", |item| text(item, "Name"));
    rekey(spec, "/TaskTemplate/Networks", |item| text(item, "Target"));
    rekey(spec, "/EndpointSpec/Ports", |item| {
        let protocol = item["Protocol"].as_str().unwrap_or("tcp");
        match item["PublishedPort"].as_u64() {
            Some(port) if port > 0 => format!("{port}/{protocol}"),
            Some(_) | None => format!(":{}/{protocol}", item["TargetPort"]),
        }
    });
}

fn variables(items: &[Value]) -> Value {
    let vars = items.iter().filter_map(Value::as_str).map(|var| match var.split_once('=') {
        Some((name, value)) => (name.to_string(), json!({"=": value})),
        None => (var.to_string(), json!({"unset": true})),
    });
    Value::Object(vars.collect())
}

fn rekey(spec: &mut Value, pointer: &str, key: impl Fn(&Value) -> String) {
    if let Some(list) = spec.pointer_mut(pointer)
        && let Value::Array(items) = list
    {
        *list = keyed(items, key);
    }
}

/// The default of a field that is always there, to be shown in place of nothing.
pub fn default(path: &[String]) -> Option<Value> {
    let path = path.join(".");
    DEFAULTS.iter().find(|(known, _)| *known == path).and_then(|(_, default)| match default {
        Default::Number(number) => Some(json!(number)),
        Default::Text(text) => Some(json!(text)),
        Default::Any => None,
    })
}

/// The value without what means nothing; nothing if none of it means anything.
fn reduced(value: &Value, path: &str) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, inner)| {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    Some((name.clone(), reduced(inner, &path)?))
                })
                .collect();
            let keep = !kept.is_empty() || is_item(path);
            keep.then_some(Value::Object(kept))
        }
        Value::Array(items) if items.is_empty() => None,
        Value::String(text) if text.is_empty() && !path.ends_with(".=") && !is_label(path) => None,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let default = DEFAULTS.iter().any(|(known, d)| matches(known, path) && d.is(value));
            let zero = value == &Value::Bool(false) || value.as_f64() == Some(0.0);
            let nothing = zero && ZERO_IS_NOTHING.iter().any(|known| matches(known, path));
            (!default && !nothing).then(|| whole(value))
        }
    }
}

/// `2.0` is `2`.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 1e15 => {
            json!(number as i64)
        }
        Some(_) | None => value.clone(),
    }
}

/// A mode says something even when it is empty.
fn is_item(path: &str) -> bool {
    path == "Mode.Global" || path == "Mode.GlobalJob"
}

fn is_label(path: &str) -> bool {
    path.starts_with("Labels.") || path.contains(".Labels.") || path.contains(".Options.")
}

fn matches(known: &str, path: &str) -> bool {
    if !known.contains('*') {
        return known == path;
    }
    let Some((head, tail)) = known.split_once('*') else { return false };
    let Some(rest) = path.strip_prefix(head) else { return false };
    match tail {
        "" => !rest.contains('.'),
        tail => rest.strip_suffix(tail).is_some_and(|item| !item.is_empty()),
    }
}
