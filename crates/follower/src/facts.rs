//! Asking this node's Docker for everything that a decision is made of.

use std::net::{IpAddr, SocketAddr};

use dockerapi::{Client, ClientError, object};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{local::Local, view::View};

/// What one look at this node's Docker told.
#[derive(Debug)]
pub(crate) struct Look {
    /// None on a worker, and while there is no leader.
    pub(crate) view: Result<View, ClientError>,
    pub(crate) local: Local,
    /// The managers that this node knows.
    pub(crate) managers: Vec<IpAddr>,
}

/// Looks at everything. Fails only when Docker itself does not answer.
pub(crate) async fn look(docker: &Client) -> Result<Look, ClientError> {
    let info = docker.info().await?;
    let path = "/containers/json?filters=%7B%22label%22%3A%5B%22com.docker.swarm.task.id%22%5D%7D";
    let containers = match docker.get(path).await? {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    // There is none before the first task on an overlay network.
    let bridge = docker.get("/networks/docker_gwbridge").await.unwrap_or(Value::Null);
    let local = Local::of(&info, &containers, &bridge);
    let is_manager = info.pointer("/Swarm/ControlAvailable").and_then(Value::as_bool);
    let view = match is_manager {
        Some(true) => view(docker).await,
        _ => Err(ClientError::Api {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            message: "this node is not a manager".to_owned(),
        }),
    };
    Ok(Look { view, local, managers: managers(&info) })
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
