//! The nodes of a Swarm: what they are and have, and taking one out of service without losing a
//! request.
//!
//! ```text
//! drain:  pause the node (nothing new comes) ─▶ move each service that has tasks there, new before
//!         old ─▶ drain it (what is left is stopped) ─▶ nothing runs there any more
//! ```
//!
//! Swarm's own drain stops a node's tasks first and starts their replacements when they have ended.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use dockerapi::{Client, object};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::{
    error::{Class, Error},
    progress::{Progress, Said},
    rollout::{Context, milliseconds, plain},
    spread::catch_up,
};

/// A node as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub id: String,
    pub hostname: String,
    /// `leader`, `manager` or `worker`.
    pub role: &'static str,
    /// `ready`, `down`, …
    pub state: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
    pub address: String,
    pub engine_version: String,
    pub cpus: f64,
    pub memory_bytes: u64,
    /// Known where a daemon of ours runs.
    pub memory_free_bytes: Option<u64>,
    pub disk_free_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    /// The version of the daemon of ours there.
    pub keel: Option<String>,
    /// Tasks that run there.
    pub tasks: usize,
}

/// All nodes, by host name.
pub async fn list(client: &Client) -> Result<Vec<Node>, Error> {
    let tasks = client.tasks(&[("desired-state", "running")]).await?;
    let own = client.get("/evenkeel/v1/nodes").await.unwrap_or(Value::Null);
    let of = |id: &str| own.as_array().into_iter().flatten().find(|node| node["ID"] == id).cloned();
    let mut nodes: Vec<Node> = client
        .nodes()
        .await?
        .iter()
        .map(|raw| {
            let id = raw["ID"].as_str().unwrap_or("");
            let runs =
                tasks.iter().filter(|t| t["NodeID"] == id && t["Status"]["State"] == "running");
            node(raw, of(id).as_ref(), runs.count())
        })
        .collect();
    nodes.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    Ok(nodes)
}

fn node(raw: &Value, own: Option<&Value>, tasks: usize) -> Node {
    let text = |path: &str| raw.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let number = |path: &str| raw.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let ours = |key: &str| own.and_then(|own| own.get(key)?.as_u64());
    let is_leader = raw.pointer("/ManagerStatus/Leader").and_then(Value::as_bool) == Some(true);
    Node {
        id: text("/ID"),
        hostname: text("/Description/Hostname"),
        role: match (is_leader, text("/Spec/Role") == "manager") {
            (true, _) => "leader",
            (false, true) => "manager",
            (false, false) => "worker",
        },
        state: text("/Status/State"),
        availability: text("/Spec/Availability"),
        address: text("/Status/Addr"),
        engine_version: text("/Description/Engine/EngineVersion"),
        cpus: number("/Description/Resources/NanoCPUs") as f64 / 1e9,
        memory_bytes: number("/Description/Resources/MemoryBytes"),
        memory_free_bytes: ours("MemoryFreeBytes"),
        disk_free_bytes: ours("DiskFreeBytes"),
        disk_bytes: ours("DiskBytes"),
        keel: own.and_then(|own| Some(own.get("Version")?.as_str()?.to_owned())),
        tasks,
    }
}

/// The raw node of this name, id or unique beginning of its id.
async fn find(client: &Client, key: &str) -> Result<Value, Error> {
    let nodes = client.nodes().await?;
    let named = |node: &&Value| {
        node["ID"] == key || node.pointer("/Description/Hostname").is_some_and(|name| *name == key)
    };
    let begins = |node: &&Value| node["ID"].as_str().is_some_and(|id| id.starts_with(key));
    let exact: Vec<&Value> = nodes.iter().filter(named).collect();
    let found = if exact.is_empty() { nodes.iter().filter(begins).collect() } else { exact };
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            Err(Error::new("unknown-node", format!("there is no node {key}"))
                .hint("see `keel nodes`"))
        }
        several => {
            let text = format!("{key} is the name of {} nodes", several.len());
            Err(Error::new("node-ambiguous", text)
                .hint("name one by its id; see `keel nodes`")
                .class(Class::Usage))
        }
    }
}

