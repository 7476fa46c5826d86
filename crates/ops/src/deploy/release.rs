//! The part that changes things: service by service, then the record; back in reverse order when
//! one fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use dockerapi::stamp;
use serde_json::Value;

use super::Outcome;
use crate::{
    error::{Class, Error},
    judge::is_job,
    lock::{hostname, user},
    plan::{Kind, plan},
    progress::Said,
    record::{self, Intent, Record},
    rollout::{Changed, Context, Stop, label, milliseconds, specs, told},
};

/// What is known of a release beside its specs.
pub(crate) struct Release {
    pub(crate) stack: String,
    pub(crate) version: String,
    /// `deploy` or `rollback`.
    pub(crate) kind: &'static str,
    pub(crate) commit: Option<String>,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) keep_releases: usize,
    pub(crate) keep_images: usize,
    pub(crate) started: Instant,
}

/// Rolls the services out, in this order, and fills in how it ended.
pub(crate) async fn run(
    context: &Context<'_>,
    release: &Release,
    services: Vec<(String, Value)>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let current = specs(context.client, &release.stack).await?;
    let planned = plan(&services, &current);
    let left_over = record::intent(context.client, &release.stack).await;
    if planned.is_empty() && left_over.is_none() {
        outcome.verdict = "unchanged";
        outcome.milliseconds = milliseconds(release.started);
        return Ok(());
    }
    // A release that was killed midway is the starting point no more than its half is: what was
    // before it is what a failure goes back to.
    let mut before: BTreeMap<String, Option<Value>> =
        services.iter().map(|(name, _)| (name.clone(), current.get(name).cloned())).collect();
    if let Some(intent) = &left_over {
        let text =
            format!("release {} was interrupted; it is taken over from here", intent.version);
        context.progress.say(Said::Warning { text });
        before.extend(intent.previous.clone());
    }
    let intent = Intent { version: release.version.clone(), previous: before.clone() };
    record::save_intent(context.client, &release.stack, &intent).await?;
    let mut changed = Vec::new();
    let rolled_out =
        roll_out(context, release, &services, &current, &before, &mut changed, outcome);
    let ended = match rolled_out.await {
        Ok(()) => {
            outcome.verdict = "live";
            Ok(())
        }
        Err(stop) => take_back(context, stop, &changed, outcome).await,
    };
    outcome.milliseconds = milliseconds(release.started);
    if outcome.left.is_none() {
        record::drop_intent(context.client, &release.stack).await;
    }
    if ended.is_ok() || !changed.is_empty() {
        match save(context, release, services, outcome).await {
            Ok(seq) => outcome.seq = Some(seq),
            Err(error) => {
                let text = format!("the release was not recorded: {error}");
                context.progress.say(Said::Warning { text });
            }
        }
    }
    if outcome.verdict == "live" {
        prune_images(context, release).await;
    }
    ended
}

async fn roll_out(
    context: &Context<'_>,
    release: &Release,
    services: &[(String, Value)],
    current: &BTreeMap<String, Value>,
    before: &BTreeMap<String, Option<Value>>,
    changed: &mut Vec<Changed>,
    outcome: &mut Outcome,
) -> Result<(), Stop> {
    for (name, spec) in services {
        let one = plan(&[(name.clone(), spec.clone())], current);
        let kind = one.changes.first().map_or(Kind::Unchanged, |change| change.kind);
        let step = format!("service {name}");
        let started = Instant::now();
        if kind != Kind::Unchanged {
            context.progress.say(Said::Step { name: step.clone() });
            let mut spec = spec.clone();
            label(&mut spec, &release.version);
            let before = before.get(name).cloned().flatten();
            changed.push(Changed { service: name.clone(), before });
            match release.kind {
                "rollback" => context.put_back(name, &spec).await?,
                _ => context.put(name, &spec).await?,
            }
        }
        // What a job did is not done again, and not undone, by going back.
        if release.kind != "rollback" || !is_job(spec) {
            context.follow(name, kind == Kind::Create).await?;
        }
        if kind != Kind::Unchanged {
            outcome.durations.insert(name.clone(), milliseconds(started));
            let milliseconds = milliseconds(started);
            context.progress.say(Said::Done { name: step, milliseconds });
        }
    }
    Ok(())
}

