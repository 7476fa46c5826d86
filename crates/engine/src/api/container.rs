//! One container in Docker's shapes: a service's task that was started, or one outside any service.

mod alone;
mod task;

use std::{sync::Arc, time::Duration};

use dockerapi::{ApiError, spec, stamp};
use orchestrator::{Observed, Task, TaskId, Time};
use serde_json::{Value, json};

use crate::{
    container,
    control::{State, container_id, task_name},
    driver::Probed,
};

/// A container with what its views need.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: TaskId,
    pub(super) name: String,
    definition: Arc<str>,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Task { task: Box<Task>, service: String },
    Alone(Box<container::Container>),
}

/// What only the driver and the image store know.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) image_id: String,
    pub(super) pid: Option<u32>,
    pub(super) probes: Vec<Probed>,
    /// Where named volumes and the task's own files are.
    pub(super) mounts: Vec<Value>,
}

impl Container {
    pub(super) fn of(state: &State, task: &Task) -> Self {
        let service = state.world.service(&task.service).map(|s| s.spec.name.clone());
        let kind =
            Kind::Task { task: Box::new(task.clone()), service: service.unwrap_or_default() };
        let definition = Arc::clone(&task.spec.definition);
        Self { id: task.id.clone(), name: task_name(&state.world, task), definition, kind }
    }

    pub(super) fn alone(own: &container::Container) -> Self {
        let definition = Arc::clone(&own.definition);
        let kind = Kind::Alone(Box::new(own.clone()));
        Self { id: own.id.clone(), name: own.name.clone(), definition, kind }
    }

    /// Every container there is.
    pub(super) fn all(state: &State) -> Vec<Self> {
        let started = state.world.tasks().filter(|task| task.is_started);
        let tasks = started.map(|task| Self::of(state, task));
        tasks.chain(state.containers.values().map(Self::alone)).collect()
    }

