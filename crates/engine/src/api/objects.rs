//! Configs, secrets, networks and volumes: objects with a spec, a name and labels.

use std::path::Path;

use base64::Engine as _;
use dockerapi::{ApiError, filter::Filters, stamp};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Answer, Api, Call,
    container::Container,
    empty,
    images::blocking,
    json as respond,
    swarm::no_manager,
    usage::{is_predefined, refuse_used_volume},
    with_status,
};
use crate::{
    control::{State, container_id, name_of, random_id},
    driver::mount,
    template,
};

/// `configs` → `config`.
pub(super) fn kind(plural: &str) -> &'static str {
    match plural {
        "configs" => "config",
        "secrets" => "secret",
        "networks" => "network",
        _ => "volume",
    }
}

/// The containers that are said to be in a network.
fn members(state: &State, network: &str) -> Value {
    let all = state.containers.values().filter(|own| own.is_up()).map(Container::alone);
    let members = all.filter(|own| own.networks().iter().any(|name| name == network));
    let members = members.map(|own| {
        let member = json!({
            "Name": own.name, "EndpointID": "", "MacAddress": "", "IPv4Address": "",
            "IPv6Address": "",
        });
        (container_id(&own.id), member)
    });
    Value::Object(members.collect())
}

/// As the API shows it: a secret's data never.
fn shown(kind: &str, object: &Value, tasks: &Path) -> Value {
    let mut object = object.clone();
    if kind == "volume"
        && let Some(folder) = mount::volume(tasks, name_of(&object))
    {
        object["Mountpoint"] = json!(folder);
    }
    if kind == "secret"
        && let Some(spec) = object.get_mut("Spec").and_then(Value::as_object_mut)
    {
        spec.remove("Data");
    }
    object
}

impl Api {
    pub(super) async fn objects(&self, kind: &'static str, call: &Call) -> Answer {
        let known = ["id", "name", "label", "names", "driver", "type", "scope", "dangling"];
        let filters = Filters::parse(call.get("filters"), &known)?;
        let tasks = self.tasks.clone();
        let list = self.control.read(move |state| {
            let objects = state.objects[kind].iter();
            let fits = objects.filter(|(id, object)| {
                let labels = object.get("Spec").unwrap_or(object).get("Labels");
                filters.any("id", |wanted| id.starts_with(wanted))
                    && filters.any("name", |wanted| name_of(object).starts_with(wanted))
                    && filters.any("driver", |wanted| object["Driver"] == wanted)
                    && filters.labels(labels.unwrap_or(&Value::Null))
            });
            fits.map(|(_, object)| shown(kind, object, &tasks)).collect::<Vec<_>>()
        });
        let list = json!(list.await?);
        let list =
            if kind == "volume" { json!({ "Volumes": list, "Warnings": null }) } else { list };
        Ok(respond(&list))
    }

    pub(super) async fn object(&self, kind: &'static str, key: &str) -> Answer {
        let (key, tasks) = (key.to_owned(), self.tasks.clone());
        let object = self.control.find(move |state| {
            let id = state.find_object(kind, &key)?;
            let mut object = shown(kind, &state.objects[kind][&id], &tasks);
            if kind == "network" {
                object["Containers"] = members(state, name_of(&object));
            }
            Ok(object)
        });
        Ok(respond(&object.await?))
    }

