//! Taking a stack away: services, then secrets, configs and networks; the records of its releases
//! stay, so it can be brought back.

use std::time::{Duration, Instant};

use dockerapi::{Client, client::Kind};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    error::Error,
    lock,
    progress::{Progress, Said},
    rollout::{Context, milliseconds, plain, specs},
};

/// What would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removal {
    pub stack: String,
    pub services: Vec<String>,
    pub secrets: Vec<String>,
    pub configs: Vec<String>,
    pub networks: Vec<String>,
}

pub async fn plan(client: &Client, stack: &str) -> Result<Removal, Error> {
    let label = format!("com.docker.stack.namespace={stack}");
    let of_stack = [("label", label.as_str())];
    let names = |list: Vec<Value>| -> Vec<String> {
        let name = |object: &Value| {
            let name = object.pointer("/Spec/Name").or_else(|| object.get("Name"));
            Some(name?.as_str()?.to_owned())
        };
        list.iter().filter_map(name).collect()
    };
    let removal = Removal {
        stack: stack.to_owned(),
        services: specs(client, stack).await?.into_keys().collect(),
        secrets: names(client.blobs(Kind::Secret, &of_stack).await?),
        configs: names(client.blobs(Kind::Config, &of_stack).await?),
        networks: names(client.networks(&of_stack).await?),
    };
    if removal.services.is_empty() && removal.networks.is_empty() {
        return Err(Error::new("unknown-stack", format!("nothing found in stack: {stack}"))
            .hint("see `keel ls`"));
    }
    Ok(removal)
}

/// Removes it and waits until nothing of it runs.
pub async fn run(
    client: &Client,
    removal: &Removal,
    timeout: Duration,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let (lock, _) = lock::take(client, &removal.stack, "remove").await?;
    let context = Context::new(client, progress, Instant::now() + timeout, interrupts);
    let mut outcome = Ok(());
    for service in &removal.services {
        let (name, started) = (format!("remove {service}"), Instant::now());
        progress.say(Said::Step { name: name.clone() });
        outcome = context.withdraw(service).await.map_err(plain);
        if outcome.is_err() {
            break;
        }
        progress.say(Said::Done { name, milliseconds: milliseconds(started) });
    }
    if outcome.is_ok() {
        for name in &removal.secrets {
            let _ = client.remove_blob(Kind::Secret, name).await;
        }
        for name in &removal.configs {
            let _ = client.remove_blob(Kind::Config, name).await;
        }
        for name in &removal.networks {
            let _ = client.remove_network(name).await;
        }
    }
    lock.release().await;
    outcome
}
