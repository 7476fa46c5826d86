//! A release: preflight → build → lock → plan → roll out → verify → record, and back again when it
//! fails.

pub(crate) mod ingress;
mod objects;
mod preflight;
mod release;
mod since;
mod tame;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use dockerapi::Client;
use serde::Serialize;
use serde_json::Value;
use stack::{Lowered, StackSettings};
use tokio::sync::watch;

use crate::{
    build,
    error::{Class, Error},
    explain::Cause,
    lock,
    plan::{Plan, plan},
    progress::{Progress, Said},
    registry,
    rollout::{Context, milliseconds, specs},
    source::{LoadError, Source, version_now},
    spread::spread,
};
pub(crate) use release::{Release, run as run_release};

/// What to deploy.
#[derive(Clone, Debug)]
pub struct Request {
    pub files: Vec<PathBuf>,
    pub stack: Option<String>,
    pub version: Option<String>,
    pub skip_build: bool,
    /// Brings images to the nodes of a Swarm without the registry that their names say.
    pub no_push: bool,
    /// Shows the plan and changes nothing.
    pub dry_run: bool,
    pub timeout: Duration,
}

/// How a release ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub stack: String,
    pub version: String,
    /// `live`, `unchanged`, `planned`, `rolled_back`, `failed`, `interrupted`.
    pub verdict: &'static str,
    pub seq: Option<u64>,
    pub cause: Option<Cause>,
    /// The state that was left, when it is not what it was or should be.
    pub left: Option<String>,
    pub milliseconds: u64,
    /// Service → milliseconds.
    pub durations: BTreeMap<String, u64>,
    pub plan: Plan,
    #[serde(skip)]
    pub class: Option<Class>,
}

/// A stack file's services, ready for the engine.
pub struct Wanted {
    pub stack: String,
    pub version: String,
    pub lowered: Lowered,
    pub settings: StackSettings,
    pub source: Source,
}

/// Deploys. `Ok` says how it ended, also when it was rolled back; `Err` that nothing changed.
pub async fn run(
    client: &Client,
    request: &Request,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<Outcome, LoadError> {
    let started = Instant::now();
    let deadline = started + request.timeout;
    let mut context = Context::new(client, progress, deadline, interrupts);
    let is_embedded = preflight::engine(client).await?;
    let mut wanted = understand(client, request, progress).await?;
    preflight::version(client, &wanted, progress)?;
    let mut built = Vec::new();
    if !request.skip_build && !request.dry_run {
        let step = Said::Step { name: "build".to_owned() };
        if wanted.lowered.services.iter().any(|s| s.artifact.is_some() || s.build.is_some()) {
            progress.say(step);
            let interrupts = context.interrupts.clone();
            built = build::all(client, &wanted, is_embedded, progress, interrupts).await?;
            let milliseconds = milliseconds(started);
            progress.say(Said::Done { name: "build".to_owned(), milliseconds });
        }
    }
    if !is_embedded && !request.no_push {
        let built: Vec<String> = built.into_iter().map(|(image, _)| image).collect();
        let may_push = !request.dry_run;
        context.logins = registry::pin(&context, &mut wanted, &built, may_push).await?;
    }
    if !is_embedded {
        ingress::adapt(client, &mut wanted, progress).await?;
        preflight::tame(client, &mut wanted, progress).await?;
    }
    let digests = preflight::images(client, &wanted, is_embedded && !request.dry_run).await?;
    let current = specs(client, &wanted.stack).await?;
    preflight::ports(client, &wanted, &current, is_embedded).await?;
    let services = objects::resolved(client, &wanted).await?;
    let planned = plan(&services, &current);
    progress.say(Said::Plan { plan: planned.clone() });
    if *context.interrupts.borrow() > 0 {
        return Err(nothing_changed().into());
    }
    let mut outcome = Outcome {
        stack: wanted.stack.clone(),
        version: wanted.version.clone(),
        verdict: "planned",
        seq: None,
        cause: None,
        left: None,
        milliseconds: milliseconds(started),
        durations: BTreeMap::new(),
        plan: planned,
        class: None,
    };
    if request.dry_run {
        return Ok(outcome);
    }
    let (lock, taken_over) =
        lock::take(client, &wanted.stack, &format!("deploy {}", wanted.version)).await?;
    if let Some(text) = taken_over {
        progress.say(Said::Warning { text });
    }
    let release = Release {
        stack: wanted.stack.clone(),
        version: wanted.version.clone(),
        kind: "deploy",
        commit: wanted.source.commit(),
        digests,
        keep_releases: usize::try_from(wanted.settings.keep_releases).unwrap_or(50),
        keep_images: usize::try_from(wanted.settings.keep_images).unwrap_or(3),
        started,
    };
    let staged = match is_embedded {
        true => Ok(()),
        false => spread(client, &release.digests, progress).await,
    };
    let created = match staged {
        Ok(()) => objects::create(client, &wanted).await,
        Err(error) => Err(error),
    };
    let ended = match created {
        Ok(services) => run_release(&context, &release, services, &mut outcome).await,
        Err(error) => Err(error),
    };
    lock.release().await;
    ended?;
    Ok(outcome)
}

/// The engine is a manager, and our own.
pub async fn is_embedded(client: &Client) -> Result<bool, Error> {
    preflight::engine(client).await
}

pub(crate) fn nothing_changed() -> Error {
    Error::new("interrupted", "interrupted; nothing was changed").class(Class::Interrupted)
}

/// Reads the stack file for a version: the given one, the newest with images, or the time now.
pub async fn understand(
    client: &Client,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Wanted, LoadError> {
    let source = Source::find(&request.files)?;
    let version = match &request.version {
        Some(version) => checked(version)?,
        None if request.skip_build => {
            let loaded = source.load("latest")?;
            preflight::newest_version(client, &loaded.stack).await?
        }
        None => version_now(),
    };
    let loaded = source.load(&version)?;
    for warning in &loaded.warnings {
        progress.say(Said::Warning { text: warning.rendered() });
    }
    let folder_name = || Some(source.folder.file_name()?.to_str()?.to_owned());
    let stack = request.stack.clone().or(loaded.stack.name.clone()).or_else(folder_name);
    let stack = stack.ok_or_else(|| {
        Error::new("stack-name-missing", "the stack has no name")
            .hint("give one: `keel deploy NAME`")
            .class(Class::Usage)
    })?;
    let lowered = loaded.stack.lower(&stack);
    let settings = loaded.stack.settings.clone();
    Ok(Wanted { stack, version, lowered, settings, source })
}

/// A version is an image's tag.
fn checked(version: &str) -> Result<String, Error> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if version.is_empty() || version.len() > 63 || !version.chars().all(is_fine) {
        return Err(Error::new("bad-version", format!("`{version}` cannot be an image's tag"))
            .hint("use letters, digits, `-`, `_` and `.`, for example 20251113-140140")
            .class(Class::Usage));
    }
    Ok(version.to_owned())
}

/// The wanted specs by service name, as they are in the stack file.
pub(crate) fn named(lowered: &Lowered) -> Vec<(String, Value)> {
    lowered.services.iter().map(|s| (s.name.clone(), s.spec.clone())).collect()
}