/// Everything that was changed goes back; says so truthfully when it could not.
async fn take_back(
    context: &Context<'_>,
    stop: Stop,
    changed: &[Changed],
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let (verdict, class) = match &stop {
        Stop::Interrupted => ("interrupted", Class::Interrupted),
        Stop::Deadline { .. } => ("rolled_back", Class::Deadline),
        Stop::Failed(_) | Stop::Error(_) => ("rolled_back", Class::RolledBack),
    };
    if changed.is_empty() {
        return match stop {
            Stop::Error(error) => Err(*error),
            Stop::Interrupted => Err(super::nothing_changed()),
            other => Err(crate::rollout::plain(other)),
        };
    }
    let text = format!("{}; taking the whole stack back", told(&stop));
    context.progress.say(Said::Warning { text });
    outcome.verdict = verdict;
    outcome.class = Some(class);
    let words = told(&stop);
    if let Stop::Failed(cause) = stop {
        outcome.cause = Some(*cause);
    } else {
        outcome.cause = Some(crate::explain::Cause {
            code: if verdict == "interrupted" { "interrupted" } else { "release-failed" },
            message: words,
            hint: "see `keel ps`".to_owned(),
            service: changed.last().map(|c| c.service.clone()).unwrap_or_default(),
            task: None,
            log: Vec::new(),
        });
    }
    if let Err(left) = context.restore(changed).await {
        outcome.verdict = "failed";
        outcome.left = Some(format!("not everything could be taken back: {left}"));
    }
    Ok(())
}

async fn save(
    context: &Context<'_>,
    release: &Release,
    services: Vec<(String, Value)>,
    outcome: &Outcome,
) -> Result<u64, Error> {
    let known = record::all(context.client, &release.stack).await?;
    let seq = known.last().map_or(1, |record| record.seq + 1);
    let now = stamp::now();
    let took = u64::try_from(release.started.elapsed().as_nanos()).unwrap_or(0);
    let record = Record {
        stack: release.stack.clone(),
        seq,
        version: release.version.clone(),
        kind: release.kind.to_owned(),
        verdict: outcome.verdict.to_owned(),
        cause: outcome.cause.as_ref().map(|cause| cause.message.clone()),
        commit: release.commit.clone(),
        by: user(),
        host: hostname(),
        started: stamp::text(orchestrator::Time(now.0.saturating_sub(took))),
        finished: stamp::text(now),
        milliseconds: outcome.milliseconds,
        durations: outcome.durations.clone(),
        digests: release.digests.clone(),
        specs: services.into_iter().collect(),
    };
    record::save(context.client, &record, release.keep_releases).await?;
    Ok(seq)
}

/// Keeps the images of the newest releases, and whatever runs; of each repository of this stack.
async fn prune_images(context: &Context<'_>, release: &Release) {
    let Ok(records) = record::all(context.client, &release.stack).await else { return };
    let mut kept: BTreeSet<String> = release.digests.keys().cloned().collect();
    let mut versions = BTreeSet::new();
    for record in records.iter().rev().filter(|record| record.verdict == "live") {
        versions.insert(record.version.clone());
        if versions.len() > release.keep_images {
            break;
        }
        kept.extend(record.digests.keys().cloned());
    }
    let known: BTreeSet<&String> = records.iter().flat_map(|r| r.digests.keys()).collect();
    for image in known.into_iter().filter(|image| !kept.contains(*image)) {
        // One in use is refused by the engine, one that is gone already is no matter.
        let _ = context.client.remove_image(image).await;
    }
}
