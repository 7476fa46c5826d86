//! One task as a container, in Docker's shapes.

use std::time::Duration;

use dockerapi::{ApiError, spec, stamp};
use orchestrator::{Observed, Task, Time};
use serde_json::{Value, json};

use crate::{
    control::{State, container_id, task_name},
    driver::Probed,
};

/// A started task with what its views need.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) task: Task,
    pub(super) name: String,
    service: String,
}

impl Container {
    pub(super) fn of(state: &State, task: &Task) -> Self {
        let service = state.world.service(&task.service).map(|s| s.spec.name.clone());
        let name = task_name(&state.world, task);
        Self { task: task.clone(), name, service: service.unwrap_or_default() }
    }

    pub(super) fn find(state: &State, key: &str) -> Result<Self, ApiError> {
        let key = key.trim_start_matches('/');
        let started = state.world.tasks().filter(|task| task.is_started);
        let mut found = started.filter(|task| {
            !key.is_empty()
                && (container_id(&task.id).starts_with(key) || task_name(&state.world, task) == key)
        });
        match (found.next(), found.next()) {
            (Some(task), None) => Ok(Self::of(state, task)),
            (Some(_), Some(_)) => Err(ApiError::bad_parameter(format!(
                "Multiple IDs found with provided prefix: {key}"
            ))),
            _ => Err(ApiError::not_found(format!("No such container: {key}"))),
        }
    }

    pub(super) fn spec(&self) -> spec::ContainerSpec {
        let definition: spec::Definition =
            serde_json::from_str(&self.task.spec.definition).unwrap_or_default();
        definition.task_template.container_spec.unwrap_or_default()
    }

    pub(super) fn state(&self) -> &'static str {
        if self.task.observed.is_end() { "exited" } else { "running" }
    }

    pub(super) fn health(&self) -> &'static str {
        let task = &self.task;
        match (task.spec.has_health_check, task.is_unhealthy, task.observed) {
            (false, ..) => "none",
            (true, true, _) => "unhealthy",
            (true, false, Observed::Running) => "healthy",
            (true, false, _) => "starting",
        }
    }

    fn labels(&self, spec: &spec::ContainerSpec) -> Value {
        let mut labels = json!(spec.labels);
        for (key, value) in [
            ("com.docker.swarm.task", ""),
            ("com.docker.swarm.task.id", &self.task.id.0),
            ("com.docker.swarm.task.name", &self.name),
            ("com.docker.swarm.node.id", &self.task.node),
            ("com.docker.swarm.service.id", &self.task.service.0),
            ("com.docker.swarm.service.name", &self.service),
        ] {
            labels[key] = json!(value);
        }
        labels
    }

    /// `Up 5 minutes (healthy)`.
    fn status(&self, now: Time) -> String {
        let since = human(now.since(self.task.observed_at));
        if self.task.observed.is_end() {
            return format!("Exited ({}) {since} ago", self.task.exit_code.unwrap_or(0));
        }
        let health = match self.health() {
            "none" => String::new(),
            "starting" => " (health: starting)".to_owned(),
            other => format!(" ({other})"),
        };
        format!("Up {since}{health}")
    }

    /// An element of `GET /containers/json`.
    pub(super) fn summary(&self, image_id: &str, now: Time) -> Value {
        let spec = self.spec();
        json!({
            "Id": container_id(&self.task.id), "Names": [format!("/{}", self.name)],
            "Image": spec.image, "ImageID": image_id,
            "Command": spec.command.iter().chain(&spec.args).cloned().collect::<Vec<_>>().join(" "),
            "Created": self.task.created_at.0 / 1_000_000_000, "Ports": [],
            "Labels": self.labels(&spec), "State": self.state(), "Status": self.status(now),
            "HostConfig": { "NetworkMode": "host" }, "NetworkSettings": { "Networks": {} },
            "Mounts": [],
        })
    }

    /// `GET /containers/{id}/json`.
    pub(super) fn inspected(&self, image_id: &str, pid: Option<u32>, probes: &[Probed]) -> Value {
        let (spec, task) = (self.spec(), &self.task);
        let never = || "0001-01-01T00:00:00Z".to_owned();
        let is_running = !task.observed.is_end();
        let started = task.running_at.map_or_else(never, stamp::text);
        let finished = if is_running { never() } else { stamp::text(task.observed_at) };
        let argv: Vec<&String> = spec.command.iter().chain(&spec.args).collect();
        let mut state = json!({
            "Status": self.state(), "Running": is_running, "Paused": false, "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": pid.unwrap_or(0),
            "ExitCode": task.exit_code.unwrap_or(0), "Error": task.error.as_deref().unwrap_or(""),
            "StartedAt": started, "FinishedAt": finished,
        });
        if task.spec.has_health_check {
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
            state["Health"] =
                json!({ "Status": self.health(), "FailingStreak": streak, "Log": log });
        }
        json!({
            "Id": container_id(&task.id), "Created": stamp::text(task.created_at),
            "Path": argv.first(), "Args": argv.get(1..).unwrap_or_default(),
            "State": state, "Image": image_id, "Name": format!("/{}", self.name),
            "RestartCount": 0, "Driver": "process", "Platform": "linux", "Mounts": [],
            "HostConfig": { "NetworkMode": "host" },
            "Config": {
                "Hostname": spec.hostname, "Tty": false, "OpenStdin": false, "Env": spec.env,
                "Entrypoint": spec.command, "Cmd": spec.args, "Image": spec.image,
                "Labels": self.labels(&spec), "WorkingDir": spec.dir,
            },
            "NetworkSettings": { "Ports": {}, "Networks": {} },
        })
    }
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
