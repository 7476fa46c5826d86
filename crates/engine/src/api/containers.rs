//! Tasks as containers: what `docker ps`, `inspect`, `kill`, `logs` and `stats` use.

use std::time::Duration;

use dockerapi::{ApiError, filter::Filters, stamp};
use http::StatusCode;
use orchestrator::{TaskId, Time};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call,
    container::{Container, Kind, Seen},
    json as respond, limits, stream,
};
use crate::{
    control::{container_id, memory_bytes},
    driver::{
        Usage,
        layer::Layer,
        mount,
        plan::{self, ImageConfig},
    },
    image,
    supervisor::{Job, read_json},
};

const KEYS: [&str; 15] = [
    "id",
    "name",
    "label",
    "status",
    "health",
    "ancestor",
    "is-task",
    "before",
    "since",
    "network",
    "volume",
    "exited",
    "publish",
    "expose",
    "isolation",
];
/// Between two looks at what a container uses.
const SAMPLE: Duration = Duration::from_secs(1);

impl Api {
    pub(super) async fn containers(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &KEYS)?;
        let limit = call.get("limit").and_then(|limit| limit.parse::<usize>().ok());
        let limit = limit.filter(|limit| *limit > 0);
        // A filter by status, and a limit, look at those that ended as well.
        let is_all = call.is_set("all") || limit.is_some() || filters.get("status").is_some();
        let found = self.control.read(Container::all).await?;
        let mut found: Vec<Container> = found
            .into_iter()
            .filter(|container| is_all || container.is_running_or_waits())
            .collect();
        found.sort_by_key(|container| std::cmp::Reverse(container.created_at()));
        let now = stamp::now();
        let shown = found
            .iter()
            .filter(|container| fits(container, &filters))
            .map(|container| container.summary(&self.seen(container), now))
            .filter(|shown| {
                filters.labels(&shown["Labels"])
                    && filters.any("volume", |wanted| {
                        let mounts = shown["Mounts"].as_array().into_iter().flatten();
                        mounts
                            .into_iter()
                            .any(|m| m["Name"] == wanted || m["Destination"] == wanted)
                    })
            });
        Ok(respond(&Value::Array(shown.take(limit.unwrap_or(usize::MAX)).collect())))
    }

    /// What only the driver and the stores know of it.
    pub(super) fn seen(&self, container: &Container) -> Seen {
        let spec = container.spec();
        let folder = self.tasks.join(&container.id.0);
        let real = mount::of(&spec, &folder).unwrap_or_default();
        let mounts = spec.mounts.iter().zip(&real).map(|(asked, mounted)| {
            let is_read_only = asked.extra.get("ReadOnly").is_some_and(|only| only == true);
            let kind = if asked.kind.is_empty() { "volume" } else { &asked.kind };
            json!({
                "Type": kind, "Name": if kind == "volume" { &asked.source } else { "" },
                "Source": mounted.source, "Destination": mounted.target, "Driver": "local",
                "Mode": if is_read_only { "ro" } else { "rw" }, "RW": !is_read_only,
                "Propagation": "",
            })
        });
        Seen {
            image_id: self.images.get(&spec.image).map(|image| image.id).unwrap_or_default(),
            pid: self.control.driver.pid(&container.id),
            probes: self.control.driver.probed(&container.id),
            mounts: mounts.collect(),
        }
    }

    pub(super) async fn found(&self, key: &str) -> Result<Container, ApiError> {
        let key = key.to_owned();
        self.control.find(move |state| Container::find(state, &key)).await
    }

    pub(super) async fn container(&self, key: &str) -> Answer {
        let container = self.found(key).await?;
        let mut shown = container.inspected(&self.seen(&container));
        limits::show(&self.tasks.join(&container.id.0), &mut shown);
        Ok(respond(&shown))
    }

    pub(super) async fn container_logs(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        match &container.kind {
            Kind::Task { .. } => {
                self.task_logs(&container.id.0, call, StatusCode::BAD_REQUEST).await
            }
            Kind::Alone(_) => self.alone_logs(&container, call),
        }
    }

    /// A running container's task, files and job.
    pub(super) async fn running(&self, key: &str) -> Result<(TaskId, Layer, Job), ApiError> {
        let container = self.found(key).await?;
        let id = container_id(&container.id);
        let job = read_json::<Job>(&self.tasks.join(&container.id.0).join("task.json"));
        match job.filter(|_| container.is_running()) {
            Some(job) => Ok((container.id.clone(), self.files(&container)?, job)),
            None => Err(conflict(format!("container {id} is not running"))),
        }
    }

    /// The files that a container has, running or not.
    pub(super) fn files(&self, container: &Container) -> Result<Layer, ApiError> {
        let spec = container.spec();
        let image = self.images.get(&spec.image)?;
        let root = self.images.root(&image)?;
        let config = ImageConfig(&image.config);
        let folder = self.tasks.join(&container.id.0);
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

    /// One object (`stream=0`), or one each second for as long as the task runs.
    pub(super) async fn container_stats(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let is_stream = call.get("stream").is_none() || call.is_set("stream");
        let mut before = self.sample(&container.id).await;
        if !is_stream {
            if !call.is_set("one-shot") {
                tokio::time::sleep(SAMPLE).await;
            }
            let now = self.sample(&container.id).await;
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
                let now = api.sample(&container.id).await;
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

/// What `docker ps --filter` asks for, labels and volumes apart.
fn fits(container: &Container, filters: &Filters) -> bool {
    let is_task = matches!(container.kind, Kind::Task { .. });
    filters.any("health", |wanted| container.health() == wanted)
        && filters.any("status", |wanted| container.state() == wanted)
        && filters.any("is-task", |wanted| matches!(wanted, "true" | "1") == is_task)
        && filters.any("id", |id| container_id(&container.id).starts_with(id))
        && filters.any("name", |name| is_named(&container.name, name))
        && filters.any("ancestor", |image| {
            image::normalised(&container.image()) == image::normalised(image)
        })
        && filters.any("network", |name| container.networks().iter().any(|own| own == name))
        && filters.any("exited", |code| {
            container.state() == "exited" && container.exit_code().to_string() == code
        })
}

/// The part of Docker's name patterns that people use: `^` and `$` at its ends.
fn is_named(name: &str, pattern: &str) -> bool {
    let (starts, ends) = (pattern.starts_with('^'), pattern.ends_with('$'));
    let wanted = pattern.trim_start_matches('^').trim_start_matches('/').trim_end_matches('$');
    match (starts || pattern.starts_with('/'), ends) {
        (true, true) => name == wanted,
        (true, false) => name.starts_with(wanted),
        (false, true) => name.ends_with(wanted),
        (false, false) => name.contains(wanted),
    }
}

pub(super) fn conflict(message: String) -> ApiError {
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
        "id": container_id(&container.id), "name": format!("/{}", container.name),
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
