//! Changing services and taking them back: create or update by raw spec, follow to a verdict,
//! restore in reverse order.

mod change;
mod facts;
mod guard;
mod vigil;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dockerapi::{Client, ClientError, client::LogQuery};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use self::vigil::Vigil;
use crate::{
    error::{Class, Error},
    explain::{Cause, Failure, explain},
    judge::{Facts, Verdict, is_job},
    progress::{Progress, Said},
    registry::Logins,
};

/// An engine that is started again is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Log lines of a failed task that are shown.
const LOG_LINES: u64 = 15;

/// What a rollout works with.
#[derive(Clone)]
pub struct Context<'a> {
    pub client: &'a Client,
    pub progress: &'a dyn Progress,
    pub deadline: Instant,
    /// How often the operator asked to stop (Ctrl-C).
    pub interrupts: watch::Receiver<u32>,
    /// Who we are to the registries of the images.
    pub logins: Logins,
}

/// Why a service is not where it should be.
#[derive(Debug)]
pub enum Stop {
    /// The release failed there.
    Failed(Box<Cause>),
    Deadline {
        service: String,
        /// What its tasks wait for.
        waits: Option<String>,
    },
    Interrupted,
    Error(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Error(Box::new(error.into()))
    }
}

/// A service that was changed, and what it was before.
#[derive(Clone, Debug)]
pub struct Changed {
    pub service: String,
    pub before: Option<Value>,
}

impl<'a> Context<'a> {
    pub fn new(
        client: &'a Client,
        progress: &'a dyn Progress,
        deadline: Instant,
        interrupts: watch::Receiver<u32>,
    ) -> Self {
        Self { client, progress, deadline, interrupts, logins: Logins::default() }
    }
}

