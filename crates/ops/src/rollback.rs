//! Back to a release that was live before: the same rollout, with the recorded specs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dockerapi::Client;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    deploy::{Outcome, Release, run_release},
    error::{Class, Error},
    lock,
    plan::plan,
    progress::{Progress, Said},
    record::{self, Record},
    rollout::{Context, specs},
};

#[derive(Clone, Debug)]
pub struct Request {
    pub stack: Option<String>,
    /// Only this service.
    pub service: Option<String>,
    /// The release before the live one when none is given.
    pub version: Option<String>,
    pub timeout: Duration,
}

pub async fn run(
    client: &Client,
    request: &Request,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    let stack = stack_of(client, request.stack.as_deref()).await?;
    let records = record::all(client, &stack).await?;
    let target = target(&records, request.version.as_deref(), &stack)?.clone();
    for image in target.digests.keys() {
        if let Err(error) = client.image(image).await {
            let text = format!("release {} cannot be restored: {error}", target.version);
            return Err(Error::new("image-missing", text)
                .hint("its image was pruned; build it again with `keel deploy --version`"));
        }
    }
    let services = wanted(&target, request.service.as_deref(), &stack)?;
    let current = specs(client, &stack).await?;
    let planned = plan(&services, &current);
    progress.say(Said::Plan { plan: planned.clone() });
    let what = format!("rollback to {}", target.version);
    let (lock, taken_over) = lock::take(client, &stack, &what).await?;
    if let Some(text) = taken_over {
        progress.say(Said::Warning { text });
    }
    let deadline = started + request.timeout;
    let context = Context::new(client, progress, deadline, interrupts);
    let release = Release {
        stack: stack.clone(),
        version: target.version.clone(),
        kind: "rollback",
        commit: target.commit.clone(),
        digests: target.digests.clone(),
        keep_releases: 50,
        keep_images: 3,
        started,
    };
    let mut outcome = Outcome {
        stack,
        version: target.version.clone(),
        verdict: "planned",
        seq: None,
        cause: None,
        left: None,
        milliseconds: 0,
        durations: BTreeMap::new(),
        plan: planned,
        class: None,
    };
    let ended = run_release(&context, &release, services, &mut outcome).await;
    lock.release().await;
    ended?;
    Ok(outcome)
}

/// The named stack, or the only one there is.
pub async fn stack_of(client: &Client, named: Option<&str>) -> Result<String, Error> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let stacks = record::stacks(client).await?;
    match stacks.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::new("no-release", "nothing was released here yet")
            .hint("release something with `keel deploy`")),
        several => Err(Error::new("stack-ambiguous", format!("there are {}", several.join(", ")))
            .hint("name one with --stack")
            .class(Class::Usage)),
    }
}

/// The release to go back to: the newest live one of that version, or the one before the live one.
fn target<'a>(
    records: &'a [Record],
    version: Option<&str>,
    stack: &str,
) -> Result<&'a Record, Error> {
    let live = || records.iter().rev().filter(|record| record.verdict == "live");
    match version {
        Some(version) => live().find(|record| record.version == version).ok_or_else(|| {
            let mut known: Vec<&str> = Vec::new();
            for record in live() {
                if !known.contains(&record.version.as_str()) {
                    known.push(&record.version);
                }
            }
            let text = format!("stack `{stack}` has no release {version} that was live");
            Error::new("unknown-version", text).hint(format!("there are: {}", known.join(", ")))
        }),
        None => {
            let current = live().next().map(|record| record.version.clone());
            live().find(|record| Some(&record.version) != current.as_ref()).ok_or_else(|| {
                Error::new("no-previous-release", format!("stack `{stack}` has no earlier release"))
                    .hint("see `keel releases`")
            })
        }
    }
}

fn wanted(
    target: &Record,
    service: Option<&str>,
    stack: &str,
) -> Result<Vec<(String, Value)>, Error> {
    let all = || target.specs.iter().map(|(name, spec)| (name.clone(), spec.clone()));
    let Some(service) = service else { return Ok(all().collect()) };
    let full = format!("{stack}_{service}");
    let one: Vec<_> = all().filter(|(name, _)| name == service || *name == full).collect();
    if one.is_empty() {
        let known: Vec<&str> = target.specs.keys().map(String::as_str).collect();
        let text = format!("release {} has no service {service}", target.version);
        return Err(
            Error::new("unknown-service", text).hint(format!("it has: {}", known.join(", ")))
        );
    }
    Ok(one)
}