    pub(super) async fn create_object(&self, kind: &'static str, call: Call) -> Answer {
        let body = call.json().await?;
        if kind == "network" && body["Driver"] == "overlay" && !self.control.is_in_swarm() {
            return Err(no_manager());
        }
        let created = self.control.write(move |state| match kind {
            "config" | "secret" => create_data(state, kind, body),
            "network" => create_network(state, body),
            _ if !body.is_object() => {
                Err(ApiError::bad_parameter("invalid volume: it is no JSON object"))
            }
            _ => match body.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
                Some(name) if !mount::is_volume_name(name) => {
                    Err(ApiError::bad_parameter(format!(
                        "{name:?} includes invalid characters for a local volume name, only \
                     \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
                    )))
                }
                _ => Ok(create_volume(state, &body)),
            },
        });
        let created = created.await?;
        let created = if kind == "volume" { shown(kind, &created, &self.tasks) } else { created };
        Ok(with_status(StatusCode::CREATED, &created))
    }

    /// Only labels may change.
    pub(super) async fn update_object(&self, kind: &'static str, key: &str, call: Call) -> Answer {
        let version = call.get("version").and_then(|version| version.parse::<u64>().ok());
        let key = key.to_owned();
        let body = call.json().await?;
        let update = self.control.write(move |state| {
            let id = state.find_object(kind, &key)?;
            let mut object = state.objects[kind][&id].clone();
            if object["Version"]["Index"].as_u64() != version {
                let text = "rpc error: code = Unknown desc = update out of sequence";
                return Err(ApiError::internal(text));
            }
            let same = |part: &str| {
                body.get(part).is_none_or(|new| new.is_null() || *new == object["Spec"][part])
            };
            if !same("Data") || !same("Name") {
                return Err(ApiError::invalid("only updates to Labels are allowed"));
            }
            object["Spec"]["Labels"] = body.get("Labels").cloned().unwrap_or(json!({}));
            state.version_index += 1;
            object["Version"]["Index"] = json!(state.version_index);
            object["UpdatedAt"] = json!(stamp::text(state.now()));
            state.put_object(kind, &id, object);
            Ok(())
        });
        update.await?;
        Ok(empty(StatusCode::OK))
    }

    pub(super) async fn delete_object(&self, kind: &'static str, key: &str) -> Answer {
        let key = key.to_owned();
        let delete = self.control.write(move |state| {
            let id = state.find_object(kind, &key)?;
            let name = name_of(&state.objects[kind][&id]).to_owned();
            if kind == "volume" {
                refuse_used_volume(state, &name)?;
            }
            if kind == "network" && is_predefined(&name) {
                let message = format!("{name} is a pre-defined network and cannot be removed");
                return Err(ApiError { status: StatusCode::FORBIDDEN, message });
            }
            let users = state.users_of(&id);
            if !users.is_empty() {
                let noun = if users.len() == 1 { "service" } else { "services" };
                let users = users.join(", ");
                let what = format!("{kind} '{name}' is in use by the following {noun}: {users}");
                return Err(ApiError::invalid(what));
            }
            state.delete_object(kind, &id);
            state.event(kind, "remove", &id, json!({ "name": name }));
            Ok(name)
        });
        let name = delete.await?;
        if let Some(folder) = mount::volume(&self.tasks, &name).filter(|_| kind == "volume") {
            let removed = blocking(move || std::fs::remove_dir_all(folder)).await?;
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(ApiError::internal(format!("remove the files of {name}: {error}")));
            }
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

fn create_data(state: &mut State, kind: &'static str, spec: Value) -> Result<Value, ApiError> {
    let name = spec.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_fine) {
        let what = "must be 1 to 64 characters of [a-zA-Z0-9-_.]";
        return Err(ApiError::invalid(format!("invalid {kind} name: {what}")));
    }
    let data = spec.get("Data").and_then(Value::as_str).unwrap_or("");
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|error| ApiError::bad_parameter(format!("{kind} data is not base64: {error}")))?;
    let limit = if kind == "secret" { 511_999 } else { 1_023_999 };
    if bytes.len() > limit || (kind == "secret" && bytes.is_empty()) {
        return Err(ApiError::invalid(format!("{kind} data must be between 1 and {limit} bytes")));
    }
    template::check_object(&spec, &bytes)
        .map_err(|wrong| ApiError::invalid(format!("{kind} {name}: {wrong}")))?;
    if state.objects[kind].values().any(|object| name_of(object) == name) {
        return Err(ApiError::conflict(format!("{kind} {name} already exists")));
    }
    let id = random_id();
    state.version_index += 1;
    let now = stamp::text(state.now());
    let object = json!({
        "ID": id, "Version": { "Index": state.version_index }, "CreatedAt": now, "UpdatedAt": now,
        "Spec": spec,
    });
    state.put_object(kind, &id, object);
    state.event(kind, "create", &id, json!({ "name": name }));
    Ok(json!({ "ID": id }))
}

fn create_network(state: &mut State, spec: Value) -> Result<Value, ApiError> {
    let name = spec.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
    if name.is_empty() {
        return Err(ApiError::bad_parameter("a network needs a name"));
    }
    if state.objects["network"].values().any(|object| name_of(object) == name) {
        return Err(ApiError::conflict(format!("network with name {name} already exists")));
    }
    let id = random_id();
    let mut object = spec;
    object["Id"] = json!(id);
    let driver = object["Driver"].as_str().filter(|driver| !driver.is_empty());
    let is_overlay = driver == Some("overlay");
    object["Driver"] = json!(driver.unwrap_or("bridge"));
    object["Scope"] = json!(if is_overlay { "swarm" } else { "local" });
    object["Created"] = json!(stamp::text(state.now()));
    let defaults = [
        ("Labels", json!({})),
        ("Options", json!({})),
        ("IPAM", json!({ "Driver": "default", "Options": {}, "Config": [] })),
        ("EnableIPv6", json!(false)),
        ("Internal", json!(false)),
        ("Attachable", json!(false)),
        ("Ingress", json!(false)),
    ];
    for (key, default) in defaults {
        if object.get(key).is_none_or(Value::is_null) {
            object[key] = default;
        }
    }
    state.put_object("network", &id, object);
    state.event("network", "create", &id, json!({ "name": name }));
    Ok(json!({ "Id": id, "Warning": "" }))
}

pub(super) fn create_volume(state: &mut State, spec: &Value) -> Value {
    let name = spec.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.map_or_else(random_id, str::to_owned);
    if let Some(known) = state.objects["volume"].get(&name) {
        return known.clone();
    }
    let object = json!({
        "Name": name, "Driver": "local", "Scope": "local", "Mountpoint": "",
        "Labels": spec.get("Labels").cloned().unwrap_or(json!({})),
        "Options": spec.get("DriverOpts").cloned().unwrap_or(Value::Null),
        "CreatedAt": stamp::text(state.now()),
    });
    state.put_object("volume", &name, object.clone());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_without_its_data_and_a_config_with_it() {
        let object = json!({ "Spec": { "Name": "x", "Data": "aGk=" } });
        let shown = |kind: &str, object: &Value| shown(kind, object, Path::new("/state/tasks"));
        assert!(shown("secret", &object)["Spec"].get("Data").is_none());
        assert_eq!(shown("config", &object)["Spec"]["Data"], "aGk=");
    }
}
