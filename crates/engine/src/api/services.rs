//! `/services`: create, inspect, update, remove.

use dockerapi::{
    ApiError,
    convert::{spell, without_placement},
    filter::Filters,
};
use http::StatusCode;
use orchestrator::{Event, RolloutState, ServiceId, TaskSpec};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call, empty,
    images::credential,
    json as respond,
    objects::create_volume,
    view::{Shown, Spec, with_defaults},
    with_status,
};
use crate::{
    control::{
        State,
        auth::{self, AuthFrom},
        convert, ports, random_id,
    },
    registry::Credential,
};

impl Api {
    pub(super) async fn services(&self, call: &Call) -> Answer {
        let filters =
            Filters::parse(call.get("filters"), &["id", "name", "label", "mode", "runtime"])?;
        let wants_status = call.is_set("status");
        let list = self.control.read(move |state| {
            let there = state.world.services().filter(|service| !service.is_removed);
            let mut list = Vec::new();
            for service in there {
                let spec = &service.spec;
                let fits = filters.any("id", |id| service.id.0.starts_with(id))
                    && filters.any("name", |name| spec.name.starts_with(name))
                    && filters.any("mode", |wanted| wanted == spec.mode.word());
                if !fits {
                    continue;
                }
                let shown = Shown::of(state, service);
                if filters.get("label").is_some() && !filters.labels(&shown.spec.part("Labels")) {
                    continue;
                }
                list.push(if wants_status { shown.with_status(state, service) } else { shown });
            }
            serde_json::value::to_raw_value(&list)
        });
        Ok(respond(&list.await?.map_err(|error| ApiError::internal(error.to_string()))?))
    }

    pub(super) async fn service(&self, key: &str, call: &Call) -> Answer {
        let key = key.to_owned();
        let inserts_defaults = call.is_set("insertDefaults");
        let shown = self.control.write(move |state| {
            let id = state.find_service(&key)?;
            let not_found = || ApiError::not_found(format!("service {key} not found"));
            let service = state.world.service(&id).ok_or_else(not_found)?;
            let shown = Shown::of(state, service);
            let mut value = serde_json::to_value(&shown).unwrap_or_default();
            if inserts_defaults {
                value["Spec"] = with_defaults(shown.spec.read());
            }
            Ok(value)
        });
        Ok(respond(&shown.await?))
    }

    /// Whether the image, as it is now, brings a health check that the service does not switch off.
    fn has_image_check(&self, raw: &Value) -> bool {
        let container = &raw["TaskTemplate"]["ContainerSpec"];
        let kind = |check: &Value| check["Test"][0].as_str().unwrap_or("").to_owned();
        let image = container["Image"].as_str().and_then(|name| self.images.get(name).ok());
        let inherited = image.map(|image| kind(&image.config["config"]["Healthcheck"]));
        kind(&container["Healthcheck"]) != "NONE"
            && inherited.is_some_and(|kind| !matches!(kind.as_str(), "" | "NONE"))
    }

    pub(super) async fn create_service(&self, call: Call) -> Answer {
        let sent = registry_auth(&call)?;
        let mut raw = call.json().await?;
        spell(&mut raw);
        let has_check = self.has_image_check(&raw);
        let warnings = self.check_limits(&raw["TaskTemplate"])?;
        let create = self.control.write(move |state| {
            let id = create(state, raw, has_check)?;
            auth::put(state, &id, &sent, AuthFrom::Spec);
            Ok(id)
        });
        let id = create.await?;
        let mut created = json!({ "ID": id.0 });
        if !warnings.is_empty() {
            created["Warnings"] = json!(warnings);
        }
        Ok(with_status(StatusCode::CREATED, &created))
    }