impl Context<'_> {
    /// Asks again while the engine is started anew.
    pub async fn patiently<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Err(error) if error.is_passing() && Instant::now() < until => {
                    sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The service as it is; none when there is none.
    pub async fn service(&self, name: &str) -> Result<Option<Value>, ClientError> {
        match self.patiently(|| self.client.service(name)).await {
            Ok(service) => Ok(Some(service)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is our own engine, which has none of Docker's defects.
    async fn is_embedded(&self) -> Result<bool, ClientError> {
        let info = self.patiently(|| self.client.info()).await?;
        Ok(is_own_engine(&info))
    }

    /// Waits for the verdict on a service. `is_first`: it was created, so it must also stay up for
    /// the monitor time, which the engine watches only in updates.
    pub async fn follow(&self, name: &str, is_first: bool) -> Result<(), Stop> {
        let mut pause = Duration::from_millis(15);
        let mut shown = None;
        let mut converged_at: Option<Instant> = None;
        let heard = *self.interrupts.borrow();
        let mut vigil = (!self.is_embedded().await?).then(Vigil::default);
        let began = Instant::now();
        loop {
            let facts = self.facts(name).await?;
            let verdict = match &mut vigil {
                Some(vigil) => vigil.see(began.elapsed(), &facts),
                None => facts.verdict(),
            };
            let slots = facts.slots();
            if shown.as_ref() != Some(&slots) {
                let (wanted, service) = (facts.wanted(), name.to_owned());
                let ready = match verdict {
                    Verdict::Pending { ready, .. } => ready,
                    Verdict::Converged => wanted,
                    Verdict::Failed { .. } => 0,
                };
                let said = Said::Slots { service, ready, wanted, slots: slots.clone() };
                self.progress.say(said);
                shown = Some(slots);
            }
            match verdict {
                Verdict::Converged => {
                    let since = *converged_at.get_or_insert_with(Instant::now);
                    if !is_first || facts.is_job() || since.elapsed() >= monitor(&facts) {
                        return Ok(());
                    }
                }
                Verdict::Failed { reason, task } => {
                    let cause = self.cause(name, &facts, reason, task).await;
                    return Err(Stop::Failed(Box::new(cause)));
                }
                Verdict::Pending { .. } => converged_at = None,
            }
            if *self.interrupts.borrow() > heard {
                return Err(Stop::Interrupted);
            }
            if Instant::now() >= self.deadline {
                return Err(Stop::Deadline { service: name.to_owned(), waits: facts.waits() });
            }
            let mut interrupts = self.interrupts.clone();
            tokio::select! {
                () = sleep(pause) => {}
                _ = interrupts.wait_for(|count| *count > heard) => {}
            }
            pause = (pause * 5 / 4).min(Duration::from_millis(150));
        }
    }

    /// Names the cause of a failure, with the failed task's last words.
    async fn cause(
        &self,
        name: &str,
        facts: &Facts,
        reason: String,
        task: Option<String>,
    ) -> Cause {
        let failed = task.as_deref().and_then(|id| facts.tasks.iter().find(|t| t["ID"] == id));
        let failed = failed.or_else(|| facts.failed_task());
        let text = |path: &str| {
            failed.and_then(|t| t.pointer(path)).and_then(Value::as_str).unwrap_or("").to_owned()
        };
        let id = Some(text("/ID")).filter(|id| !id.is_empty());
        let own = id.as_ref().and_then(|id| facts.own.get(id));
        let own_text = |key: &str| Some(own?.get(key)?.as_str()?.to_owned());
        let log = match &id {
            Some(id) => self.last_lines(id).await,
            None => Vec::new(),
        };
        explain(Failure {
            service: name.to_owned(),
            // What it waits for says more than Docker's words do.
            error: own_text("Waiting").unwrap_or_else(|| {
                // A task that is on its way, or ended well, has no error of its own.
                Some(text("/Status/Err"))
                    .filter(|e| !e.is_empty())
                    .unwrap_or_else(|| reason.clone())
            }),
            detail: own_text("Detail"),
            was_ready: own.and_then(|own| own.get("WasReady")).and_then(Value::as_bool)
                == Some(true),
            reason,
            task: id,
            log,
        })
    }

    async fn last_lines(&self, task: &str) -> Vec<String> {
        let query = LogQuery { tail: Some(LOG_LINES), ..LogQuery::default() };
        let mut lines = Vec::new();
        if let Ok(mut log) = self.client.task_logs(task, &query).await {
            while let Ok(Some(line)) = log.next().await {
                lines.push(line.text);
            }
        }
        lines
    }

    /// Takes changed services back to what they were, the last changed first. Tells what is left
    /// undone.
    pub async fn restore(&self, changed: &[Changed]) -> Result<(), String> {
        for Changed { service, before } in changed.iter().rev() {
            let name = format!("take back {service}");
            self.progress.say(Said::Step { name: name.clone() });
            let started = Instant::now();
            let outcome = match before {
                Some(spec) => self.take_back(service, spec).await,
                None => self.withdraw(service).await,
            };
            if let Err(stop) = outcome {
                return Err(format!("{service}: {}", told(&stop)));
            }
            let milliseconds = milliseconds(started);
            self.progress.say(Said::Done { name, milliseconds });
        }
        Ok(())
    }

    async fn take_back(&self, service: &str, spec: &Value) -> Result<(), Stop> {
        // The engine may have gone back by itself; then there is only its end to wait for.
        loop {
            let current = self.service(service).await?;
            let state = current.as_ref().and_then(|c| c.pointer("/UpdateStatus/State")?.as_str());
            match state {
                Some("rollback_started") if Instant::now() < self.deadline => {
                    sleep(Duration::from_millis(30)).await;
                }
                _ => break,
            }
        }
        self.put_back(service, spec).await?;
        if is_job(spec) {
            return Ok(());
        }
        let mut pause = Duration::from_millis(15);
        loop {
            let facts = self.facts(service).await?;
            if facts.is_settled() {
                return Ok(());
            }
            if Instant::now() >= self.deadline + PATIENCE {
                return Err(Stop::Deadline { service: service.to_owned(), waits: facts.waits() });
            }
            sleep(pause).await;
            pause = (pause * 5 / 4).min(Duration::from_millis(150));
        }
    }

    /// Removes a service and waits until nothing of it is left.
    pub async fn withdraw(&self, service: &str) -> Result<(), Stop> {
        match self.patiently(|| self.client.remove_service(service)).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        loop {
            let tasks = self.own_tasks().await;
            let prefix = format!("{service}.");
            let is_there = tasks.values().any(|task| {
                task.get("Name").and_then(Value::as_str).is_some_and(|n| n.starts_with(&prefix))
            });
            if !is_there {
                return Ok(());
            }
            if Instant::now() >= self.deadline + PATIENCE {
                return Err(Stop::Deadline { service: service.to_owned(), waits: None });
            }
            sleep(Duration::from_millis(40)).await;
        }
    }
}

/// Whether `GET /info` is our own engine's.
pub(crate) fn is_own_engine(info: &Value) -> bool {
    info["Driver"] == "process"
}

/// The update's monitor time; Docker's default when none is set.
fn monitor(facts: &Facts) -> Duration {
    let nanos = facts.service.pointer("/Spec/UpdateConfig/Monitor").and_then(Value::as_u64);
    match nanos {
        None | Some(0) => Duration::from_secs(5),
        Some(nanos) => Duration::from_nanos(nanos),
    }
}

/// A stop in words.
pub fn told(stop: &Stop) -> String {
    match stop {
        Stop::Failed(cause) => cause.message.clone(),
        Stop::Deadline { service, waits } => late(service, waits.as_deref()),
        Stop::Interrupted => "interrupted".to_owned(),
        Stop::Error(error) => error.message.clone(),
    }
}

fn late(service: &str, waits: Option<&str>) -> String {
    let why = waits.map_or_else(String::new, |waits| format!(": {waits}"));
    format!("{service} was not ready in time{why}")
}

pub fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What a stop means when nothing is taken back.
pub fn plain(stop: Stop) -> Error {
    match stop {
        Stop::Failed(cause) => Error::new(cause.code, cause.message).hint(cause.hint),
        Stop::Deadline { service, waits } => {
            Error::new("deadline", late(&service, waits.as_deref()))
                .hint(format!("see `keel ps {service}`; it goes on by itself"))
                .class(Class::Deadline)
        }
        Stop::Interrupted => {
            Error::new("interrupted", "interrupted; the change goes on in the engine")
                .hint("see `keel ps`")
                .class(Class::Interrupted)
        }
        Stop::Error(error) => *error,
    }
}

/// Raw specs of all services of a stack, by name.
pub async fn specs(client: &Client, stack: &str) -> Result<BTreeMap<String, Value>, Error> {
    let label = format!("com.docker.stack.namespace={stack}");
    let services = client.services(&[("label", label.as_str())]).await?;
    let named = services.into_iter().filter_map(|service| {
        let spec = service.get("Spec")?.clone();
        Some((spec.get("Name")?.as_str()?.to_owned(), spec))
    });
    Ok(named.collect())
}

/// Sets the release label on a spec.
pub fn label(spec: &mut Value, version: &str) {
    if !spec.get("Labels").is_some_and(Value::is_object) {
        spec["Labels"] = json!({});
    }
    spec["Labels"][crate::plan::RELEASE] = json!(version);
}
