//! The engine itself: ping, version, info, disk usage, swarm, nodes, events.

use anyhow::{Context, Result, ensure};
use bollard::{
    Docker,
    models::{EventMessageTypeEnum, LocalNodeState, NodeState},
    query_parameters::EventsOptionsBuilder,
};
use futures_util::StreamExt;

use super::{Case, json_of, refused, serve};

pub const ALL: &[Case] = &[
    ("ping, version and info", |docker| Box::pin(about(docker))),
    ("disk usage", |docker| Box::pin(usage(docker))),
    ("the swarm and its node", |docker| Box::pin(swarm(docker))),
    ("events as they come and as they were", |docker| Box::pin(events(docker))),
];

async fn about(docker: &Docker) -> Result<()> {
    ensure!(docker.ping().await? == "OK", "ping");
    let version = docker.version().await?;
    ensure!(version.api_version == Some(docker.client_version().to_string()), "{version:?}");
    ensure!(version.os.as_deref() == Some("linux"), "{version:?}");
    let info = docker.info().await?;
    let swarm = info.swarm.clone().context("a swarm")?;
    ensure!(swarm.local_node_state == Some(LocalNodeState::ACTIVE), "{swarm:?}");
    ensure!(swarm.control_available == Some(true), "{swarm:?}");
    ensure!(info.ncpu.is_some_and(|count| count > 0), "{info:?}");
    ensure!(info.mem_total.is_some_and(|bytes| bytes > 0), "{info:?}");
    Ok(())
}

async fn usage(docker: &Docker) -> Result<()> {
    let usage = json_of(&docker.df(None).await?)?;
    ensure!(usage.is_object(), "{usage}");
    Ok(())
}

async fn swarm(docker: &Docker) -> Result<()> {
    let swarm = docker.inspect_swarm().await?;
    ensure!(swarm.id.is_some() && swarm.version.is_some(), "{swarm:?}");
    let nodes = docker.list_nodes(None).await?;
    ensure!(nodes.len() == 1, "{nodes:?}");
    let id = nodes[0].id.clone().context("an id")?;
    let node = docker.inspect_node(&id).await?;
    let state = node.status.as_ref().and_then(|status| status.state);
    ensure!(state == Some(NodeState::READY), "{node:?}");
    ensure!(node.manager_status.and_then(|status| status.leader) == Some(true), "the leader");
    refused(docker.inspect_node("nosuch").await, 404)
}

async fn events(docker: &Docker) -> Result<()> {
    let filters = [("type".to_owned(), vec!["service".to_owned()])].into();
    let options = EventsOptionsBuilder::new().filters(&filters);
    let mut coming = Box::pin(docker.events(Some(options.build())));
    let listening = async {
        let event = coming.next().await.context("an event")??;
        ensure!(event.typ == Some(EventMessageTypeEnum::SERVICE), "{event:?}");
        let name = event.actor.and_then(|actor| actor.attributes?.get("name").cloned());
        ensure!(name.as_deref() == Some("events"), "{name:?}");
        anyhow::Ok(event.action)
    };
    let (heard, served) = tokio::join!(listening, serve(docker, "events", 1, &[]));
    served?;
    ensure!(heard?.as_deref() == Some("create"), "what comes");
    docker.delete_service("events").await?;
    let filters = [("type".to_owned(), vec!["service".to_owned()])].into();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    // To the end of this second: the first of them may be of the same one.
    let (since, until) = ((now - 60).to_string(), (now + 1).to_string());
    let options = EventsOptionsBuilder::new().filters(&filters).since(&since).until(&until);
    let past = docker.events(Some(options.build()));
    let past: Vec<_> = past.collect().await;
    let mut actions = Vec::new();
    for event in past {
        let event = event?;
        let name = event.actor.and_then(|actor| actor.attributes?.get("name").cloned());
        if name.as_deref() == Some("events") {
            actions.extend(event.action);
        }
    }
    ensure!(actions.first().is_some_and(|action| action == "create"), "{actions:?}");
    Ok(())
}
