//! Asking this node's Docker for everything that a decision is made of.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use dockerapi::{Client, ClientError, object};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{local::Local, view::View};

/// The service and container label of a task that does nothing but stand in an overlay network, so
/// that its namespace leads there. The value is the network's id.
pub const LINK: &str = "evenkeel.link";

/// What one look at this node's Docker told.
#[derive(Debug)]
pub(crate) struct Look {
    /// None on a worker, and while there is no leader.
    pub(crate) view: Result<View, ClientError>,
    pub(crate) local: Local,
    /// Overlay network → a namespace that is in it.
    pub(crate) links: BTreeMap<String, PathBuf>,
    /// Container → its main process.
    pub(crate) processes: BTreeMap<String, u32>,
    /// The managers that this node knows.
    pub(crate) managers: Vec<IpAddr>,
}

/// Looks at everything. Fails only when Docker itself does not answer.
pub(crate) async fn look(
    docker: &Client,
    processes: &BTreeMap<String, u32>,
) -> Result<Look, ClientError> {
    let info = docker.info().await?;
    let path = "/containers/json?filters=%7B%22label%22%3A%5B%22com.docker.swarm.task.id%22%5D%7D";
    let containers = match docker.get(path).await? {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    // There is none before the first task on an overlay network.
    let bridge = docker.get("/networks/docker_gwbridge").await.unwrap_or(Value::Null);
    let local = Local::of(&info, &containers, &bridge);
    let processes = known_processes(docker, &local, processes).await;
    let links = links(&local, &processes);
    let is_manager = info.pointer("/Swarm/ControlAvailable").and_then(Value::as_bool);
    let view = match is_manager {
        Some(true) => view(docker).await,
        _ => Err(ClientError::Api {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            message: "this node is not a manager".to_owned(),
        }),
    };
    Ok(Look { view, local, links, processes, managers: managers(&info) })
}

/// `Swarm.RemoteManagers`, whose addresses are those of Swarm's own protocol.
fn managers(info: &Value) -> Vec<IpAddr> {
    let known = info.pointer("/Swarm/RemoteManagers").and_then(Value::as_array);
    let address = |manager: &Value| {
        manager.get("Addr")?.as_str()?.parse::<SocketAddr>().ok().map(|address| address.ip())
    };
    known.into_iter().flatten().filter_map(address).collect()
}

async fn view(docker: &Client) -> Result<View, ClientError> {
    let services = read(docker.services(&[]).await?, "/services")?;
    let tasks = read(docker.tasks(&[]).await?, "/tasks")?;
    let nodes: Vec<object::Node> = read(docker.nodes().await?, "/nodes")?;
    Ok(View::of(&services, &tasks, &nodes))
}

fn read<T: DeserializeOwned>(list: Vec<Value>, path: &str) -> Result<Vec<T>, ClientError> {
    let unreadable = |error: serde_json::Error| ClientError::Protocol {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    list.into_iter().map(|one| serde_json::from_value(one).map_err(unreadable)).collect()
}

/// Main processes of the containers whose namespace or connections are looked at. Each is asked for
/// once.
async fn known_processes(
    docker: &Client,
    local: &Local,
    known: &BTreeMap<String, u32>,
) -> BTreeMap<String, u32> {
    let mut processes = BTreeMap::new();
    for (id, container) in &local.containers {
        if !container.labels.keys().any(|key| key.starts_with("evenkeel.")) {
            continue;
        }
        let process = match known.get(id) {
            Some(process) => Some(*process),
            None => process_of(docker, id).await,
        };
        if let Some(process) = process {
            processes.insert(id.clone(), process);
        }
    }
    processes
}

async fn process_of(docker: &Client, container: &str) -> Option<u32> {
    let answer = docker.get(&format!("/containers/{container}/json")).await.ok()?;
    let process = u32::try_from(answer.pointer("/State/Pid")?.as_u64()?).ok()?;
    (process != 0).then_some(process)
}

fn links(local: &Local, processes: &BTreeMap<String, u32>) -> BTreeMap<String, PathBuf> {
    let link = |(id, container): (&String, &crate::local::Container)| {
        let network = container.labels.get(LINK)?;
        let process = processes.get(id)?;
        Some((network.clone(), PathBuf::from(format!("/proc/{process}/ns/net"))))
    };
    local.containers.iter().filter_map(link).collect()
}
