//! Services and tasks in Docker's JSON shapes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dockerapi::stamp;
use orchestrator::{Desired, Mode, Observed, Service, SlotKey, Task};
use serde_json::{Value, json};

use crate::control::{State, container_id};

/// A service as `GET /services/{id}` shows it.
pub(super) fn service(state: &State, service: &Service) -> Value {
    let api = state.services.get(&service.id);
    let spec_shown = spec(&service.spec);
    let endpoint = endpoint(&spec_shown);
    let mut shown = json!({
        "ID": service.id.0,
        "Version": { "Index": api.map_or(0, |api| api.index) },
        "CreatedAt": stamp::text(api.map_or(service.created_at, |api| api.created_at)),
        "UpdatedAt": stamp::text(api.map_or(service.updated_at, |api| api.updated_at)),
        "Endpoint": endpoint,
    });
    shown["Spec"] = spec_shown;
    if service.spec.mode.is_job() {
        shown["JobStatus"] = json!({
            "JobIteration": iteration(service.job.iteration),
            "LastExecution": stamp::text(service.job.last_execution),
        });
    }
    if let Some((_, previous)) = &service.previous {
        shown["PreviousSpec"] = spec(previous);
    }
    if let Some(failure) = given_up(state, service) {
        shown["UpdateStatus"] = failure;
    }
    if let Some(status) = &service.rollout {
        shown["UpdateStatus"] = json!({
            "State": status.state, "StartedAt": stamp::text(status.started_at),
            "Message": status.message,
        });
        if let Some(at) = status.completed_at {
            shown["UpdateStatus"]["CompletedAt"] = json!(stamp::text(at));
        }
    }
    shown
}

/// The spec as it was posted, with the replicas that are in force.
pub(super) fn spec(spec: &orchestrator::ServiceSpec) -> Value {
    let mut raw: Value = serde_json::from_str(&spec.raw).unwrap_or(Value::Null);
    match spec.mode {
        Mode::Replicated { replicas } => {
            // What else is there stays: it is sent back with the next update.
            for path in [vec!["Mode"], vec!["Mode", "Replicated"]] {
                let place = path.iter().fold(&mut raw, |value, key| &mut value[*key]);
                if !place.is_object() {
                    *place = json!({});
                }
            }
            raw["Mode"]["Replicated"]["Replicas"] = json!(replicas);
        }
        Mode::Global if raw["Mode"]["Global"].is_object() => {}
        Mode::Global => raw["Mode"] = json!({ "Global": {} }),
        Mode::GlobalJob => raw["Mode"] = json!({ "GlobalJob": {} }),
        Mode::ReplicatedJob { max_concurrent, total } => {
            raw["Mode"] = json!({
                "ReplicatedJob": { "MaxConcurrent": max_concurrent, "TotalCompletions": total },
            });
        }
    }
    raw
}

/// A job that will not complete. Docker says nothing of it, and its client waits for ever; told
/// as a paused update, with the reason, the client ends with it.
fn given_up(state: &State, service: &Service) -> Option<Value> {
    let count = state.world.job(service)?;
    if service.job.is_taken_back() && !count.is_complete() {
        return Some(json!({
            "State": "completed", "StartedAt": stamp::text(service.job.last_execution),
            "Message": "the release was taken back: nothing is run",
        }));
    }
    let is_over = count.given_up > 0 && count.completed + count.given_up >= count.total;
    let (_, why) = service.parked().next().filter(|_| is_over)?;
    Some(json!({
        "State": "paused", "StartedAt": stamp::text(service.job.last_execution),
        "Message": format!("{} of {} completions: {why}", count.completed, count.total),
    }))
}

/// Docker leaves a zero out.
fn iteration(index: u64) -> Value {
    if index == 0 { json!({}) } else { json!({ "Index": index }) }
}

fn endpoint(spec: &Value) -> Value {
    let own = spec.get("EndpointSpec").cloned().unwrap_or(json!({}));
    let mut ports = own.get("Ports").cloned().unwrap_or(Value::Null);
    for port in ports.as_array_mut().into_iter().flatten() {
        for (key, default) in [("Protocol", "tcp"), ("PublishMode", "ingress")] {
            if port.get(key).and_then(Value::as_str).unwrap_or("").is_empty() {
                port[key] = json!(default);
            }
        }
    }
    let mode = own.get("Mode").and_then(Value::as_str).filter(|mode| !mode.is_empty());
    let mut shown = json!({ "Spec": { "Mode": mode.unwrap_or("vip") } });
    if ports.is_array() {
        shown["Spec"]["Ports"] = ports.clone();
        shown["Ports"] = ports;
    }
    shown
}

/// Defaults as `insertDefaults=true` adds them.
pub(super) fn with_defaults(mut spec: Value) -> Value {
    fn fill(value: &mut Value, key: &str, default: Value) {
        let is_absent = value.get(key).is_none_or(|v| v.is_null() || v == "");
        if is_absent {
            value[key] = default;
        }
    }
    let template = &mut spec["TaskTemplate"];
    fill(&mut template["ContainerSpec"], "StopGracePeriod", json!(10_000_000_000_u64));
    fill(template, "RestartPolicy", json!({}));
    for (key, default) in [
        ("Condition", json!("any")),
        ("Delay", json!(5_000_000_000_u64)),
        ("MaxAttempts", json!(0)),
    ] {
        fill(&mut template["RestartPolicy"], key, default);
    }
    // A job may have none.
    let is_job = ["ReplicatedJob", "GlobalJob"].iter().any(|m| !spec["Mode"][*m].is_null());
    for config in ["UpdateConfig", "RollbackConfig"] {
        if is_job {
            break;
        }
        let is_absent = spec.get(config).is_none_or(Value::is_null);
        if is_absent {
            spec[config] = json!({ "Parallelism": 1, "MaxFailureRatio": 0 });
        }
        for (key, default) in [
            ("FailureAction", json!("pause")),
            ("Monitor", json!(5_000_000_000_u64)),
            ("Order", json!("stop-first")),
        ] {
            fill(&mut spec[config], key, default);
        }
    }
    spec
}

/// `RunningTasks`, `DesiredTasks`, `CompletedTasks`.
pub(super) fn status(state: &State, service: &Service) -> Value {
    if let Some(count) = state.world.job(service) {
        return json!({
            "RunningTasks": count.running, "DesiredTasks": count.at_once,
            "CompletedTasks": count.completed,
        });
    }
    let tasks = || state.world.tasks_of(&service.id);
    let running = tasks().filter(|t| t.is_live() && t.observed == Observed::Running).count();
    let desired = match service.spec.mode {
        Mode::Replicated { replicas } => replicas as usize,
        Mode::Global => {
            let is_wanted = |task: &Task| task.desired <= Desired::Running;
            tasks()
                .filter(|task| is_wanted(task))
                .map(|task| &task.slot)
                .collect::<BTreeSet<_>>()
                .len()
        }
        Mode::ReplicatedJob { .. } | Mode::GlobalJob => 0,
    };
    json!({ "RunningTasks": running.min(desired), "DesiredTasks": desired, "CompletedTasks": 0 })
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