    /// By id, name, or unique beginning of the id.
    pub(super) fn find(state: &State, key: &str) -> Result<Self, ApiError> {
        let key = key.trim_start_matches('/');
        let is_id = |id: &TaskId| !key.is_empty() && container_id(id).starts_with(key);
        if let Some(own) = state.containers.values().find(|own| own.name == key) {
            return Ok(Self::alone(own));
        }
        let mut alone = state.containers.values().filter(|own| is_id(&own.id));
        let started = state.world.tasks().filter(|task| task.is_started);
        let mut tasks = started
            .filter(|task| is_id(&task.id) || task_name(&state.world, task) == key)
            .map(|task| Self::of(state, task));
        let mut found = alone.by_ref().map(Self::alone).chain(tasks.by_ref());
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(ApiError::bad_parameter(format!(
                "Multiple IDs found with provided prefix: {key}"
            ))),
            _ => Err(ApiError::not_found(format!("No such container: {key}"))),
        }
    }

    pub(super) fn spec(&self) -> spec::ContainerSpec {
        let definition: spec::Definition =
            serde_json::from_str(&self.definition).unwrap_or_default();
        definition.task_template.container_spec.unwrap_or_default()
    }

    /// As it was asked for.
    pub(super) fn image(&self) -> String {
        match &self.kind {
            Kind::Task { .. } => self.spec().image,
            Kind::Alone(own) => own.asked["Image"].as_str().unwrap_or("").to_owned(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        match &self.kind {
            Kind::Task { task, .. } => !task.observed.is_end(),
            Kind::Alone(own) => own.is_up(),
        }
    }

    /// It runs, or waits for its restart: Docker calls both running.
    pub(super) fn is_running_or_waits(&self) -> bool {
        match &self.kind {
            Kind::Task { .. } => self.is_running(),
            Kind::Alone(own) => own.holds_ports(),
        }
    }

    /// A terminal's output is one stream, without frames.
    pub(super) fn has_terminal(&self) -> bool {
        match &self.kind {
            Kind::Task { .. } => false,
            Kind::Alone(own) => own.asked["Tty"] == true,
        }
    }

    pub(super) fn created_at(&self) -> Time {
        match &self.kind {
            Kind::Task { task, .. } => task.created_at,
            Kind::Alone(own) => own.created_at,
        }
    }

    pub(super) fn state(&self) -> &'static str {
        match &self.kind {
            Kind::Task { task, .. } if task.observed.is_end() => "exited",
            Kind::Task { .. } => "running",
            Kind::Alone(own) => alone::state(own),
        }
    }

    pub(super) fn exit_code(&self) -> i32 {
        match &self.kind {
            Kind::Task { task, .. } => task.exit_code.unwrap_or(0),
            Kind::Alone(own) => own.exit_code,
        }
    }

    pub(super) fn health(&self) -> &'static str {
        match &self.kind {
            Kind::Task { task, .. } => {
                match (task.spec.has_health_check, task.is_unhealthy, task.observed) {
                    (false, ..) => "none",
                    (true, true, _) => "unhealthy",
                    (true, false, Observed::Running) => "healthy",
                    (true, false, _) => "starting",
                }
            }
            Kind::Alone(own) => alone::health(own),
        }
    }

    pub(super) fn labels(&self) -> Value {
        match &self.kind {
            Kind::Task { task, service } => task::labels(self, task, service),
            Kind::Alone(own) => own.asked["Labels"].clone(),
        }
    }

    /// Names of the networks it is in.
    pub(super) fn networks(&self) -> Vec<String> {
        match &self.kind {
            Kind::Task { .. } => Vec::new(),
            Kind::Alone(own) => alone::networks(own),
        }
    }

    /// `Up 5 minutes (healthy)`.
    fn status(&self, now: Time) -> String {
        let (at, is_new) = match &self.kind {
            Kind::Task { task, .. } => (task.observed_at, false),
            Kind::Alone(own) if own.is_up() => (own.started_at.unwrap_or(now), false),
            Kind::Alone(own) => {
                (own.finished_at.unwrap_or(own.created_at), own.finished_at.is_none())
            }
        };
        let since = human(now.since(at));
        let code = self.exit_code();
        match (self.state(), self.health()) {
            ("created", _) => "Created".to_owned(),
            ("restarting", _) => format!("Restarting ({code}) {since} ago"),
            ("exited", _) if is_new => format!("Exited ({code})"),
            ("exited", _) => format!("Exited ({code}) {since} ago"),
            (_, "none") => format!("Up {since}"),
            (_, "starting") => format!("Up {since} (health: starting)"),
            (_, health) => format!("Up {since} ({health})"),
        }
    }

    /// An element of `GET /containers/json`.
    pub(super) fn summary(&self, seen: &Seen, now: Time) -> Value {
        let (spec, created) = (self.spec(), self.created_at().0 / 1_000_000_000);
        let (ports, mode) = match &self.kind {
            Kind::Task { .. } => (json!([]), "host".to_owned()),
            Kind::Alone(own) => (alone::ports_list(own), alone::mode(own)),
        };
        let networks = match &self.kind {
            Kind::Task { .. } => json!({}),
            Kind::Alone(own) => alone::endpoints(own),
        };
        json!({
            "Id": container_id(&self.id), "Names": [format!("/{}", self.name)],
            "Image": self.image(), "ImageID": seen.image_id,
            "Command": spec.command.iter().chain(&spec.args).cloned().collect::<Vec<_>>().join(" "),
            "Created": created, "Ports": ports, "Labels": self.labels(), "State": self.state(),
            "Status": self.status(now), "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": { "Networks": networks }, "Mounts": seen.mounts,
        })
    }

    /// `GET /containers/{id}/json`.
    pub(super) fn inspected(&self, seen: &Seen) -> Value {
        let mut shown = match &self.kind {
            Kind::Task { task, .. } => task::inspected(self, task, seen),
            Kind::Alone(own) => alone::inspected(own, seen),
        };
        if self.health() != "none" {
            shown["State"]["Health"] = self.probes(&seen.probes);
        }
        shown
    }

    fn probes(&self, probes: &[Probed]) -> Value {
        let log: Vec<Value> = probes
            .iter()
            .map(|probe| {
                json!({
                    "Start": stamp::text(probe.start), "End": stamp::text(probe.end),
                    "ExitCode": probe.exit_code, "Output": probe.output,
                })
            })
            .collect();
        let streak = probes.iter().rev().take_while(|probe| probe.exit_code != 0).count();
        json!({ "Status": self.health(), "FailingStreak": streak, "Log": log })
    }
}

/// A time, or Docker's for "never".
fn moment(at: Option<Time>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), stamp::text)
}

/// `5 minutes`, as Docker rounds it.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..=59 => format!("{seconds} seconds"),
        60..=119 => "About a minute".to_owned(),
        120..=3599 => format!("{} minutes", seconds / 60),
        3600..=7199 => "About an hour".to_owned(),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
