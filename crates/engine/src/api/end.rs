//! A container's end: asked for, waited for, and what goes with it.

use std::time::Duration;

use dockerapi::ApiError;
use http::StatusCode;
use orchestrator::TaskId;
use serde_json::json;

use super::{
    Answer, Api, Call,
    container::{Container, Kind},
    containers::conflict,
    empty, stream,
};
use crate::{
    container::Event,
    control::{State, container_id, stop_signal},
    driver::{
        Command,
        plan::{self, ImageConfig, signal_number},
    },
};

const KILL: i32 = 9;
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Api {
    pub(super) async fn kill(&self, key: &str, call: &Call) -> Answer {
        let text = call.get("signal").filter(|text| !text.is_empty()).unwrap_or("SIGKILL");
        let number = signal_number(text)
            .ok_or_else(|| ApiError::bad_parameter(format!("invalid signal: {text}")))?;
        let container = self.found(key).await?;
        if !container.is_running() {
            return Err(conflict(format!(
                "Cannot kill container: {key}: container {} is not running",
                container_id(&container.id)
            )));
        }
        if let Kind::Alone(own) = &container.kind {
            // Killed as one stops it, it is stopped; other signals are its own affair.
            let is_stop = number == KILL || number == stop_signal(own);
            self.tell_kill(&container, number, is_stop).await?;
        }
        self.control.driver.send(Command::Signal(container.id, number));
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// A signal is on its way to a container outside any service; with `is_stop` it is meant to end.
    async fn tell_kill(
        &self,
        container: &Container,
        number: i32,
        is_stop: bool,
    ) -> Result<(), ApiError> {
        let (id, name, image) = (container.id.clone(), container.name.clone(), container.image());
        let told = self.control.write(move |state| {
            if is_stop {
                state.step_container(&id, Event::Stop);
            }
            let attributes = json!({ "name": name, "image": image, "signal": number.to_string() });
            state.event("container", "kill", &container_id(&id), attributes);
            Ok(())
        });
        told.await
    }

    /// The stop signal, and after the time given (or the grace period) SIGKILL. A service then does
    /// what its restart policy says; a container outside one stays stopped.
    pub(super) async fn stop(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let (named, patience) = (call.get("signal").and_then(signal_number), patience(call));
        match self.end(&container, named, patience).await? {
            true => Ok(empty(StatusCode::NO_CONTENT)),
            false => Ok(empty(StatusCode::NOT_MODIFIED)),
        }
    }

    /// False when it did not run.
    pub(super) async fn end(
        &self,
        container: &Container,
        signal: Option<i32>,
        patience: Option<Duration>,
    ) -> Result<bool, ApiError> {
        if !container.is_running_or_waits() {
            return Ok(false);
        }
        let spec = container.spec();
        let image = self.images.get(&spec.image)?;
        let signal =
            signal.unwrap_or_else(|| plan::stop_signal(&ImageConfig(&image.config), &spec));
        let patience = patience.unwrap_or_else(|| plan::grace(&spec));
        let task = &container.id;
        if let Kind::Alone(_) = container.kind {
            self.tell_kill(container, signal, true).await?;
        }
        self.control.driver.send(Command::Signal(task.clone(), signal));
        if tokio::time::timeout(patience, self.end_of(task)).await.is_err() {
            self.control.driver.send(Command::Signal(task.clone(), KILL));
            self.end_of(task).await?;
        }
        Ok(true)
    }

    /// Answers at once and says the exit code when it is known, so that a client can begin to wait
    /// before it starts the container.
    pub(super) async fn wait(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let condition = call.get("condition").unwrap_or("not-running").to_owned();
        let ends = match &container.kind {
            Kind::Alone(own) => own.ends,
            Kind::Task { .. } => 0,
        };
        let (lines, response) = stream::open("application/json");
        let api = self.clone();
        tokio::spawn(async move {
            let id = &container.id;
            let code = match condition.as_str() {
                "removed" => {
                    api.when(move |state, id| !state.containers.contains_key(id), id).await
                }
                "next-exit" => {
                    let is_over = move |state: &State, id: &TaskId| {
                        state.containers.get(id).is_none_or(|own| own.ends > ends)
                    };
                    api.when(is_over, id).await
                }
                _ => api.end_of(id).await,
            };
            if let Ok(code) = code {
                let line = format!("{}\n", json!({ "StatusCode": code, "Error": null }));
                let _ = lines.send(line.into()).await;
            }
        });
        Ok(response)
    }

    /// Of a service only by force, and only a running one: those that ended are its history.
    pub(super) async fn remove_container(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let id = container_id(&container.id);
        let is_history = matches!(container.kind, Kind::Task { .. }) && !container.is_running();
        if is_history {
            return Err(conflict(format!(
                "container {id} has ended and is part of its service's history \
                 (`docker service ps`); it goes when the history is trimmed or the service removed"
            )));
        }
        if container.is_running_or_waits() && !call.is_set("force") {
            return Err(conflict(format!(
                "cannot remove container {:?}: container is running: stop the container before \
                 removing or force remove",
                format!("/{}", container.name)
            )));
        }
        match container.kind {
            Kind::Task { .. } => {
                self.control.driver.send(Command::Signal(container.id.clone(), KILL));
                self.end_of(&container.id).await?;
            }
            Kind::Alone(_) => {
                let id = container.id.clone();
                let remove = self.control.write(move |state| {
                    state.step_container(&id, Event::Remove);
                    Ok(())
                });
                remove.await?;
                self.when(|state, id| !state.containers.contains_key(id), &container.id).await?;
            }
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Waits for a container's end; its exit code. One that is gone ended.
    async fn end_of(&self, task: &TaskId) -> Result<i32, ApiError> {
        self.when(|state, id| !state.is_running_or_waits(id), task).await
    }

    /// Waits until it is so; the container's last exit code.
    pub(super) async fn when(
        &self,
        is_so: impl Fn(&State, &TaskId) -> bool + Send + Copy + 'static,
        task: &TaskId,
    ) -> Result<i32, ApiError> {
        let mut saved = self.control.saved.clone();
        let mut ends = self.ends.clone();
        loop {
            let id = task.clone();
            let code =
                self.control.read(move |state| is_so(state, &id).then(|| state.code_of(&id)));
            if let Some(code) = code.await? {
                return Ok(code);
            }
            let ended = || ApiError::unavailable("the engine is ending; try again");
            tokio::select! {
                changed = saved.changed() => changed.map_err(|_| ended())?,
                _ = ends.wait_for(|ends| *ends) => return Err(ended()),
            }
        }
    }
}

/// The time given by the client; less than nothing is for ever.
pub(super) fn patience(call: &Call) -> Option<Duration> {
    let seconds = call.get("t").and_then(|seconds| seconds.parse::<i64>().ok())?;
    Some(u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs))
}
