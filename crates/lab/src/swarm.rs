//! Making one swarm of the nodes, with Docker's own client.

use std::{fs, time::Duration};

use crate::{Error, error::io, node::Node, run::until};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// The first node makes the swarm; `managers` of all are managers, the others workers.
pub fn form(nodes: &[Node], managers: usize) -> Result<(), Error> {
    let Some((first, others)) = nodes.split_first() else { return Ok(()) };
    let address = first.address.to_string();
    first.docker(&["swarm", "init", "--advertise-addr", &address])?;
    remember_id(first)?;
    let token = |role| first.docker(&["swarm", "join-token", "--quiet", role]);
    let remote = format!("{address}:2377");
    for node in others {
        let role = if node.index < managers { "manager" } else { "worker" };
        let own = node.address.to_string();
        let token = token(role)?;
        let join = ["swarm", "join", "--advertise-addr", &own, "--token", token.trim(), &remote];
        node.docker(&join).map_err(|error| without(token.trim(), error))?;
        remember_id(node)?;
    }
    wait_until_ready(nodes, managers)
}

/// The token of a join stays out of its error.
fn without(token: &str, error: Error) -> Error {
    match error {
        Error::Command { line, said } => Error::Command {
            line: line.replace(token, "TOKEN"),
            said: said.replace(token, "TOKEN"),
        },
        error => error,
    }
}

fn remember_id(node: &Node) -> Result<(), Error> {
    let id = node.docker(&["info", "--format", "{{.Swarm.NodeID}}"])?;
    let path = node.folder.join("id");
    fs::write(&path, id.trim()).map_err(io("write", path))
}

fn wait_until_ready(nodes: &[Node], managers: usize) -> Result<(), Error> {
    let Some(first) = nodes.first() else { return Ok(()) };
    until("all nodes ready", READY_LIMIT, || {
        let format = "{{.Status}} {{.ManagerStatus}}";
        let listed = first.docker(&["node", "ls", "--format", format]);
        let listed = listed.map_err(|error| error.to_string())?;
        let ready = listed.lines().filter(|line| line.starts_with("Ready")).count();
        let reached = listed
            .lines()
            .filter(|line| line.contains("Leader") || line.contains("Reachable"))
            .count();
        if ready == nodes.len() && reached == managers { Ok(()) } else { Err(listed) }
    })
}
