//! `/tasks`: what `docker service ps` and a release's verdict look at.

use dockerapi::{ApiError, filter::Filters};
use orchestrator::{Service, Task};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call, json as respond,
    view::{self, Templates},
};
use crate::control::{State, find_task, hostname, task_name};

const KEYS: [&str; 8] =
    ["id", "name", "service", "node", "label", "desired-state", "runtime", "_up-to-date"];

impl Api {
    pub(super) async fn tasks(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &KEYS)?;
        for state in filters.get("desired-state").unwrap_or_default() {
            if !["running", "complete", "shutdown", "accepted", "ready", "remove"]
                .contains(&state.as_str())
            {
                return Err(ApiError::bad_parameter(format!(
                    "invalid filter 'desired-state={state}'"
                )));
            }
        }
        // Only progress bars of docker's client ask so, and they count the slots of a job from 0.
        let is_for_progress = filters.get("_up-to-date").is_some();
        let (tasks, index) = self.control.find(move |state| wanted(state, &filters)).await?;
        let mut templates = Templates::default();
        let driver = &self.control.driver;
        let shown = tasks.iter().map(|task| {
            let pid = driver.pid(&task.id).filter(|_| task.is_started);
            let mut shown = view::task(task, index, pid, &mut templates);
            if let (true, true, Some(slot)) =
                (is_for_progress, task.iteration.is_some(), shown["Slot"].as_u64())
            {
                shown["Slot"] = json!(slot.saturating_sub(1));
            }
            shown
        });
        Ok(respond(&Value::Array(shown.collect())))
    }

    pub(super) async fn task(&self, key: &str) -> Answer {
        let key = key.to_owned();
        let found = self.control.find(move |state| {
            let id = find_task(&state.world, &key)?;
            let not_found = || ApiError::not_found(format!("task {key} not found"));
            Ok((state.world.task(&id).ok_or_else(not_found)?.clone(), state.version_index))
        });
        let (task, index) = found.await?;
        let pid = self.control.driver.pid(&task.id);
        Ok(respond(&view::task(&task, index, pid, &mut Templates::default())))
    }
}

/// Copies of the tasks that the filters want.
fn wanted(state: &State, filters: &Filters) -> Result<(Vec<Task>, u64), ApiError> {
    let mut services = Vec::new();
    for key in filters.get("service").unwrap_or_default() {
        services.push(state.find_service(key)?);
    }
    let has_labels = |service: &Service| match filters.get("label") {
        None => true,
        Some(_) => {
            let raw: Value = serde_json::from_str(&service.spec.raw).unwrap_or(Value::Null);
            filters.labels(raw.get("Labels").unwrap_or(&json!({})))
        }
    };
    let is_wanted_service = |service: &Service| {
        (services.is_empty() || services.contains(&service.id)) && has_labels(service)
    };
    let fits = |task: &Task, service: &Service| {
        filters.any("id", |id| task.id.0.starts_with(id))
            && filters.any("name", |name| task_name(&state.world, task).starts_with(name))
            && filters.any("node", |node| task.node.starts_with(node) || node == hostname())
            && filters.any("desired-state", |wanted| view::desired(task) == wanted)
            && filters.any("runtime", |wanted| wanted == "container")
            && filters.any("_up-to-date", |wanted| {
                let is = task.spec.definition == service.spec.task.definition;
                is == matches!(wanted, "1" | "true")
            })
    };
    let services = state.world.services().filter(|service| is_wanted_service(service));
    let tasks = services.flat_map(|service| {
        state.world.tasks_of(&service.id).filter(move |task| fits(task, service)).cloned()
    });
    Ok((tasks.collect(), state.version_index))
}