/// Sets a node's availability; the raw spec keeps everything else.
async fn set(client: &Client, key: &str, availability: &str) -> Result<(), Error> {
    for _ in 0..5 {
        let node = find(client, key).await?;
        let mut spec = node["Spec"].clone();
        if spec["Availability"] == availability {
            return Ok(());
        }
        spec["Availability"] = json!(availability);
        let (id, version) = (node["ID"].as_str().unwrap_or(""), &node["Version"]["Index"]);
        let path = format!("/nodes/{id}/update?version={version}");
        match client.post(&path, &spec).await {
            Err(error) if error.is_out_of_sequence() => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
    Err(Error::new("node-contended", format!("node {key} is changed by others all the time"))
        .hint("try again"))
}

/// Back into service: new tasks may come, and find their images there.
pub async fn activate(client: &Client, key: &str, progress: &dyn Progress) -> Result<(), Error> {
    let node = find(client, key).await?;
    if client.nodes().await?.len() > 1
        && let Err(error) = catch_up(client, &node, progress).await
    {
        // Where no daemon of ours is, a registry may still have them.
        progress.say(Said::Warning { text: error.to_string() });
    }
    set(client, key, "active").await
}

/// Names of the services that have running tasks on a node.
pub async fn services_on(client: &Client, key: &str) -> Result<Vec<String>, Error> {
    let node = find(client, key).await?;
    let id = node["ID"].as_str().unwrap_or("");
    let tasks = client.tasks(&[("node", id), ("desired-state", "running")]).await?;
    let ids: BTreeSet<&str> = tasks.iter().filter_map(|task| task["ServiceID"].as_str()).collect();
    let mut names = Vec::new();
    for service in client.services(&[]).await? {
        let name = service.pointer("/Spec/Name").and_then(Value::as_str).unwrap_or("");
        if service["ID"].as_str().is_some_and(|id| ids.contains(id)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Takes a node out of service, its traffic first.
pub async fn drain(
    client: &Client,
    key: &str,
    timeout: Duration,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let context = Context::new(client, progress, Instant::now() + timeout, interrupts);
    let others = client.nodes().await?;
    let id = find(client, key).await?["ID"].as_str().unwrap_or("").to_owned();
    let is_last = !others.iter().any(|node| {
        node["ID"] != id.as_str()
            && node["Status"]["State"] == "ready"
            && node["Spec"]["Availability"] == "active"
    });
    let names = services_on(client, key).await?;
    if is_last && !names.is_empty() {
        let text = format!(
            "node {key} is the last one that takes tasks, and {} run there",
            names.join(", ")
        );
        return Err(Error::new("last-node", text)
            .hint("activate another node first: `keel node activate`")
            .class(Class::Refused));
    }
    set(client, &id, "pause").await?;
    for name in &names {
        if let Err(error) = leave(&context, name).await {
            // What was there before holds again; tasks that moved stay where they are.
            set(client, &id, "active").await?;
            return Err(error);
        }
    }
    set(client, &id, "drain").await?;
    empty(&context, &id).await
}

/// Replaces a service's tasks, new before old; a paused node gets none of the new ones.
async fn leave(context: &Context<'_>, name: &str) -> Result<(), Error> {
    let Some(service) = context.service(name).await? else { return Ok(()) };
    let before = service["Spec"].clone();
    if before.pointer("/Mode/Replicated").is_none() {
        return Ok(());
    }
    let (step, started) = (format!("move {name}"), Instant::now());
    context.progress.say(Said::Step { name: step.clone() });
    let mut spec = before.clone();
    let count = spec.pointer("/TaskTemplate/ForceUpdate").and_then(Value::as_u64).unwrap_or(0);
    spec["TaskTemplate"]["ForceUpdate"] = json!(count + 1);
    if !spec.get("UpdateConfig").is_some_and(Value::is_object) {
        spec["UpdateConfig"] = json!({ "Parallelism": 1 });
    }
    spec["UpdateConfig"]["Order"] = json!("start-first");
    context.put(name, &spec).await.map_err(plain)?;
    context.follow(name, false).await.map_err(plain)?;
    // The operator's own order holds again; that replaces nothing.
    spec["UpdateConfig"] = before["UpdateConfig"].clone();
    context.put(name, &spec).await.map_err(plain)?;
    context.progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
    Ok(())
}

/// Waits until nothing runs on the node but what stands on every node.
async fn empty(context: &Context<'_>, id: &str) -> Result<(), Error> {
    loop {
        let tasks: Vec<object::Task> = context
            .client
            .tasks(&[("node", id)])
            .await?
            .into_iter()
            .filter_map(|task| serde_json::from_value(task).ok())
            .collect();
        let left = tasks.iter().filter(|t| t.status.state == object::TaskState::Running).count();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= context.deadline {
            let text = format!("{left} tasks still run on node {id}; it goes on by itself");
            return Err(Error::new("deadline", text).hint("see `keel ps`").class(Class::Deadline));
        }
        if *context.interrupts.borrow() > 0 {
            let text = "interrupted; the node is drained, its tasks go on ending by themselves";
            return Err(Error::new("interrupted", text).class(Class::Interrupted));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_by_what_docker_and_the_daemon_there_say() {
        let raw = json!({
            "ID": "n1", "Spec": { "Role": "manager", "Availability": "active" },
            "Description": {
                "Hostname": "one", "Engine": { "EngineVersion": "20.10.24" },
                "Resources": { "NanoCPUs": 2_000_000_000_u64, "MemoryBytes": 1024 },
            },
            "Status": { "State": "ready", "Addr": "10.0.0.1" },
            "ManagerStatus": { "Leader": true },
        });
        let own = json!({ "ID": "n1", "Version": "1.0.0", "DiskFreeBytes": 7 });
        let shown = node(&raw, Some(&own), 3);
        assert_eq!((shown.role, shown.cpus, shown.tasks), ("leader", 2.0, 3));
        assert_eq!((shown.disk_free_bytes, shown.memory_free_bytes), (Some(7), None));
        assert_eq!(shown.keel.as_deref(), Some("1.0.0"));
        assert_eq!(node(&raw, None, 0).keel, None);
    }
}
