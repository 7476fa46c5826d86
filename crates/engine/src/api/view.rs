//! Services and tasks in Docker's JSON shapes.

mod service;

use std::{collections::BTreeMap, sync::Arc};

use dockerapi::stamp;
use orchestrator::{Desired, Observed, SlotKey, Task};
use serde_json::{Value, json};

use crate::control::container_id;
pub(super) use service::{Shown, Spec, with_defaults};

/// Docker leaves a zero out.
fn iteration(index: u64) -> Value {
    if index == 0 { json!({}) } else { json!({ "Index": index }) }
}

pub(super) fn observed(observed: Observed) -> &'static str {
    match observed {
        Observed::New => "assigned",
        Observed::Preparing => "preparing",
        Observed::Ready => "ready",
        Observed::Starting => "starting",
        Observed::Running => "running",
        Observed::Complete => "complete",
        Observed::Shutdown => "shutdown",
        Observed::Failed => "failed",
        Observed::Rejected => "rejected",
    }
}

fn message(observed: Observed) -> &'static str {
    match observed {
        Observed::New => "scheduler assigned task to node",
        Observed::Preparing | Observed::Rejected => "preparing",
        Observed::Ready => "prepared",
        Observed::Starting => "starting",
        Observed::Running | Observed::Failed => "started",
        Observed::Complete => "finished",
        Observed::Shutdown => "shutdown",
    }
}

/// What is wanted of a task: of a job's, that it completes, and one that did is as it should be.
pub(super) fn desired(task: &Task) -> &'static str {
    let is_job = task.iteration.is_some();
    match task.desired {
        Desired::Ready => "ready",
        Desired::Running if is_job => "complete",
        Desired::Shutdown if is_job && task.observed == Observed::Complete => "complete",
        Desired::Running => "running",
        Desired::Shutdown => "shutdown",
        Desired::Remove => "remove",
    }
}

/// What tasks of one definition share, read once for all of them.
#[derive(Debug, Default)]
pub(super) struct Templates(BTreeMap<Arc<str>, Template>);

/// The task template and the ports in host mode.
#[derive(Clone, Debug)]
struct Template(Value, Vec<Value>);

impl Templates {
    fn of(&mut self, definition: &Arc<str>) -> Template {
        let read = || {
            let mut definition: Value = serde_json::from_str(definition).unwrap_or(Value::Null);
            let ports = definition["EndpointSpec"]["Ports"].as_array().cloned().unwrap_or_default();
            let is_host = |port: &Value| port["PublishMode"] == "host";
            let ports = ports.into_iter().filter(is_host).collect();
            let template = definition.get_mut("TaskTemplate").map_or(json!({}), Value::take);
            Template(template, ports)
        };
        self.0.entry(Arc::clone(definition)).or_insert_with(read).clone()
    }
}

/// A task as `GET /tasks/{id}` shows it; `index` is the version of the state it was read from.
pub(super) fn task(task: &Task, index: u64, pid: Option<u32>, templates: &mut Templates) -> Value {
    let Template(template, ports) = templates.of(&task.spec.definition);
    let mut status = json!({
        "Timestamp": stamp::text(task.observed_at),
        "State": observed(task.observed),
        "Message": message(task.observed),
        "PortStatus": {},
    });
    if let Some(error) = &task.error {
        status["Err"] = json!(error);
    }
    if task.observed == Observed::Running && !ports.is_empty() {
        status["PortStatus"] = json!({ "Ports": ports });
    }
    if let Some(unplaced) = task.unplaced.as_ref().filter(|_| task.is_live()) {
        status["State"] = json!("pending");
        status["Message"] = json!("pending task scheduling");
        status["Err"] = json!(unplaced.reason);
    }
    if task.is_started {
        status["ContainerStatus"] = json!({
            "ContainerID": container_id(&task.id),
            "PID": pid.unwrap_or(0),
            "ExitCode": task.exit_code.unwrap_or(0),
        });
    }
    let mut shown = json!({
        "ID": task.id.0,
        "Version": { "Index": index },
        "CreatedAt": stamp::text(task.created_at),
        "UpdatedAt": stamp::text(task.observed_at),
        "Labels": {},
        "Spec": template,
        "ServiceID": task.service.0,
        "NodeID": task.node,
        "Status": status,
        "DesiredState": desired(task),
    });
    if let SlotKey::Replica(number) = task.slot {
        shown["Slot"] = json!(number);
        if task.unplaced.is_some() {
            shown["NodeID"] = json!("");
        }
    }
    if let Some(index) = task.iteration {
        shown["JobIteration"] = iteration(index);
    }
    shown
}
