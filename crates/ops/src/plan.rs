//! What a release would change: field by field, and what restarts because of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

/// Where a service's spec names its image.
pub(crate) const IMAGE: &str = "/TaskTemplate/ContainerSpec/Image";
/// Label with the release a service was last changed by.
pub const RELEASE: &str = "evenkeel.release";

/// What Docker writes into a spec where nothing was said.
const DEFAULTS: [(&str, &str); 3] = [
    ("EndpointSpec.Mode", "vip"),
    ("TaskTemplate.ContainerSpec.Isolation", "default"),
    ("TaskTemplate.Runtime", "container"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Create,
    Update,
    Unchanged,
    /// It runs and is not in the stack file any more.
    Leave,
}

/// One field that differs. Values that look like secrets are never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    pub path: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub service: String,
    pub kind: Kind,
    /// Its tasks are replaced.
    pub restarts: bool,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    pub changes: Vec<Change>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| matches!(change.kind, Kind::Unchanged | Kind::Leave))
    }
}

/// Compares what is wanted with what runs. Both are raw specs by service name.
pub fn plan(wanted: &[(String, Value)], current: &BTreeMap<String, Value>) -> Plan {
    let names: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let mut changes: Vec<Change> = wanted
        .iter()
        .map(|(name, spec)| match current.get(name) {
            None => Change {
                service: name.clone(),
                kind: Kind::Create,
                restarts: false,
                fields: fields(&Value::Null, &image_only(spec)),
            },
            Some(old) => {
                let fields = fields(&without_release(old), &without_release(spec));
                let kind = if fields.is_empty() { Kind::Unchanged } else { Kind::Update };
                let restarts = fields.iter().any(|field| {
                    field.path.starts_with("TaskTemplate") || field.path.starts_with("EndpointSpec")
                });
                Change { service: name.clone(), kind, restarts, fields }
            }
        })
        .collect();
    for name in current.keys().filter(|name| !names.contains(name.as_str())) {
        let (service, fields) = (name.clone(), Vec::new());
        changes.push(Change { service, kind: Kind::Leave, restarts: false, fields });
    }
    Plan { changes }
}

fn image_only(spec: &Value) -> Value {
    let image = spec.pointer(IMAGE).cloned();
    let replicas = spec.pointer("/Mode/Replicated/Replicas").cloned();
    serde_json::json!({ "Image": image, "Replicas": replicas })
}

fn without_release(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(labels) = spec.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.remove(RELEASE);
        labels.remove("com.docker.stack.image");
    }
    spec
}

/// The fields that differ, `TaskTemplate.ContainerSpec.Image` and so on.
pub fn fields(before: &Value, after: &Value) -> Vec<Field> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", before, &mut old);
    flatten("", after, &mut new);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| {
            let shown = |value: Option<&String>| value.map(|value| masked(path, value));
            Field { path: path.clone(), before: shown(old.get(path)), after: shown(new.get(path)) }
        })
        .collect()
}

/// Leaves by path. Absent, `null`, empty, zero and Docker's default are the same; environment
/// entries go by name.
fn flatten(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(key, v)| flatten(&below(key), v, out)),
        Value::Array(list) => {
            let is_env = path.ends_with(".Env");
            for (at, item) in list.iter().enumerate() {
                match item.as_str().and_then(|text| text.split_once('=')) {
                    Some((key, text)) if is_env => {
                        out.insert(below(key), text.to_owned());
                    }
                    _ => flatten(&below(&at.to_string()), item, out),
                }
            }
        }
        Value::String(text) if text.is_empty() || DEFAULTS.contains(&(path, text.as_str())) => {}
        Value::Bool(false) => {}
        Value::Number(number) if number.as_f64() == Some(0.0) => {}
        Value::String(text) => drop(out.insert(path.to_owned(), text.clone())),
        Value::Bool(_) | Value::Number(_) => drop(out.insert(path.to_owned(), value.to_string())),
    }
}

/// A value as it may be shown.
fn masked(path: &str, value: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path).to_ascii_uppercase();
    let is_secret = ["PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PASSWD"]
        .iter()
        .any(|part| name.contains(part));
    if is_secret {
        return "(hidden)".to_owned();
    }
    // A password inside an address: scheme://user:password@host.
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => {
            format!("{}://(hidden){}", &value[..scheme], &value[at..])
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(image: &str, password: &str) -> Value {
        json!({
            "Name": "ala_api", "Labels": { RELEASE: image },
            "TaskTemplate": { "ContainerSpec": {
                "Image": image,
                "Env": [format!("POSTGRES_PASSWORD={password}"), "URL=postgres://u:pw@db/x"],
            } },
        })
    }

    #[test]
    fn only_what_differs_is_shown_and_secrets_never() {
        let wanted = [("ala_api".to_owned(), spec("api:2", "new"))];
        let current = BTreeMap::from([("ala_api".to_owned(), spec("api:1", "old"))]);
        let plan = plan(&wanted, &current);
        let shown = serde_json::to_string(&plan).expect("serialises");
        assert!(!shown.contains("\"new\"") && !shown.contains("\"old\""), "{shown}");
        let paths: Vec<&str> = plan.changes[0].fields.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "TaskTemplate.ContainerSpec.Env.POSTGRES_PASSWORD",
                "TaskTemplate.ContainerSpec.Image"
            ]
        );
        assert!(plan.changes[0].restarts);
    }

    #[test]
    fn a_new_release_label_alone_changes_nothing() {
        let mut new = spec("api:1", "x");
        new["Labels"][RELEASE] = json!("later");
        let current = BTreeMap::from([("ala_api".to_owned(), spec("api:1", "x"))]);
        assert!(plan(&[("ala_api".to_owned(), new)], &current).is_empty());
    }

    #[test]
    fn what_docker_adds_by_itself_is_no_change() {
        let wanted = spec("api:1", "x");
        let mut current = wanted.clone();
        current["EndpointSpec"] = json!({ "Mode": "vip" });
        current["TaskTemplate"]["Runtime"] = json!("container");
        current["TaskTemplate"]["ContainerSpec"]["Isolation"] = json!("default");
        assert_eq!(fields(&current, &wanted), []);
        current["EndpointSpec"]["Mode"] = json!("dnsrr");
        assert_eq!(fields(&current, &wanted).len(), 1);
    }

    #[test]
    fn a_password_inside_an_address_is_hidden() {
        assert_eq!(masked("Env.URL", "postgres://u:pw@db/x"), "postgres://(hidden)@db/x");
    }
}
