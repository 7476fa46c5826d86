//! Tasks as containers: what `docker ps`, `inspect`, `kill`, `logs` and `stats` use.

use std::time::Duration;

use dockerapi::{ApiError, filter::Filters, stamp};
use http::StatusCode;
use orchestrator::{TaskId, Time};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call, container::Container, empty, json as respond, limits, stream,
    system::memory_bytes,
};
use crate::{
    control::container_id,
    driver::{
        Command, Usage,
        layer::Layer,
        mount,
        plan::{self, ImageConfig, signal_number},
    },
    supervisor::{Job, read_json},
};

const KEYS: [&str; 11] = [
    "id", "name", "label", "status", "health", "ancestor", "is-task", "before", "since", "network",
    "volume",
];
const KILL: i32 = 9;
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Between two looks at what a container uses.
const SAMPLE: Duration = Duration::from_secs(1);

impl Api {
    pub(super) async fn containers(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &KEYS)?;
        let limit = call.get("limit").and_then(|limit| limit.parse::<usize>().ok());
        let limit = limit.filter(|limit| *limit > 0);
        // A filter by status, and a limit, look at those that ended as well.
        let is_all = call.is_set("all") || limit.is_some() || filters.get("status").is_some();
        let found = self.control.read(move |state| {
            let started = state.world.tasks().filter(|task| task.is_started);
            let found = started.filter(|task| is_all || !task.observed.is_end());
            found.map(|task| Container::of(state, task)).collect::<Vec<_>>()
        });
        let mut found = found.await?;
        found.sort_by_key(|container| std::cmp::Reverse(container.task.created_at));
        let now = stamp::now();
        let shown = found
            .iter()
            .filter(|container| {
                filters.any("health", |wanted| container.health() == wanted)
                    && filters.any("status", |wanted| container.state() == wanted)
                    && filters.any("is-task", |wanted| matches!(wanted, "true" | "1"))
                    && filters.any("id", |id| container_id(&container.task.id).starts_with(id))
                    && filters.any("name", |name| {
                        container.name.contains(name.trim_start_matches(['/', '^']))
                    })
                    && filters.any("ancestor", |image| container.spec().image == image)
            })
            .map(|container| container.summary(&self.image_id(container), now))
            .filter(|shown| filters.labels(&shown["Labels"]));
        Ok(respond(&Value::Array(shown.take(limit.unwrap_or(usize::MAX)).collect())))
    }

    fn image_id(&self, container: &Container) -> String {
        self.images.get(&container.spec().image).map(|image| image.id).unwrap_or_default()
    }

    async fn found(&self, key: &str) -> Result<Container, ApiError> {
        let key = key.to_owned();
        self.control.find(move |state| Container::find(state, &key)).await
    }

    pub(super) async fn container(&self, key: &str) -> Answer {
        let container = self.found(key).await?;
        let pid = self.control.driver.pid(&container.task.id);
        let probes = self.control.driver.probed(&container.task.id);
        let mut shown = container.inspected(&self.image_id(&container), pid, &probes);
        limits::show(&self.tasks.join(&container.task.id.0), &mut shown);
        Ok(respond(&shown))
    }

    pub(super) async fn container_logs(&self, key: &str, call: &Call) -> Answer {
        let id = self.found(key).await?.task.id;
        self.task_logs(&id.0, call, StatusCode::BAD_REQUEST).await
    }

    pub(super) async fn kill(&self, key: &str, call: &Call) -> Answer {
        let text = call.get("signal").filter(|text| !text.is_empty()).unwrap_or("SIGKILL");
        let number = signal_number(text)
            .ok_or_else(|| ApiError::bad_parameter(format!("invalid signal: {text}")))?;
        let container = self.found(key).await?;
        if container.task.observed.is_end() {
            return Err(conflict(format!(
                "Cannot kill container: {key}: container {} is not running",
                container_id(&container.task.id)
            )));
        }
        self.control.driver.send(Command::Signal(container.task.id, number));
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// A running container's task, files and job.
    pub(super) async fn running(&self, key: &str) -> Result<(TaskId, Layer, Job), ApiError> {
        let container = self.found(key).await?;
        let id = container_id(&container.task.id);
        let job = read_json::<Job>(&self.tasks.join(&container.task.id.0).join("task.json"));
        match job.filter(|_| !container.task.observed.is_end()) {
            Some(job) => Ok((container.task.id.clone(), self.files(&container)?, job)),
            None => Err(conflict(format!("container {id} is not running"))),
        }
    }

    /// The files that a container has, running or not.
    fn files(&self, container: &Container) -> Result<Layer, ApiError> {
        let spec = container.spec();
        let image = self.images.get(&spec.image)?;
        let root = self.images.root(&image)?;
        let config = ImageConfig(&image.config);
        let folder = self.tasks.join(&container.task.id.0);
        let job = read_json::<Job>(&folder.join("task.json"));
        let mounts = match job.map(|job| job.mounts).filter(|mounts| !mounts.is_empty()) {
            Some(mounts) => mounts,
            None => mount::of(&spec, &folder).map_err(ApiError::bad_parameter)?,
        };
        Ok(Layer::new(&folder, &root, plan::working_folder(&config, &spec), mounts))
    }

    pub(super) async fn layer(&self, key: &str) -> Result<Layer, ApiError> {
        self.files(&self.found(key).await?)
    }

    /// The stop signal, and after the time given (or the service's grace period) SIGKILL. The
    /// service then does what its restart policy says.
    pub(super) async fn stop(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        if container.task.observed.is_end() {
            return Ok(empty(StatusCode::NOT_MODIFIED));
        }
        let spec = container.spec();
        let image = self.images.get(&spec.image)?;
        let named = call.get("signal").and_then(signal_number);
        let signal = named.unwrap_or_else(|| plan::stop_signal(&ImageConfig(&image.config), &spec));
        let patience = match call.get("t").and_then(|seconds| seconds.parse::<i64>().ok()) {
            Some(seconds) => u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs),
            None => plan::grace(&spec),
        };
        let task = container.task.id;
        self.control.driver.send(Command::Signal(task.clone(), signal));
        if tokio::time::timeout(patience, self.end_of(&task)).await.is_err() {
            self.control.driver.send(Command::Signal(task.clone(), KILL));
            self.end_of(&task).await?;
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn wait(&self, key: &str) -> Answer {
        let container = self.found(key).await?;
        let code = self.end_of(&container.task.id).await?;
        Ok(respond(&json!({ "StatusCode": code })))
    }

    /// Only by force, and only a running one: those that ended are the service's history.
    pub(super) async fn remove_container(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let id = container_id(&container.task.id);
        if container.task.observed.is_end() {
            return Err(conflict(format!(
                "container {id} has ended and is part of its service's history \
                 (`docker service ps`); it goes when the history is trimmed or the service removed"
            )));
        }
        if !call.is_set("force") {
            return Err(conflict(format!(
                "cannot remove container {:?}: container is running: stop the container before \
                 removing or force remove",
                format!("/{}", container.name)
            )));
        }
        self.control.driver.send(Command::Signal(container.task.id.clone(), KILL));
        self.end_of(&container.task.id).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Waits for a task's end; its exit code. One that is gone ended.
    async fn end_of(&self, task: &TaskId) -> Result<i32, ApiError> {
        let mut saved = self.control.saved.clone();
        loop {
            let id = task.clone();
            let code = self.control.read(move |state| match state.world.task(&id) {
                None => Some(137),
                Some(task) if task.observed.is_end() => Some(task.exit_code.unwrap_or(0)),
                Some(_) => None,
            });
            if let Some(code) = code.await? {
                return Ok(code);
            }
            let ended = || ApiError::unavailable("the engine is ending; try again");
            saved.changed().await.map_err(|_| ended())?;
        }
    }

    /// One object (`stream=0`), or one each second for as long as the task runs.
    pub(super) async fn container_stats(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let is_stream = call.get("stream").is_none() || call.is_set("stream");
        let mut before = self.sample(&container.task.id).await;
        if !is_stream {
            if !call.is_set("one-shot") {
                tokio::time::sleep(SAMPLE).await;
            }
            let now = self.sample(&container.task.id).await;
            return Ok(respond(&stats(&container, &before, &now)));
        }
        let (lines, response) = stream::open("application/json");
        let api = self.clone();
        tokio::spawn(async move {
            let mut ends = api.ends.clone();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SAMPLE) => {}
                    _ = ends.wait_for(|ends| *ends) => return,
                }
                let now = api.sample(&container.task.id).await;
                let line = format!("{}\n", stats(&container, &before, &now));
                if lines.send(line.into()).await.is_err() || now.usage.processes == 0 {
                    return;
                }
                before = now;
            }
        });
        Ok(response)
    }

    async fn sample(&self, task: &TaskId) -> Sample {
        let (driver, task) = (self.control.driver.clone(), task.clone());
        let look = move || Sample {
            at: stamp::now(),
            usage: driver.usage(&task).unwrap_or_default(),
            system_nanos: system_nanos(),
        };
        let blank = Sample { at: Time(0), usage: Usage::default(), system_nanos: 0 };
        tokio::task::spawn_blocking(look).await.unwrap_or(blank)
    }
}

