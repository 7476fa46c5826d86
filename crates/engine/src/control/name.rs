//! What things are called, and finding them by it.

use dockerapi::ApiError;
use orchestrator::{TaskId, World};
use serde_json::Value;

/// The name in an object's spec, or its own.
pub fn name_of(object: &Value) -> &str {
    let spec = object.get("Spec").and_then(|spec| spec.get("Name"));
    spec.or_else(|| object.get("Name")).and_then(Value::as_str).unwrap_or("")
}

/// `ala_api.1.<task id>`.
pub fn task_name(world: &World, task: &orchestrator::Task) -> String {
    let service = world.service(&task.service).map_or("", |service| &service.spec.name);
    match &task.slot {
        orchestrator::SlotKey::Replica(number) => format!("{service}.{number}.{}", task.id),
        orchestrator::SlotKey::Node(node) => format!("{service}.{node}.{}", task.id),
    }
}

/// The container id of a task: Docker's are 64 hexadecimal digits.
pub fn container_id(task: &TaskId) -> String {
    task.0.bytes().chain(*b"evenkeel").map(|byte| format!("{byte:02x}")).take(32).collect()
}

/// A task by id, name or unique beginning of its id.
pub fn find_task(world: &World, key: &str) -> Result<TaskId, ApiError> {
    let exact = TaskId(key.to_owned());
    if world.task(&exact).is_some() {
        return Ok(exact);
    }
    let mut all =
        world.tasks().filter(|task| task.id.0.starts_with(key) || task_name(world, task) == key);
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one.id.clone()),
        _ => Err(ApiError::not_found(format!("task {key} not found"))),
    }
}
