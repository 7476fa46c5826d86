//! Containers outside any service: create, start, restart, rename, update, prune, top.

use std::time::Duration;

use dockerapi::{ApiError, filter::Filters, stamp};
use http::StatusCode;
use orchestrator::{TaskId, Time};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call, container::Kind, containers::conflict, empty, end::patience,
    images::blocking, json as respond, objects::create_volume, ports::taken, process, with_status,
};
use crate::{
    container::{self, Event, Health, Phase, Wanted, asked},
    control::{State, container_id, name_of, random_id},
    driver::{layer::Layer, loader, mount, plan},
    image::Image,
};

/// How long a start may take until it is seen.
const START: Duration = Duration::from_secs(60);

impl Api {
    pub(super) async fn create_container(&self, call: Call) -> Answer {
        let name = call.get("name").map(|name| name.trim_start_matches('/').to_owned());
        let body = call.json().await?;
        let image = self.images.get(body["Image"].as_str().unwrap_or(""))?;
        let mut asked = asked::with_image(body, &image.config)?;
        if let Some(refused) = asked::refusal(&asked) {
            return Err(refused);
        }
        let id = TaskId(random_id());
        if asked["Hostname"].as_str().unwrap_or("").is_empty() {
            asked["Hostname"] = json!(container_id(&id)[..12]);
        }
        let definition = asked::definition(&asked, &image.id)?;
        self.check_program(&asked, &definition, &id, &image).await?;
        let read: Value = serde_json::from_str(&definition).unwrap_or_default();
        let mut warnings = self.check_limits(&read["TaskTemplate"])?;
        warnings.extend(asked::warnings(&asked));
        let shown = container_id(&id);
        let create = self.control.write(move |state| {
            let name = match name.filter(|name| !name.is_empty()) {
                Some(name) => state.check_name(&name).map(|()| name)?,
                None => free_name(state)?,
            };
            let asked = in_networks(state, asked)?;
            for mount in asked::mounts(&asked)? {
                let name = mount["Source"].as_str().unwrap_or("");
                if mount["Type"] == "volume" && !name.is_empty() {
                    let labels = mount["VolumeOptions"]["Labels"].clone();
                    create_volume(state, &json!({ "Name": name, "Labels": labels }));
                }
            }
            let created_at = state.now();
            let (definition, image) = (definition.into(), image.id);
            let new = Made { id: id.clone(), name, asked, definition, image, created_at };
            state.put_container(new.container());
            state.step_container(&id, Event::Created);
            Ok(())
        });
        create.await?;
        Ok(with_status(StatusCode::CREATED, &json!({ "Id": shown, "Warnings": warnings })))
    }