    pub(super) async fn update_service(&self, key: &str, call: Call) -> Answer {
        let version = call.get("version").unwrap_or("").to_owned();
        let Ok(version) = version.parse::<u64>() else {
            let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
            let text = format!("invalid service version '{version}': {why}");
            return Err(ApiError::bad_parameter(text));
        };
        let is_rollback = match call.get("rollback") {
            None | Some("") => false,
            Some("previous") => true,
            Some(other) => {
                return Err(ApiError::bad_parameter(format!(
                    "unrecognized rollback option {other}"
                )));
            }
        };
        let sent = registry_auth(&call)?;
        let from = match call.get("registryAuthFrom") {
            None | Some("" | "spec") => AuthFrom::Spec,
            Some("previous-spec") => AuthFrom::Previous,
            Some(other) => {
                let text = format!("unsupported registryAuthFrom value: {other}");
                return Err(ApiError::bad_parameter(text));
            }
        };
        let from = if is_rollback { AuthFrom::Previous } else { from };
        let key = key.to_owned();
        let is_taken_back = call.is_set("evenkeel-taken-back");
        let mut raw = call.json().await?;
        spell(&mut raw);
        let has_check = self.has_image_check(&raw);
        // A way back is open whatever the machine has become.
        let warnings = match is_rollback {
            true => Vec::new(),
            false => self.check_limits(&raw["TaskTemplate"])?,
        };
        let change = Change { raw, version, is_rollback, is_taken_back, has_check };
        let update = self.control.write(move |state| {
            let id = update(state, &key, change)?;
            auth::put(state, &id, &sent, from);
            Ok(())
        });
        update.await?;
        let warnings = (!warnings.is_empty()).then_some(warnings);
        Ok(respond(&json!({ "Warnings": warnings })))
    }

    pub(super) async fn remove_service(&self, key: &str) -> Answer {
        let key = key.to_owned();
        let remove = self.control.write(move |state| {
            let id = state.find_service(&key)?;
            let name = state.world.service(&id).map(|s| s.spec.name.clone()).unwrap_or_default();
            state.step(Event::ServiceRemoved { id: id.clone() });
            state.put_service(&id);
            state.event("service", "remove", &id.0, json!({ "name": name }));
            Ok(())
        });
        remove.await?;
        Ok(empty(StatusCode::OK))
    }
}

/// The login that came with a service, if it is one.
fn registry_auth(call: &Call) -> Result<String, ApiError> {
    if credential(call)? == Credential::default() {
        return Ok(String::new());
    }
    let header = call.headers.get("x-registry-auth").and_then(|header| header.to_str().ok());
    Ok(header.unwrap_or("").to_owned())
}

/// `has_check`: its image brings a health check.
fn create(state: &mut State, raw: Value, has_check: bool) -> Result<ServiceId, ApiError> {
    if !raw.is_object() {
        return Err(ApiError::bad_parameter("invalid service spec: it is no JSON object"));
    }
    let mut raw = raw;
    if raw.get("Name").and_then(Value::as_str).unwrap_or("").is_empty() {
        raw["Name"] = json!(format!("service-{}", &random_id()[..8]));
    }
    let mut spec = convert(&raw)?;
    spec.task.has_health_check |= has_check;
    let taken =
        state.world.services().any(|known| !known.is_removed && known.spec.name == spec.name);
    if taken {
        return Err(ApiError::conflict(format!(
            "name conflicts with an existing object: service {} already exists",
            spec.name
        )));
    }
    check(state, &spec, &raw, None)?;
    make_volumes(state, &raw);
    let id = ServiceId(random_id());
    let name = spec.name.clone();
    state.put_service(&id);
    let version = state.version_index;
    state.step(Event::ServiceCreated { id: id.clone(), spec, version });
    state.event("service", "create", &id.0, json!({ "name": name }));
    Ok(id)
}

/// An update as it was asked for.
struct Change {
    raw: Value,
    version: u64,
    is_rollback: bool,
    /// A release goes back: a job is not run for it.
    is_taken_back: bool,
    /// Its image brings a health check.
    has_check: bool,
}

