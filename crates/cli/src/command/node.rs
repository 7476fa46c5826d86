//! `keel nodes` and `keel node`: the machines of a Swarm, and taking one out of service.

use std::time::Instant;

use ops::node::{self, Node};
use serde_json::json;

use super::change::Interrupts;
use crate::{
    args,
    command::Context,
    failure::{Failure, Outcome},
    human,
    output::ask,
    progress::Shown,
    table,
};

pub async fn list(context: &Context) -> Outcome {
    let client = context.client().await?;
    let nodes = node::list(&client).await?;
    let output = context.output;
    if output.json {
        output.json(&json!(nodes))?;
        return Ok(());
    }
    if output.quiet {
        for node in &nodes {
            output.line(&node.id)?;
        }
        return Ok(());
    }
    let header = [
        "NODE",
        "ID",
        "ROLE",
        "STATE",
        "AVAILABILITY",
        "TASKS",
        "CPUS",
        "MEMORY",
        "DISK FREE",
        "DOCKER",
        "KEEL",
    ];
    output.line(&table::render(header, nodes.iter().map(row)))?;
    Ok(())
}

fn row(node: &Node) -> [String; 11] {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), human::bytes);
    let memory = match node.memory_free_bytes {
        Some(free) => format!("{} free of {}", human::bytes(free), human::bytes(node.memory_bytes)),
        None => human::bytes(node.memory_bytes),
    };
    [
        node.hostname.clone(),
        node.id.chars().take(12).collect(),
        node.role.to_owned(),
        node.state.clone(),
        node.availability.clone(),
        node.tasks.to_string(),
        format!("{}", node.cpus),
        memory,
        size(node.disk_free_bytes),
        node.engine_version.clone(),
        node.keel.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

pub async fn drain(context: &Context, drain: &args::Drain) -> Outcome {
    let output = context.output;
    let client = context.client().await?;
    let services = node::services_on(&client, &drain.node).await?;
    if !drain.yes {
        let key = &drain.node;
        output.note(&format!("  ~ node {key}: no new tasks, then none at all"));
        for name in &services {
            output.note(&format!("  ~ service {name}: its tasks are replaced, new before old"));
        }
        match ask(&format!("Drain node {key} of {}?", client.host())) {
            Some(true) => {}
            Some(false) => return Err(Failure::refused("nothing was changed").into()),
            None => {
                let text = format!("draining node {key} needs somebody to agree to it");
                return Err(Failure::refused(text)
                    .hint(format!("to do it without being asked: `keel node drain {key} --yes`"))
                    .into());
            }
        }
    }
    let interrupts = Interrupts::listen(output)?;
    let (started, progress) = (Instant::now(), Shown::new(output));
    let heard = interrupts.heard.clone();
    let drained = node::drain(&client, &drain.node, drain.timeout, &progress, heard).await;
    progress.end();
    drained?;
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if output.json {
        output.json(&json!({
            "verdict": "drained", "node": drain.node, "services": services, "milliseconds": took,
        }))?;
        return Ok(());
    }
    let (node, took) = (&drain.node, human::took(started.elapsed()));
    output
        .line(&format!("node {node} is drained ({took}); back with `keel node activate {node}`"))?;
    Ok(())
}

pub async fn activate(context: &Context, node: &str) -> Outcome {
    let client = context.client().await?;
    let progress = Shown::new(context.output);
    let activated = node::activate(&client, node, &progress).await;
    progress.end();
    activated?;
    if context.output.json {
        context.output.json(&json!({ "verdict": "active", "node": node }))?;
        return Ok(());
    }
    context.output.line(&format!(
        "node {node} takes tasks again; those that run elsewhere stay there until they are replaced"
    ))?;
    Ok(())
}