    /// A program that only runs inside its image is refused before anybody waits for it.
    async fn check_program(
        &self,
        asked: &Value,
        definition: &str,
        id: &TaskId,
        image: &Image,
    ) -> Result<(), ApiError> {
        let read: dockerapi::spec::Definition =
            serde_json::from_str(definition).map_err(|e| ApiError::bad_parameter(e.to_string()))?;
        let spec = read.task_template.container_spec.unwrap_or_default();
        let folder = self.tasks.join(&id.0);
        let mounts = mount::of(&spec, &folder).map_err(ApiError::bad_parameter)?;
        let (images, image, dir) = (self.images.clone(), image.clone(), spec.dir.clone());
        let env: Vec<(String, String)> = spec
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .chain([("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())])
            .collect();
        let mut argv: Vec<String> = spec.command.first().cloned().into_iter().collect();
        let obstacle = blocking(move || {
            let root = images.root(&image)?;
            let layer = Layer::new(&folder, &root, &dir, mounts);
            plan::look_up(&mut argv, &layer, &env);
            let program = argv.first().map(std::path::PathBuf::from).unwrap_or_default();
            let is_own = program.starts_with(&root);
            Ok::<_, ApiError>(is_own.then(|| loader::obstacle(&program, &layer)).flatten())
        });
        match obstacle.await?? {
            None => Ok(()),
            Some(why) => Err(ApiError::not_supported(format!(
                "the program {} of image {} cannot run here: {why}, and the embedded engine runs \
                 programs as processes of this machine; use a statically linked program (`keel \
                 build` with `x-evenkeel: artifact`), or a Docker engine for this image",
                spec.command.first().map_or("", String::as_str),
                asked["Image"].as_str().unwrap_or(""),
            ))),
        }
    }

    /// Answers once its process is seen, or with why there is none.
    pub(super) async fn start_container(&self, key: &str) -> Answer {
        let container = self.found(key).await?;
        let own = match &container.kind {
            Kind::Alone(own) => own,
            Kind::Task { .. } if container.is_running() => {
                return Ok(empty(StatusCode::NOT_MODIFIED));
            }
            Kind::Task { service, .. } => {
                return Err(conflict(format!(
                    "container {} is a task of service {service}, which starts another in its \
                     place; `docker service update --force {service}` restarts the service",
                    container_id(&container.id)
                )));
            }
        };
        if own.is_up() {
            return Ok(empty(StatusCode::NOT_MODIFIED));
        }
        let (id, wishes) = (container.id.clone(), asked::wishes(&own.asked)?);
        let ports = self.choose_ports(&container, wishes).await?;
        let ends = self.control.write(move |state| {
            for port in &ports {
                if let Some(holder) = state.port_holder(port.published, Some(&id)) {
                    return Err(taken(&container.name, port, &format!("by {holder}")));
                }
            }
            let own = state.containers.get(&id);
            let gone = || ApiError::not_found(format!("No such container: {}", container.name));
            let own = own.ok_or_else(gone)?;
            let (ends, pool) = (own.ends, state.pool_of(own));
            state.step_container(&id, Event::Start { ports, pool });
            Ok((id, ends))
        });
        let (id, ends) = ends.await?;
        let is_seen = move |state: &State, id: &TaskId| {
            let own = state.containers.get(id);
            own.is_none_or(|own| own.phase != Phase::Starting || own.ends > ends)
        };
        let seen = tokio::time::timeout(START, self.when(is_seen, &id)).await;
        seen.map_err(|_| ApiError::internal("the container did not start within 60 s"))??;
        let error = self.control.read(move |state| {
            let own = state.containers.get(&id)?;
            own.error.clone().filter(|_| !own.is_up())
        });
        match error.await? {
            None => Ok(empty(StatusCode::NO_CONTENT)),
            Some(error) => Err(ApiError::bad_parameter(format!(
                "failed to create task for container: {error}"
            ))),
        }
    }

    /// Stops it and starts it; a client that goes away in between changes nothing of that.
    pub(super) async fn restart_container(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let (api, patience) = (self.clone(), patience(call));
        let id = container_id(&container.id);
        let restarting = tokio::spawn(async move {
            api.end(&container, None, patience).await?;
            match container.kind {
                // The service starts another.
                Kind::Task { .. } => Ok(empty(StatusCode::NO_CONTENT)),
                Kind::Alone(_) => api.start_container(&id).await,
            }
        });
        restarting.await.map_err(|error| ApiError::internal(error.to_string()))?
    }

    pub(super) async fn rename_container(&self, key: &str, call: &Call) -> Answer {
        let id = self.alone(key).await?.id;
        let name = call.get("name").unwrap_or("").trim_start_matches('/').to_owned();
        if name.is_empty() {
            return Err(ApiError::bad_parameter("Neither old nor new names may be empty"));
        }
        let rename = self.control.write(move |state| {
            state.check_name(&name)?;
            let Some(own) = state.containers.get(&id) else { return Ok(()) };
            let mut own = own.clone();
            let old = std::mem::replace(&mut own.name, name.clone());
            state.put_container(own);
            let attributes = json!({ "name": name, "oldName": format!("/{old}") });
            state.event("container", "rename", &container_id(&id), attributes);
            Ok(())
        });
        rename.await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// The restart policy; limits are taken and, as at the creation, not enforced.
    pub(super) async fn update_container(&self, key: &str, call: Call) -> Answer {
        let id = self.alone(key).await?.id;
        let body = call.json().await?;
        let warnings = asked::warnings(&json!({ "HostConfig": body }));
        let update = self.control.write(move |state| {
            let Some(own) = state.containers.get(&id) else { return Ok(()) };
            let mut own = own.clone();
            if !own.asked["HostConfig"].is_object() {
                own.asked["HostConfig"] = json!({});
            }
            for (field, value) in body.as_object().into_iter().flatten() {
                let is_name = field == "RestartPolicy" && value["Name"].as_str() == Some("");
                if !value.is_null() && !is_name {
                    own.asked["HostConfig"][field] = value.clone();
                }
            }
            if let Some(refused) = asked::refusal(&own.asked) {
                return Err(refused);
            }
            state.put_container(own);
            Ok(())
        });
        update.await?;
        Ok(respond(&json!({ "Warnings": warnings })))
    }

    pub(super) async fn prune_containers(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &["label", "until"])?;
        let until = filters.get("until").and_then(|values| values.first()).map(|text| {
            let ago = stamp::parse_duration(text).map(|ago| {
                Time(stamp::now().0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(0)))
            });
            ago.or_else(|| stamp::parse_unix(text))
                .or_else(|| stamp::parse(text))
                .ok_or_else(|| ApiError::bad_parameter(format!("invalid value for until: {text}")))
        });
        let until = until.transpose()?;
        let prune = self.control.write(move |state| {
            let ended = state.containers.values().filter(|own| {
                !own.holds_ports()
                    && filters.labels(&own.asked["Labels"])
                    && until.is_none_or(|until| own.created_at < until)
            });
            let ids: Vec<TaskId> = ended.map(|own| own.id.clone()).collect();
            for id in &ids {
                state.step_container(id, Event::Remove);
            }
            Ok(ids)
        });
        let ids = prune.await?;
        let sizes = ids.iter().map(|id| super::usage::size(&self.tasks.join(&id.0)));
        let size: u64 = sizes.sum();
        let ids: Vec<String> = ids.iter().map(container_id).collect();
        Ok(respond(&json!({ "ContainersDeleted": ids, "SpaceReclaimed": size })))
    }

    pub(super) async fn top(&self, key: &str) -> Answer {
        let container = self.found(key).await?;
        let pid = self.control.driver.pid(&container.id).filter(|_| container.is_running());
        let Some(pid) = pid else {
            let id = container_id(&container.id);
            return Err(conflict(format!("container {id} is not running")));
        };
        let processes = blocking(move || process::table(pid)).await?;
        Ok(respond(&json!({ "Titles": process::TITLES, "Processes": processes })))
    }

    /// One outside any service; a task is its service's.
    pub(super) async fn alone(&self, key: &str) -> Result<container::Container, ApiError> {
        match self.found(key).await?.kind {
            Kind::Alone(own) => Ok(*own),
            Kind::Task { service, .. } => Err(ApiError::not_supported(format!(
                "{key} is a task of service {service}; change the service (`docker service \
                 update`, `keel deploy`)"
            ))),
        }
    }
}

/// A container as it is asked for.
struct Made {
    id: TaskId,
    name: String,
    asked: Value,
    definition: std::sync::Arc<str>,
    image: String,
    created_at: Time,
}

impl Made {
    fn container(self) -> container::Container {
        container::Container {
            id: self.id,
            name: self.name,
            has_health_check: asked::has_health_check(&self.asked),
            asked: self.asked,
            definition: self.definition,
            image: self.image,
            created_at: self.created_at,
            phase: Phase::Created,
            wanted: Wanted::Down,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            error: None,
            is_stopped_by_hand: false,
            restarts: 0,
            back_off: Duration::ZERO,
            ends: 0,
            health: Health::Starting,
            ports: Vec::new(),
            pool: String::new(),
            is_adopted: false,
        }
    }
}

/// The networks that are named exist; one that is only the mode is listed too.
fn in_networks(state: &State, mut asked: Value) -> Result<Value, ApiError> {
    let named = |name: &str| match name {
        "" | "default" => "bridge".to_owned(),
        other => other.to_owned(),
    };
    let mode = named(asked["HostConfig"]["NetworkMode"].as_str().unwrap_or(""));
    let listed = asked["NetworkingConfig"]["EndpointsConfig"].as_object().cloned();
    let mut all = serde_json::Map::new();
    for (key, endpoint) in listed.unwrap_or_default() {
        let id = state.find_object("network", &named(&key))?;
        all.insert(name_of(&state.objects["network"][&id]).to_owned(), endpoint);
    }
    let id = state.find_object("network", &mode)?;
    let name = name_of(&state.objects["network"][&id]).to_owned();
    if all.is_empty() {
        all.insert(name, json!({}));
    }
    asked["NetworkingConfig"] = json!({ "EndpointsConfig": all });
    Ok(asked)
}

/// `calm_harbour`, as one would call it.
fn free_name(state: &State) -> Result<String, ApiError> {
    const FIRST: [&str; 16] = [
        "calm", "brisk", "clear", "steady", "bright", "quiet", "swift", "gentle", "bold", "fair",
        "keen", "level", "lively", "patient", "sound", "tidy",
    ];
    const SECOND: [&str; 16] = [
        "harbour", "anchor", "sail", "keel", "rudder", "tide", "beacon", "compass", "deck", "mast",
        "buoy", "wharf", "current", "lantern", "pier", "island",
    ];
    for try_number in 0..64_usize {
        let drawn = random_id().into_bytes();
        let at = |place: usize| usize::from(drawn[place]) % 16;
        let mut name = format!("{}_{}", FIRST[at(0)], SECOND[at(1)]);
        if try_number > 8 {
            name.push_str(&try_number.to_string());
        }
        if state.check_name(&name).is_ok() {
            return Ok(name);
        }
    }
    Err(ApiError::internal("no free name for the container; give it one with --name"))
}
