//! Writing a service: created or updated by its raw spec, once the engine may be told.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::{
    Context, Stop,
    guard::{Guard, before_change},
};
use crate::{error::Error, plan::IMAGE, progress::Said};

/// Where a spec comes from: this release, or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

impl Context<'_> {
    /// Makes the service what `spec` says; the engine starts to roll it out.
    pub async fn put(&self, name: &str, spec: &Value) -> Result<(), Stop> {
        self.write(name, spec, Way::Forward).await
    }

    /// Makes the service what it was in an earlier release: a job is not run again for that.
    pub async fn put_back(&self, name: &str, spec: &Value) -> Result<(), Stop> {
        self.write(name, spec, Way::Back).await
    }

    async fn write(&self, name: &str, spec: &Value, way: Way) -> Result<(), Stop> {
        self.await_turn(name, spec, way).await?;
        for _ in 0..5 {
            let image = spec.pointer(IMAGE).and_then(Value::as_str).unwrap_or("");
            let login = self.logins.of(image);
            let Some(current) = self.service(name).await? else {
                match self.client.post_as("/services/create", spec, login).await {
                    // It was created before the engine's answer was lost.
                    Err(error) if error.is_passing() || error.is_conflict() => continue,
                    answer => {
                        self.hear(name, &answer?);
                        return Ok(());
                    }
                }
            };
            if current.get("Spec") == Some(spec) {
                return Ok(());
            }
            let id = current["ID"].as_str().unwrap_or(name).to_owned();
            let index = current["Version"]["Index"].as_u64().unwrap_or(0);
            let updated = match way {
                Way::Forward => self.client.update_service(&id, index, spec, login).await,
                Way::Back => self.client.take_service_back(&id, index, spec).await,
            };
            match updated {
                Err(error) if error.is_passing() || error.is_out_of_sequence() => continue,
                answer => {
                    self.hear(name, &answer?);
                    return Ok(());
                }
            }
        }
        Err(Error::new("update-contended", format!("{name} is changed by others all the time"))
            .hint("find out who else deploys, then try again")
            .into())
    }

    /// Waits until a Docker Swarm may be told of the change; refuses one that does harm there.
    async fn await_turn(&self, name: &str, spec: &Value, way: Way) -> Result<(), Stop> {
        if way == Way::Back || self.is_embedded().await? {
            return Ok(());
        }
        let heard = *self.interrupts.borrow();
        loop {
            let Some(current) = self.service(name).await? else { return Ok(()) };
            if current.get("Spec") == Some(spec) {
                return Ok(());
            }
            match before_change(name, &current, spec) {
                Guard::Go => return Ok(()),
                Guard::Refuse(error) => return Err(error.into()),
                Guard::Wait if *self.interrupts.borrow() > heard => return Err(Stop::Interrupted),
                Guard::Wait if Instant::now() >= self.deadline => {
                    let waits = Some("the end of the update that is under way".to_owned());
                    return Err(Stop::Deadline { service: name.to_owned(), waits });
                }
                Guard::Wait => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// What the engine accepts and does not do.
    fn hear(&self, name: &str, answer: &Value) {
        let warnings = answer.get("Warnings").and_then(Value::as_array);
        for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
            self.progress.say(Said::Warning { text: format!("{name}: {warning}") });
        }
    }
}
