//! `keel daemon --stop`: ends the engine and leaves everything running, or with `--all` ends it all.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use dockerapi::{Client, object::Service};
use serde_json::{Value, json};

use super::{process, runtime};
use crate::{
    args,
    failure::{Exit, Failure, Outcome, Stop},
    human,
    output::{Output, ask},
    place,
};

/// How long the engine, the ingress and the tasks may take to end.
const END: Duration = Duration::from_secs(40);
const TASKS_END: Duration = Duration::from_secs(120);

pub(super) fn run(state: &Path, daemon: &args::Daemon, output: Output) -> Outcome {
    let engine = process::listening_on(&place::engine_socket(state));
    if daemon.all {
        match &engine {
            Some(_) => runtime(1)?.block_on(remove_all(state, daemon, output))?,
            None => refuse_orphans(state)?,
        }
    }
    let mut ended = BTreeMap::new();
    match engine {
        Some(engine) => {
            end(&engine, "the engine")?;
            ended.insert("engine", engine.pid);
        }
        None => output.note(&format!("no engine runs on `{}`", state.display())),
    }
    if daemon.all
        && let Some(ingress) = process::listening_on(&place::ingress_socket(state))
    {
        end(&ingress, "the ingress")?;
        ended.insert("ingress", ingress.pid);
    }
    if output.json {
        output.json(&json!({ "ended": ended }))?;
    } else if !ended.is_empty() {
        output.success(if daemon.all {
            "engine, tasks and ingress have ended; start again with `keel daemon --background`"
        } else {
            "the engine has ended; tasks and traffic go on; `keel daemon --background` takes them \
             over again"
        });
    }
    Ok(())
}

fn end(process: &process::Held, what: &str) -> Result<(), Failure> {
    process.terminate();
    if process.await_end(END) {
        return Ok(());
    }
    let (pid, seconds) = (process.pid, END.as_secs());
    Err(Failure::new("not-ended", format!("{what} (process {pid}) did not end within {seconds} s"))
        .exit(Exit::Deadline)
        .hint(format!("look at its log, or end it with `kill -9 {pid}`")))
}

/// Without an engine nobody can end tasks in order: they would be left behind for good.
fn refuse_orphans(state: &Path) -> Result<(), Failure> {
    let tasks = std::fs::read_dir(state.join("tasks")).map_or(0, |folder| {
        folder.flatten().filter(|task| is_held(&task.path().join("lock"))).count()
    });
    if tasks == 0 {
        return Ok(());
    }
    let what = human::count(tasks, "task");
    Err(Failure::refused(format!("{what} still run, and no engine is there to end them in order"))
        .hint("start it with `keel daemon --background`, then repeat the command"))
}

/// A supervisor lives.
fn is_held(lock: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    std::fs::File::open(lock)
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}

async fn remove_all(state: &Path, daemon: &args::Daemon, output: Output) -> Result<(), Stop> {
    let host = format!("unix://{}", place::engine_socket(state).display());
    let client = Client::new(&host)?;
    // Our own daemon answers this also while the Docker that it follows does not.
    let ready = client.get("/evenkeel/v1/ready").await?;
    if ready["engine"] == "swarm" {
        output.note("what runs on the Swarm stays; `keel rm` removes a stack");
        return Ok(());
    }
    let client = client.negotiate().await?;
    let services = match client.services(&[]).await {
        Err(error) if error.code() == "not-a-manager" => Vec::new(),
        services => services?,
    };
    let alone = containers(&client).await?;
    let is_nothing = services.is_empty() && alone.is_empty();
    if !daemon.yes && !is_nothing {
        plan(&services, &alone, output);
        match ask("End all of it?") {
            Some(true) => {}
            Some(false) => return Err(Failure::refused("nothing was ended").into()),
            None => {
                let text = "this removes every service and ends every container, and nobody is there to agree";
                return Err(Failure::refused(text).hint("add --yes").into());
            }
        }
    }
    client.post("/evenkeel/v1/stop-all", &Value::Null).await?;
    let deadline = Instant::now() + TASKS_END;
    loop {
        let tasks = client.get("/evenkeel/v1/tasks").await?;
        let left = tasks.as_array().map_or(0, Vec::len) + containers(&client).await?.len();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let (left, seconds) = (human::count(left, "task"), TASKS_END.as_secs());
            let text = format!("{left} did not end within {seconds} s");
            return Err(Failure::new("not-ended", text).exit(Exit::Deadline).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Containers outside any service that run.
async fn containers(client: &Client) -> Result<Vec<Value>, Stop> {
    let filters = r#"{"is-task":["false"],"status":["running","restarting"]}"#;
    let path = format!("/containers/json?filters={}", dockerapi::client::escape(filters));
    Ok(client.get(&path).await?.as_array().cloned().unwrap_or_default())
}

fn plan(services: &[Value], alone: &[Value], output: Output) {
    for service in services {
        let Ok(service) = serde_json::from_value::<Service>(service.clone()) else { continue };
        let running = service.service_status.map_or(0, |status| status.running_tasks);
        let tasks = human::count(usize::try_from(running).unwrap_or(0), "task");
        output.note(&format!("  - service {} ({tasks})", service.spec.name));
    }
    for container in alone {
        let name = container["Names"][0].as_str().unwrap_or("").trim_start_matches('/');
        output.note(&format!("  ~ container {name} (ended, and kept)"));
    }
}
