//! How a path and a value of a spec are shown to people.

use std::time::Duration;

use serde_json::Value;

use crate::mask::{is_secret_name, shown_value, without_url_password};
use crate::quantity::go_duration;

/// Parts of a spec and their names in a stack file; the longest that fits is used.
const NAMES: &[(&str, &str)] = &[
    ("Name", "name"),
    ("Labels", "deploy.labels"),
    ("Mode.Replicated.Replicas", "deploy.replicas"),
    ("Mode", "deploy.mode"),
    ("UpdateConfig", "deploy.update_config"),
    ("RollbackConfig", "deploy.rollback_config"),
    ("EndpointSpec.Mode", "deploy.endpoint_mode"),
    ("EndpointSpec.Ports", "ports"),
    ("TaskTemplate.ForceUpdate", "force_update"),
    ("TaskTemplate.LogDriver", "logging"),
    ("TaskTemplate.Networks", "networks"),
    ("TaskTemplate.Placement", "deploy.placement"),
    ("TaskTemplate.Resources", "deploy.resources"),
    ("TaskTemplate.RestartPolicy", "deploy.restart_policy"),
    ("TaskTemplate.ContainerSpec.Image", "image"),
    ("TaskTemplate.ContainerSpec.Command", "entrypoint"),
    ("TaskTemplate.ContainerSpec.Args", "command"),
    ("TaskTemplate.ContainerSpec.Env", "environment"),
    ("TaskTemplate.ContainerSpec.Labels", "labels"),
    ("TaskTemplate.ContainerSpec.Dir", "working_dir"),
    ("TaskTemplate.ContainerSpec.Mounts", "volumes"),
    ("TaskTemplate.ContainerSpec.Hosts", "extra_hosts"),
    ("TaskTemplate.ContainerSpec.CapabilityAdd", "cap_add"),
    ("TaskTemplate.ContainerSpec.CapabilityDrop", "cap_drop"),
    ("TaskTemplate.ContainerSpec.OpenStdin", "stdin_open"),
    ("TaskTemplate.ContainerSpec", ""),
];

/// Path below `NAMES` that hold a name given by a person and are kept as they are.
const NAMED: [&str; 9] = [
    "environment",
    "labels",
    "deploy.labels",
    "ports",
    "volumes",
    "networks",
    "secrets",
    "configs",
    "sysctls",
];

/// The path in the words of a stack file.
pub fn path(path: &[String]) -> String {
    let fits = |known: &str| {
        let parts: Vec<&str> = known.split('.').collect();
        (path.len() >= parts.len() && parts.iter().zip(path).all(|(a, b)| a == b))
            .then_some(parts.len())
    };
    let best = NAMES.iter().filter_map(|(known, name)| Some((fits(known)?, *name))).max();
    let (length, mut shown) = match best {
        Some((length, name)) => (length, name.to_string()),
        None => (0, String::new()),
    };
    for part in &path[length..] {
        if part == "=" || part == "unset" {
            continue;
        }
        let keep = NAMED.contains(&shown.as_str());
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(&if keep { part.clone() } else { snake(part) });
    }
    shown
}

/// `MaxAttempts` as `max_attempts`, `NanoCPUs` as `nano_cpus`.
fn snake(part: &str) -> String {
    let chars: Vec<char> = part.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let after_lower = at > 0 && chars[at - 1].is_lowercase();
        if c.is_uppercase() && after_lower {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The value as a person reads it, with secrets hidden.
pub fn value(path: &[String], value: &Value) -> String {
    let name = path.last().map(String::as_str).unwrap_or_default();
    let parent = path.len().checked_sub(2).map(|at| path[at].as_str()).unwrap_or_default();
    match (name, value) {
        (_, Value::String(text)) if text.is_empty() => "\"\"".to_string(),
        ("=", Value::String(text)) => shown_value(parent, text),
        ("unset", _) => "(unset)".to_string(),
        ("SecretName" | "ConfigName", Value::String(text)) => text.clone(),
        (_, Value::String(text)) if is_secret_name(name) && parent != "File" => {
            shown_value(name, text)
        }
        (_, Value::String(text)) => without_url_password(text),
        (_, Value::Number(number)) if is_nanoseconds(name) => number
            .as_u64()
            .map_or_else(|| number.to_string(), |n| go_duration(Duration::from_nanos(n))),
        ("NanoCPUs", Value::Number(number)) => {
            number.as_f64().map_or_else(|| number.to_string(), |n| format!("{}", n / 1e9))
        }
        ("MemoryBytes" | "SizeBytes", Value::Number(number)) => {
            number.as_u64().map_or_else(|| number.to_string(), size)
        }
        ("Mode", Value::Number(number)) => {
            number.as_u64().map_or_else(|| number.to_string(), |n| format!("0{n:o}"))
        }
        ("Global" | "GlobalJob", Value::Object(_)) => name.to_lowercase(),
        (_, Value::Array(items)) => {
            let shown = items.iter().map(|item| match item {
                Value::String(text) => argument(text),
                other => other.to_string(),
            });
            shown.collect::<Vec<_>>().join(" ")
        }
        (_, other) => other.to_string(),
    }
}

/// An argument of a command; the value of one such as `--password=x` is hidden.
fn argument(text: &str) -> String {
    match text.split_once('=') {
        Some((name, value)) => format!("{name}={}", shown_value(name, value)),
        None if text.is_empty() || text.contains(char::is_whitespace) => {
            format!("{:?}", without_url_password(text))
        }
        None => without_url_password(text),
    }
}

fn is_nanoseconds(name: &str) -> bool {
    matches!(
        name,
        "Delay"
            | "Monitor"
            | "Window"
            | "Interval"
            | "Timeout"
            | "StartPeriod"
            | "StartInterval"
            | "StopGracePeriod"
    )
}

fn size(bytes: u64) -> String {
    for (unit, power) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << power) {
            return format!("{}{unit}", bytes >> power);
        }
    }
    bytes.to_string()
}
