//! `/tasks` and tasks as containers: what `docker service ps`, `docker ps` and `docker kill` use.

use dockerapi::{ApiError, filter::Filters, spec};
use http::StatusCode;
use orchestrator::{Observed, Service, Task, TaskId};
use serde_json::{Value, json};

use super::{Answer, Api, Call, empty, json as respond, view};
use crate::{
    control::{State, find_task, task_name},
    driver::{Command, plan::signal_number},
};

const KEYS: [&str; 8] =
    ["id", "name", "service", "node", "label", "desired-state", "runtime", "_up-to-date"];

impl Api {
    pub(super) async fn tasks(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &KEYS)?;
        let driver = self.control.driver.clone();
        let list = self.control.write(move |state| {
            let mut services = Vec::new();
            for key in filters.get("service").unwrap_or_default() {
                services.push(state.find_service(key)?);
            }
            let fits = |task: &Task, service: &Service| {
                (services.is_empty() || services.contains(&task.service))
                    && filters.any("id", |id| task.id.0.starts_with(id))
                    && filters.any("name", |name| task_name(&state.world, task).starts_with(name))
                    && filters.any("node", |node| {
                        task.node.starts_with(node) || node == crate::control::hostname()
                    })
                    && filters.any("desired-state", |wanted| view::desired(task.desired) == wanted)
                    && filters.any("_up-to-date", |wanted| {
                        let is = task.spec.definition == service.spec.task.definition;
                        is == matches!(wanted, "1" | "true")
                    })
                    && filters.labels(&view::spec(&service.spec)["Labels"])
            };
            let list = state
                .world
                .services()
                .flat_map(|service| state.world.tasks_of(&service.id).map(move |t| (t, service)))
                .filter(|(task, service)| fits(task, service))
                .map(|(task, _)| view::task(state, task, driver.pid(&task.id)))
                .collect();
            Ok(Value::Array(list))
        });
        Ok(respond(&list.await?))
    }

    pub(super) async fn task(&self, key: &str) -> Answer {
        let key = key.to_owned();
        let driver = self.control.driver.clone();
        let shown = self.control.write(move |state| {
            let id = find_task(&state.world, &key)?;
            let not_found = || ApiError::not_found(format!("task {key} not found"));
            let task = state.world.task(&id).ok_or_else(not_found)?;
            Ok(view::task(state, task, driver.pid(&id)))
        });
        Ok(respond(&shown.await?))
    }

    pub(super) async fn containers(&self, call: &Call) -> Answer {
        let known = ["id", "name", "label", "status", "health", "ancestor", "is-task"];
        let filters = Filters::parse(call.get("filters"), &known)?;
        let is_all = call.is_set("all");
        let list = self.control.read(move |state| {
            let list = state
                .world
                .tasks()
                .filter(|task| task.is_started && (is_all || !task.observed.is_end()))
                .map(|task| container(state, task))
                .filter(|shown| {
                    let name = shown["Names"][0].as_str().unwrap_or("").trim_start_matches('/');
                    let id = shown["Id"].as_str().unwrap_or("");
                    filters.any("name", |wanted| name.contains(wanted.trim_start_matches('/')))
                        && filters.any("id", |wanted| id.starts_with(wanted))
                        && filters.any("status", |wanted| shown["State"] == wanted)
                        && filters.labels(&shown["Labels"])
                })
                .collect();
            Value::Array(list)
        });
        Ok(respond(&list.await?))
    }

    pub(super) async fn kill(&self, key: &str, call: &Call) -> Answer {
        let text = call.get("signal").unwrap_or("SIGKILL").to_owned();
        let number = signal_number(&text)
            .ok_or_else(|| ApiError::bad_parameter(format!("invalid signal: {text}")))?;
        let key = key.to_owned();
        let id: TaskId = self
            .control
            .write(move |state| {
                state
                    .world
                    .tasks()
                    .filter(|task| task.is_started && !task.observed.is_end())
                    .find(|t| {
                        view::container_id(t).starts_with(&key) || task_name(&state.world, t) == key
                    })
                    .map(|task| task.id.clone())
                    .ok_or_else(|| ApiError::not_found(format!("No such container: {key}")))
            })
            .await?;
        self.control.driver.send(Command::Signal(id, number));
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

fn container(state: &State, task: &Task) -> Value {
    let definition: spec::Definition =
        serde_json::from_str(&task.spec.definition).unwrap_or_default();
    let spec = definition.task_template.container_spec.unwrap_or_default();
    let name = task_name(&state.world, task);
    let service = state.world.service(&task.service).map_or("", |s| s.spec.name.as_str());
    let state_name = if task.observed.is_end() { "exited" } else { "running" };
    let health = match (task.spec.has_health_check, task.is_unhealthy, task.observed) {
        (true, true, _) => " (unhealthy)",
        (true, false, Observed::Running) => " (healthy)",
        (true, false, Observed::Starting) => " (health: starting)",
        _ => "",
    };
    let verb = if state_name == "running" { "Up" } else { "Exited" };
    let mut labels = json!(spec.labels);
    for (key, value) in [
        ("com.docker.swarm.task", ""),
        ("com.docker.swarm.task.id", &task.id.0),
        ("com.docker.swarm.task.name", &name),
        ("com.docker.swarm.node.id", &task.node),
        ("com.docker.swarm.service.id", &task.service.0),
        ("com.docker.swarm.service.name", service),
    ] {
        labels[key] = json!(value);
    }
    json!({
        "Id": view::container_id(task), "Names": [format!("/{name}")], "Image": spec.image,
        "Command": "", "Created": task.created_at.0 / 1_000_000_000, "Ports": [],
        "Labels": labels, "State": state_name, "Status": format!("{verb}{health}"),
        "HostConfig": { "NetworkMode": "host" }, "NetworkSettings": { "Networks": {} },
        "Mounts": [],
    })
}
