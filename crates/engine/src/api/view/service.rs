//! Services in Docker's JSON shapes. A spec is shown as the text that was posted: of a list of
//! hundreds only what differs is read.

use std::collections::{BTreeMap, BTreeSet};

use dockerapi::stamp;
use orchestrator::{Desired, Mode, Observed, Service, ServiceSpec, Task};
use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::iteration;
use crate::control::State;

/// A service as `GET /services/{id}` shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Shown<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    version: Version,
    created_at: String,
    updated_at: String,
    pub(in crate::api) spec: Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_spec: Option<Spec>,
    endpoint: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_status: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    index: u64,
}

impl<'a> Shown<'a> {
    pub(in crate::api) fn of(state: &State, service: &'a Service) -> Self {
        let api = state.services.get(&service.id);
        let spec = Spec::of(&service.spec);
        let job_status = service.spec.mode.is_job().then(|| {
            json!({
                "JobIteration": iteration(service.job.iteration),
                "LastExecution": stamp::text(service.job.last_execution),
            })
        });
        Self {
            id: &service.id.0,
            version: Version { index: api.map_or(0, |api| api.index) },
            created_at: stamp::text(api.map_or(service.created_at, |api| api.created_at)),
            updated_at: stamp::text(api.map_or(service.updated_at, |api| api.updated_at)),
            endpoint: endpoint(&spec.part("EndpointSpec")),
            spec,
            previous_spec: service.previous.as_ref().map(|(_, previous)| Spec::of(previous)),
            job_status,
            update_status: rollout(service).or_else(|| given_up(state, service)),
            service_status: None,
        }
    }

    /// With how many of its tasks run.
    pub(in crate::api) fn with_status(mut self, state: &State, service: &Service) -> Self {
        self.service_status = Some(status(state, service));
        self
    }
}

/// The spec as it was posted, with the replicas that are in force: its main parts, unread.
#[derive(Default, Serialize)]
pub(in crate::api) struct Spec(BTreeMap<String, Box<RawValue>>);

impl Spec {
    pub(in crate::api) fn of(spec: &ServiceSpec) -> Self {
        let mut parts: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(&spec.raw).unwrap_or_default();
        let posted = parts.get("Mode").and_then(|mode| serde_json::from_str(mode.get()).ok());
        if let Ok(mode) = to_raw_value(&mode(spec.mode, posted.unwrap_or_default())) {
            parts.insert("Mode".to_owned(), mode);
        }
        Self(parts)
    }

    /// One of its main parts; null when it is not there.
    pub(in crate::api) fn part(&self, name: &str) -> Value {
        let part = self.0.get(name);
        part.and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or_default()
    }

    pub(in crate::api) fn read(&self) -> Value {
        let part = |name: &String| (name.clone(), self.part(name));
        Value::Object(self.0.keys().map(part).collect())
    }
}

fn mode(mode: Mode, mut posted: Value) -> Value {
    match mode {
        Mode::Replicated { replicas } => {
            // What else is there stays: it is sent back with the next update.
            if !posted.is_object() {
                posted = json!({});
            }
            let replicated = &mut posted["Replicated"];
            if !replicated.is_object() {
                *replicated = json!({});
            }
            replicated["Replicas"] = json!(replicas);
            posted
        }
        Mode::Global if posted["Global"].is_object() => posted,
        Mode::Global => json!({ "Global": {} }),
        Mode::GlobalJob => json!({ "GlobalJob": {} }),
        Mode::ReplicatedJob { max_concurrent, total } => json!({
            "ReplicatedJob": { "MaxConcurrent": max_concurrent, "TotalCompletions": total },
        }),
    }
}

fn rollout(service: &Service) -> Option<Value> {
    let status = service.rollout.as_ref()?;
    let mut shown = json!({
        "State": status.state, "StartedAt": stamp::text(status.started_at),
        "Message": status.message,
    });
    if let Some(at) = status.completed_at {
        shown["CompletedAt"] = json!(stamp::text(at));
    }
    Some(shown)
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

/// `EndpointSpec` with Docker's defaults, as it shows it.
fn endpoint(own: &Value) -> Value {
    let mut ports = own.get("Ports").cloned().unwrap_or_default();
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
pub(in crate::api) fn with_defaults(mut spec: Value) -> Value {
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
fn status(state: &State, service: &Service) -> Value {
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