fn conflict(message: String) -> ApiError {
    ApiError { status: StatusCode::CONFLICT, message }
}

/// What a container used up to a moment.
#[derive(Clone, Debug)]
struct Sample {
    at: Time,
    usage: Usage,
    system_nanos: u64,
}

/// Docker's stats object, with the parts that are measured here.
fn stats(container: &Container, before: &Sample, now: &Sample) -> Value {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = |sample: &Sample| {
        let total = u64::try_from(sample.usage.cpu.as_nanos()).unwrap_or(u64::MAX);
        json!({
            "cpu_usage": { "total_usage": total }, "system_cpu_usage": sample.system_nanos,
            "online_cpus": cpus,
            "throttling_data": limits::throttling(&sample.usage.throttling),
        })
    };
    let machine = memory_bytes();
    let limit = now.usage.memory_limit_bytes.map_or(machine, |limit| limit.min(machine));
    let cache = now.usage.cache_bytes;
    json!({
        "id": container_id(&container.task.id), "name": format!("/{}", container.name),
        "read": stamp::text(now.at), "preread": stamp::text(before.at),
        "cpu_stats": cpu(now), "precpu_stats": cpu(before),
        "memory_stats": { "usage": now.usage.memory_bytes, "limit": limit,
            "stats": { "total_inactive_file": cache, "inactive_file": cache } },
        "pids_stats": { "current": now.usage.pids, "limit": now.usage.pids_limit },
        "num_procs": 0, "networks": {}, "storage_stats": {},
        "blkio_stats": { "io_service_bytes_recursive": [] },
    })
}

/// What all processors did since the machine started, idle included.
fn system_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or("").split_whitespace().skip(1).take(8);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks.saturating_mul(1_000_000_000) / rustix::param::clock_ticks_per_second().max(1)
}