fn update(state: &mut State, key: &str, change: Change) -> Result<ServiceId, ApiError> {
    let Change { raw, version, is_rollback, is_taken_back, has_check } = change;
    let mut spec = convert(&raw)?;
    spec.task.has_health_check |= has_check;
    let id = state.find_service(key)?;
    let not_found = || ApiError::not_found(format!("service {key} not found"));
    let current = state.world.service(&id).ok_or_else(not_found)?;
    if spec.name != current.spec.name {
        return Err(ApiError::not_supported(
            "rpc error: code = Unimplemented desc = renaming services is not supported",
        ));
    }
    if spec.mode.word() != current.spec.mode.word() {
        return Err(ApiError::not_supported(
            "rpc error: code = Unimplemented desc = service mode change is not allowed",
        ));
    }
    if is_rollback && current.previous.is_none() {
        let what = format!("service {} does not have a previous spec", id.0);
        return Err(ApiError::bad_parameter(format!(
            "rpc error: code = FailedPrecondition desc = {what}"
        )));
    }
    let before = Spec::of(&current.spec).read();
    let was_updating = current.is_rolling();
    if is_at_home(state, &current.spec.task.definition, &spec.task) {
        spec.task.definition = current.spec.task.definition.clone();
    }
    check(state, &spec, &raw, Some(&id))?;
    if state.services.get(&id).map(|service| service.index) != Some(version) {
        return Err(ApiError::internal("rpc error: code = Unknown desc = update out of sequence"));
    }
    make_volumes(state, &raw);
    state.put_service(&id);
    let version = state.version_index;
    if is_rollback {
        state.step(Event::RollbackRequested { id: id.clone() });
    } else if is_taken_back && spec.mode.is_job() {
        state.step(Event::JobTakenBack { id: id.clone(), spec, version });
    } else {
        state.step(Event::ServiceUpdated { id: id.clone(), spec, version });
    }
    let after =
        state.world.service(&id).map(|service| Spec::of(&service.spec).read()).unwrap_or_default();
    state.event("service", "update", &id.0, changes(&before, &after));
    let status = state.world.service(&id).and_then(|service| service.rollout.as_ref());
    let is_begun = status.is_some_and(|status| status.state == RolloutState::Updating);
    if is_begun && !is_rollback && !was_updating {
        let told = json!({ "name": after["Name"], "updatestate.new": "updating" });
        state.event("service", "update", &id.0, told);
    }
    Ok(id)
}

/// Only the placement changed, and the tasks may stay where they are: they are up to date.
fn is_at_home(state: &State, current: &str, new: &TaskSpec) -> bool {
    new.needs.suits(state.world.node())
        && without_placement(current) == without_placement(&new.definition)
}

/// What an update's event tells: the name, and the image and the replicas if they changed
/// (`moby/daemon/cluster/services.go`).
fn changes(before: &Value, after: &Value) -> Value {
    let mut told = json!({ "name": after["Name"] });
    for (key, path) in
        [("image", "/TaskTemplate/ContainerSpec/Image"), ("replicas", "/Mode/Replicated/Replicas")]
    {
        let (Some(old), Some(new)) = (before.pointer(path), after.pointer(path)) else { continue };
        if old != new {
            // Attributes are texts, whatever they tell of.
            let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
            told[format!("{key}.old")] = json!(text(old));
            told[format!("{key}.new")] = json!(text(new));
        }
    }
    told
}

/// Named volumes come into being with the first service that wants them.
fn make_volumes(state: &mut State, raw: &Value) {
    let mounts = raw["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array();
    for mount in mounts.into_iter().flatten() {
        let name = mount["Source"].as_str().unwrap_or("");
        // One that is named by a template comes into being with its task.
        let is_known = !name.is_empty() && !name.contains("{{");
        if matches!(mount["Type"].as_str(), Some("volume") | None) && is_known {
            let labels = &mount["VolumeOptions"]["Labels"];
            let labels = if labels.is_object() { labels.clone() } else { json!({}) };
            create_volume(state, &json!({ "Name": name, "Labels": labels }));
        }
    }
}

/// Ports that others have, secrets and configs that do not exist.
fn check(
    state: &State,
    spec: &orchestrator::ServiceSpec,
    raw: &Value,
    own: Option<&ServiceId>,
) -> Result<(), ApiError> {
    for port in ports(spec) {
        if let Some((name, id, mode)) = state.publisher(&port, own) {
            return Err(ApiError::invalid(format!(
                "port '{}' is already in use by service '{name}' ({}) as {mode} port",
                port.published_port, id.0
            )));
        }
    }
    let networks = [&raw["TaskTemplate"]["Networks"], &raw["Networks"]];
    for network in networks.into_iter().filter_map(Value::as_array).flatten() {
        let target = network.get("Target").and_then(Value::as_str).unwrap_or("");
        let is_built_in = matches!(target, "host" | "bridge" | "none");
        if !is_built_in && state.find_object("network", target).is_err() {
            return Err(ApiError::not_found(format!("network {target} not found")));
        }
    }
    let container = &raw["TaskTemplate"]["ContainerSpec"];
    for (list, kind, key) in [("Secrets", "secret", "SecretID"), ("Configs", "config", "ConfigID")]
    {
        for reference in container.get(list).and_then(Value::as_array).into_iter().flatten() {
            let id = reference.get(key).and_then(Value::as_str).unwrap_or("");
            if !state.objects[kind].contains_key(id) {
                let name = reference.get(format!("{kind}Name")).and_then(Value::as_str);
                let name = name.unwrap_or(id);
                return Err(ApiError::invalid(format!("{kind} not found: {name}")));
            }
        }
    }
    Ok(())
}
