//! More or fewer replicas, and restarts: one field of the raw spec, followed to its end.

use std::time::{Duration, Instant};

use dockerapi::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    error::{Class, Error},
    progress::{Progress, Said},
    rollout::{Context, milliseconds, plain},
};

/// Sets the replicas of each service and waits until they are there.
pub async fn scale(
    client: &Client,
    wanted: &[(String, u64)],
    timeout: Duration,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let context = Context::new(client, progress, Instant::now() + timeout, interrupts);
    let mut changes = Vec::new();
    for (name, replicas) in wanted {
        let spec = spec_of(&context, name).await?;
        let mode = &spec["Mode"];
        if mode.get("Replicated").is_none() && mode.get("ReplicatedJob").is_none() {
            let what = "scale can only be used with replicated services and jobs";
            let text = format!("{name}: {what}");
            return Err(Error::new("not-replicated", text).class(Class::Usage));
        }
        changes.push((name, spec, replicas));
    }
    for (name, mut spec, replicas) in changes {
        if spec["Mode"]["ReplicatedJob"].is_object() {
            spec["Mode"]["ReplicatedJob"]["TotalCompletions"] = json!(replicas);
        } else {
            spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
        }
        let step = format!("scale {name} to {replicas}");
        change(&context, name, &spec, step).await?;
    }
    Ok(())
}

/// Replaces every task of a service, as its update settings say.
pub async fn restart(
    client: &Client,
    name: &str,
    timeout: Duration,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let context = Context::new(client, progress, Instant::now() + timeout, interrupts);
    let mut spec = spec_of(&context, name).await?;
    let count = spec.pointer("/TaskTemplate/ForceUpdate").and_then(Value::as_u64).unwrap_or(0);
    spec["TaskTemplate"]["ForceUpdate"] = json!(count + 1);
    change(&context, name, &spec, format!("restart {name}")).await
}

async fn spec_of(context: &Context<'_>, name: &str) -> Result<Value, Error> {
    match context.service(name).await? {
        Some(service) => Ok(service["Spec"].clone()),
        None => Err(Error::new("unknown-service", format!("there is no service {name}"))
            .hint("see `keel ls`")),
    }
}

async fn change(
    context: &Context<'_>,
    name: &str,
    spec: &Value,
    step: String,
) -> Result<(), Error> {
    let started = Instant::now();
    context.progress.say(Said::Step { name: step.clone() });
    context.put(name, spec).await.map_err(plain)?;
    context.follow(name, false).await.map_err(plain)?;
    context.progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
    Ok(())
}
