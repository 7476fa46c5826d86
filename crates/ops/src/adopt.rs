//! Taking over a stack that was deployed with `docker stack deploy`, and giving one back.
//!
//! Adopting replaces no task: it records what runs as the first release and labels the services.
//! Giving back undoes what releases of ours changed in the specs, which does replace tasks where
//! ports or stop signals were ours, and forgets the records.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dockerapi::{Client, client::Kind, stamp};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    deploy::ingress,
    error::{Class, Error},
    lock::{self, hostname, user},
    plan::{IMAGE, Plan, plan},
    progress::{Progress, Said},
    record::{self, Record},
    rollout::{Context, label, milliseconds, plain, specs},
};

/// What was taken over.
#[derive(Clone, Debug, Serialize)]
pub struct Adopted {
    pub stack: String,
    pub version: String,
    pub services: Vec<String>,
    /// Services whose ports Docker's routing mesh keeps until the next release.
    pub on_mesh: Vec<String>,
    pub milliseconds: u64,
}

/// Records what runs of a stack as its release zero.
pub async fn adopt(client: &Client, stack: &str) -> Result<Adopted, Error> {
    let started = Instant::now();
    let running = specs(client, stack).await?;
    if running.is_empty() {
        let text = format!("there is no stack `{stack}` to take over");
        return Err(Error::new("unknown-stack", text).hint("see `docker stack ls`"));
    }
    if !record::all(client, stack).await?.is_empty() {
        let text = format!("stack `{stack}` is released by keel already");
        return Err(Error::new("already-adopted", text)
            .hint("see `keel releases`")
            .class(Class::Refused));
    }
    let (lock, _) = lock::take(client, stack, "adopt").await?;
    let taken = take_over(client, stack, &running, started).await;
    lock.release().await;
    taken
}

async fn take_over(
    client: &Client,
    stack: &str,
    running: &BTreeMap<String, Value>,
    started: Instant,
) -> Result<Adopted, Error> {
    let version = version(running);
    let mut digests = BTreeMap::new();
    for image in running.values().filter_map(image) {
        if let Ok(found) = client.image(image).await {
            digests.insert(image.to_owned(), found["Id"].as_str().unwrap_or("").to_owned());
        }
    }
    for name in running.keys() {
        mark(client, name, &version).await?;
    }
    // As they are now, label included: going back to it later changes nothing else.
    let specs: BTreeMap<String, Value> = specs(client, stack).await?;
    let now = stamp::text(stamp::now());
    let record = Record {
        stack: stack.to_owned(),
        seq: 0,
        version: version.clone(),
        kind: "adopt".to_owned(),
        verdict: "live".to_owned(),
        cause: None,
        commit: None,
        by: user(),
        host: hostname(),
        started: now.clone(),
        finished: now,
        milliseconds: milliseconds(started),
        durations: BTreeMap::new(),
        digests,
        specs,
    };
    record::save(client, &record, 50).await?;
    let on_mesh = running.iter().filter(|(_, spec)| ingress::takes_over(spec));
    Ok(Adopted {
        stack: stack.to_owned(),
        version,
        services: running.keys().cloned().collect(),
        on_mesh: on_mesh.map(|(name, _)| name.clone()).collect(),
        milliseconds: milliseconds(started),
    })
}

/// The release label of a service; a label of the service replaces none of its tasks.
async fn mark(client: &Client, name: &str, version: &str) -> Result<(), Error> {
    for _ in 0..5 {
        let service = client.service(name).await?;
        let mut spec = service["Spec"].clone();
        label(&mut spec, version);
        let id = service["ID"].as_str().unwrap_or(name);
        let index = service["Version"]["Index"].as_u64().unwrap_or(0);
        match client.update_service(id, index, &spec, None).await {
            Err(error) if error.is_out_of_sequence() => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
    Err(Error::new("update-contended", format!("{name} is changed by others all the time"))
        .hint("find out who else deploys, then try again"))
}

fn image(spec: &Value) -> Option<&str> {
    spec.pointer(IMAGE)?.as_str()
}

/// The tag that most images of the stack share.
fn version(running: &BTreeMap<String, Value>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for image in running.values().filter_map(image) {
        let name = image.split('@').next().unwrap_or(image);
        let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
        *counts.entry(tag.unwrap_or("latest")).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or("adopted", |(tag, _)| tag).to_owned()
}

/// The specs of a stack as they would be without keel, and what that changes.
#[derive(Clone, Debug)]
pub struct Return {
    pub stack: String,
    pub plan: Plan,
    wanted: Vec<(String, Value)>,
}

/// What giving back a stack would change.
pub async fn plan_return(client: &Client, stack: &str) -> Result<Return, Error> {
    let running = specs(client, stack).await?;
    if running.is_empty() {
        return Err(Error::new("unknown-stack", format!("there is no stack `{stack}`"))
            .hint("see `keel ls`"));
    }
    let given: Vec<(String, Value)> = running
        .iter()
        .map(|(name, spec)| {
            let mut spec = spec.clone();
            ingress::unroute(&mut spec);
            (name.clone(), spec)
        })
        .collect();
    let plan = plan(&given, &running);
    Ok(Return { stack: stack.to_owned(), plan, wanted: given })
}

/// Gives it back: the specs, then the records go.
pub async fn give_back(
    client: &Client,
    wanted: &Return,
    timeout: Duration,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let (lock, _) = lock::take(client, &wanted.stack, "release-control").await?;
    let context = Context::new(client, progress, Instant::now() + timeout, interrupts);
    let mut given = Ok(());
    for (name, spec) in &wanted.wanted {
        let (step, started) = (format!("service {name}"), Instant::now());
        progress.say(Said::Step { name: step.clone() });
        given = async {
            context.put(name, spec).await?;
            context.follow(name, false).await
        }
        .await
        .map_err(plain);
        if given.is_err() {
            break;
        }
        progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
    }
    if given.is_ok() {
        for record in record::all(client, &wanted.stack).await? {
            let name = format!("evenkeel.{}.release.{}", record.stack, record.seq);
            let _ = client.remove_blob(Kind::Config, &name).await;
        }
        record::drop_intent(client, &wanted.stack).await;
    }
    lock.release().await;
    given
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_is_the_tag_that_most_images_share() {
        let spec = |image: &str| json!({ "TaskTemplate": { "ContainerSpec": { "Image": image } } });
        let running = BTreeMap::from([
            ("a".to_owned(), spec("ala-api:20251113-140140@sha256:ab")),
            ("b".to_owned(), spec("ala-frontend:20251113-140140")),
            ("c".to_owned(), spec("127.0.0.1:5000/priority")),
        ]);
        assert_eq!(version(&running), "20251113-140140");
        assert_eq!(version(&BTreeMap::new()), "adopted");
    }
}
