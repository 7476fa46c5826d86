//! What a deploy would change in a service: two service specs compared field by field.
//!
//! Absent fields and explicit defaults are the same here, as they are for a running service but
//! not in the engine's JSON: an engine that is asked with defaults filled in, or that fills some
//! in itself, must not look like a change. Network ids must have been turned into names before.

mod normal;
mod show;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In the words of the stack file where it has any: `environment.LOG_LEVEL`, `image`,
    /// `deploy.replicas`; else the path in the spec.
    pub path: String,
    /// As shown to people: durations with units, secrets hidden. `None`: was not there.
    pub before: Option<String>,
    /// `None`: will not be there.
    pub after: Option<String>,
    /// Whether the service's tasks are replaced because of it.
    pub restarts: bool,
}

/// Labels that follow from something else, or that every release changes.
const IGNORED_LABELS: [&str; 2] = [crate::lower::IMAGE_LABEL, "evenkeel.release"];

/// The differences between two Docker `ServiceSpec`s, ordered by path.
pub fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let (before, after) = (leaves(before), leaves(after));
    let paths: BTreeSet<&Vec<String>> = before.keys().chain(after.keys()).collect();
    let mut changes: Vec<Change> = paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| Change {
            path: show::path(path),
            before: shown(&before, path),
            after: shown(&after, path),
            restarts: restarts(path),
        })
        .collect();
    for change in &mut changes {
        if change.before.is_some() && change.before == change.after {
            change.after = change.after.take().map(|shown| format!("{shown}, changed"));
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn shown(leaves: &BTreeMap<Vec<String>, Value>, path: &[String]) -> Option<String> {
    let value = leaves.get(path).cloned().or_else(|| normal::default(path))?;
    Some(show::value(path, &value))
}

/// Whether anything differs that replaces tasks.
pub fn replaces_tasks(before: &Value, after: &Value) -> bool {
    changes(before, after).iter().any(|change| change.restarts)
}

/// swarmkit `IsTaskDirty`: the task template and the endpoint; placement only moves tasks that no
/// longer fit.
fn restarts(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        Some("EndpointSpec") => true,
        Some("TaskTemplate") => path.get(1).is_none_or(|part| part != "Placement"),
        Some(_) | None => false,
    }
}

/// Every value of the spec that is not a default, by its path.
fn leaves(spec: &Value) -> BTreeMap<Vec<String>, Value> {
    let mut out = BTreeMap::new();
    collect(&normal::spec(spec), &mut Vec::new(), &mut out);
    out.retain(|path, _| match path.as_slice() {
        [] => false,
        [part, label, ..] => part != "Labels" || !IGNORED_LABELS.contains(&label.as_str()),
        [_] => true,
    });
    out
}

fn collect(value: &Value, path: &mut Vec<String>, out: &mut BTreeMap<Vec<String>, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                path.push(name.clone());
                collect(inner, path, out);
                path.pop();
            }
        }
        Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => {
            out.insert(path.clone(), value.clone());
        }
    }
}

/// A list as a map by what identifies an item, so that order and position do not matter.
fn keyed(items: &[Value], key: impl Fn(&Value) -> String) -> Value {
    let mut map = Map::new();
    for item in items {
        let mut name = key(item);
        while map.contains_key(&name) {
            name.push('\'');
        }
        map.insert(name, item.clone());
    }
    Value::Object(map)
}
