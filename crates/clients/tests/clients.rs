//! Other people's clients against one embedded engine: what they send is understood, and what they
//! are answered they can read. Counts go to `target/clients.json`.

#[path = "bollard/alone.rs"]
mod alone;
#[path = "bollard/beside.rs"]
mod beside;
#[path = "bollard/object.rs"]
mod object;
#[path = "python/sdk.rs"]
mod python;
#[path = "bollard/service.rs"]
mod service;
#[path = "bollard/system.rs"]
mod system;
#[path = "bollard/transfer.rs"]
mod transfer;

use std::{
    future::Future,
    ops::Deref,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bollard::{API_DEFAULT_VERSION, Docker, models::TaskState};
use conformance::{
    engine::{Engine, Kind},
    image,
    registry::Registry,
    target,
};
use serde_json::{Value, json};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
/// A test's name and what it does.
type Case = (&'static str, for<'a> fn(&'a Stage) -> Running<'a>);

/// An engine as bollard sees it, and where a registry is.
struct Stage {
    docker: Docker,
    registry: String,
}

impl Deref for Stage {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        &self.docker
    }
}

/// How one test went: its name, and why it failed.
struct Outcome {
    name: String,
    reason: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `cargo test` may name one of the tests.
fn wanted() -> Option<String> {
    std::env::args().skip(1).find(|argument| !argument.starts_with('-'))
}

fn run() -> Result<bool> {
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(true);
    }
    let (keel, app) = binaries()?;
    let engine = Engine::start(Kind::Embedded, &keel)?;
    engine.load(&image::archive(&app)?)?;
    let registry = Registry::start()?;
    let wanted = wanted();
    let rust = with_bollard(&engine.socket, &registry.host, wanted.as_deref())?;
    let mut all = vec![("bollard", rust)];
    match python::missing() {
        None => {
            all.push(("python", python::run(&engine.socket, &registry.host, wanted.as_deref())?))
        }
        Some(missing) if std::env::var("CI").is_ok_and(|ci| ci == "true") => bail!("{missing}"),
        Some(missing) => println!("python: not run, {missing}"),
    }
    let mut report = json!({});
    let mut is_good = true;
    for (client, outcomes) in all {
        let failed = outcomes.iter().filter(|outcome| outcome.reason.is_some()).count();
        is_good &= failed == 0;
        println!("{client}: {} passed, {failed} failed", outcomes.len() - failed);
        let tests = outcomes.iter().map(|one| json!({ "name": one.name, "reason": one.reason }));
        report[client] = json!({
            "passed": outcomes.len() - failed, "failed": failed, "tests": tests.collect::<Vec<_>>(),
        });
    }
    if wanted.is_none() {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(target().join("clients.json"), text)?;
    }
    Ok(is_good)
}

/// The debug `keel`, and the exam's service.
fn binaries() -> Result<(PathBuf, PathBuf)> {
    let status = conformance::cargo()
        .args(["build", "--quiet", "--package", "cli", "--package", "conformance", "--bins"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("a root")?)
        .status()?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok((target().join("debug/keel"), target().join("debug/semapp")))
}

fn with_bollard(socket: &Path, registry: &str, wanted: Option<&str>) -> Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = socket.display().to_string();
        let docker = Docker::connect_with_unix(&socket, 30, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        let stage = Stage { docker, registry: registry.to_owned() };
        let mut outcomes = Vec::new();
        let all = [system::ALL, service::ALL, object::ALL, beside::ALL, alone::ALL, transfer::ALL];
        for (name, case) in all.concat() {
            if wanted.is_some_and(|wanted| !name.contains(wanted)) {
                continue;
            }
            let started = Instant::now();
            let result = tokio::time::timeout(PATIENCE * 2, case(&stage)).await;
            let result = result.unwrap_or_else(|_| bail!("it did not end"));
            let reason = result.err().map(|error| format!("{error:#}"));
            let took = started.elapsed().as_secs_f64();
            println!("bollard  {name:<52} {} {took:.1} s", word(reason.is_none()));
            reason.iter().for_each(|reason| println!("         {reason}"));
            outcomes.push(Outcome { name: name.to_owned(), reason });
        }
        Ok(outcomes)
    })
}

fn word(has_passed: bool) -> &'static str {
    if has_passed { "passed" } else { "FAILED" }
}

/// Asks again and again until there is something.
async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let started = Instant::now();
    let mut often = tokio::time::interval(Duration::from_millis(60));
    loop {
        often.tick().await;
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        ensure!(started.elapsed() < PATIENCE, "not seen within {} s: {what}", PATIENCE.as_secs());
    }
}

/// A service with so many replicas that run; its environment comes from `env`.
async fn serve(docker: &Docker, name: &str, replicas: usize, env: &[&str]) -> Result<Vec<String>> {
    let spec = json!({
        "Name": name, "Labels": { "of": name },
        "TaskTemplate": {
            "ContainerSpec": { "Image": "sem:1", "Env": env, "StopGracePeriod": 3_000_000_000_u64 },
            "RestartPolicy": { "Condition": "any", "Delay": 0 },
        },
        "Mode": { "Replicated": { "Replicas": replicas } },
        "UpdateConfig": { "Parallelism": 1, "Monitor": 1_000_000_000_u64 },
    });
    let created = docker.create_service(serde_json::from_value(spec)?, None).await?;
    ensure!(created.id.is_some_and(|id| id.len() == 25), "an id");
    until_running(docker, name, replicas).await
}

/// Ids of a service's tasks once so many run.
async fn until_running(docker: &Docker, name: &str, count: usize) -> Result<Vec<String>> {
    until(&format!("{count} of {name}"), async || {
        let mut running = Vec::new();
        for task in docker.list_tasks(Some(of_service(name))).await? {
            let state = task.status.and_then(|status| status.state);
            if state == Some(TaskState::RUNNING) && task.desired_state == Some(TaskState::RUNNING) {
                running.extend(task.id);
            }
        }
        Ok((running.len() == count).then_some(running))
    })
    .await
}

fn of_service(name: &str) -> bollard::query_parameters::ListTasksOptions {
    let filters = [("service".to_owned(), vec![name.to_owned()])].into();
    bollard::query_parameters::ListTasksOptionsBuilder::new().filters(&filters).build()
}

/// The container of a service with one replica.
async fn container(docker: &Docker, name: &str) -> Result<String> {
    let task = until_running(docker, name, 1).await?.remove(0);
    let task = docker.inspect_task(&task).await?;
    let container = task.status.and_then(|status| status.container_status);
    container.and_then(|container| container.container_id).context("a container")
}

/// It is refused with this status.
fn refused<T>(result: Result<T, bollard::errors::Error>, wanted: u16) -> Result<()> {
    match result {
        Ok(_) => bail!("it went well"),
        Err(bollard::errors::Error::DockerResponseServerError { status_code, message }) => {
            ensure!(status_code == wanted && !message.is_empty(), "{status_code} {message}");
            Ok(())
        }
        Err(other) => bail!("{other}"),
    }
}

/// What a client made of an object, as JSON again.
fn json_of(value: &impl serde::Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value)?)
}
