//! The restart policy: what follows when a task ends or turns unhealthy by itself
//! (`swarmkit/manager/orchestrator/restart`). History lives in the service, so it survives.

use std::time::Duration;

use crate::{
    machine::Machine,
    spec::{RestartCondition, RestartPolicy, UpdateOrder},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId},
    time::Time,
    world::Service,
};

/// How long an attempt is remembered. A window shorter than the delays between the restarts would
/// forget each before the next and never count to the limit, so the delays are added to it.
fn memory(policy: &RestartPolicy) -> Duration {
    let delays = u32::try_from(policy.max_attempts).unwrap_or(u32::MAX);
    policy.window.saturating_add(policy.delay.saturating_mul(delays))
}

impl Machine<'_> {
    /// A task that was wanted has ended.
    pub(crate) fn ended_unasked(&mut self, id: &TaskId) {
        let Some(task) = self.task(id) else { return };
        let (service, slot) = (task.service.clone(), task.slot.clone());
        let is_failure = match task.observed {
            Observed::Failed | Observed::Rejected => true,
            _ => task.spec.restart.condition == RestartCondition::Any,
        };
        self.want(id, Desired::Shutdown);
        self.give_up_replaced(id);
        if is_failure {
            self.failed_in_rollout(&service, id);
        }
        self.step_over(&service, &slot, id);
        self.restart(&service, &slot, id);
    }

    /// Probes failed. Where the order is start-first, a task that served goes on until its
    /// replacement serves; any other is stopped now.
    pub(crate) fn unhealthy(&mut self, id: &TaskId, error: String) {
        let Some(task) = self.task(id).filter(|task| task.is_live() && !task.is_unhealthy) else {
            return;
        };
        // A job has no rollouts, and no second task for the same completion.
        let was_serving = task.is_serving() && task.iteration.is_none();
        let (service, slot) = (task.service.clone(), task.slot.clone());
        let order = self.service(&service).map(|service| service.spec.update.order);
        let is_new_in_rollout =
            self.service(&service).is_some_and(|service| service.progress.is_watched(id));
        if let Some(task) = self.task_mut(id) {
            task.is_unhealthy = true;
            task.detail = Some(error);
        }
        let keeps = was_serving && order == Some(UpdateOrder::StartFirst) && !is_new_in_rollout;
        if !keeps {
            self.want(id, Desired::Shutdown);
        }
        self.failed_in_rollout(&service, id);
        self.step_over(&service, &slot, id);
        if !self.restart(&service, &slot, id) {
            self.want(id, Desired::Shutdown);
        }
    }

    /// The replacement of an unhealthy task failed: the unhealthy one is not kept any longer.
    fn give_up_replaced(&mut self, replacement: &TaskId) {
        let replaced = self.task(replacement).and_then(|task| task.restart_of.clone());
        if let Some(replaced) = replaced
            && self.task(&replaced).is_some_and(|task| task.is_unhealthy)
        {
            self.want(&replaced, Desired::Shutdown);
        }
    }

    /// Replaces a task under the policy; false when there will be no replacement.
    pub(crate) fn restart(&mut self, id: &ServiceId, slot: &SlotKey, dead: &TaskId) -> bool {
        let Some(service) = self.service(id) else { return false };
        let Some(task) = self.task(dead) else { return false };
        if service.is_removed || task.desired == Desired::Remove {
            return false;
        }
        let refusal = if self.may_replace(service, slot, task) {
            self.attempt(service, slot, task).err()
        } else if self.is_left_empty(service, slot, dead) {
            let why = "not restarted, its revision failed in the rollout";
            Some(format!("{slot}: {why}, {}", last_error(task)))
        } else {
            return false;
        };
        if let Some(reason) = refusal {
            if let Some(service) = self.service_mut(id) {
                service.parked.insert(slot.clone(), reason);
            }
            return false;
        }
        let is_settled = !service.is_rolling() && !service.is_paused();
        let (version, spec) = if is_settled {
            (service.spec_version, service.spec.task.clone())
        } else {
            (task.spec_version, task.spec.clone())
        };
        let now = self.now;
        let policy = task.spec.restart;
        // A replacement that failed before its delay was over does not shorten the wait, and what
        // cannot be prepared is tried once per delay.
        let held = task.start_after.filter(|at| *at > now);
        let new = self.add_task(id, slot.clone(), version, spec, Desired::Ready);
        if let Some(task) = self.task_mut(&new) {
            task.start_after = Some(held.unwrap_or(now) + policy.delay);
            task.prepare_after = held;
            task.restart_of = Some(dead.clone());
        }
        self.settle(&new);
        if let Some(service) = self.service_mut(id) {
            let times = service.restarts.entry(slot.clone()).or_default();
            times.push(now);
            let keep = usize::try_from(limit(&policy)).unwrap_or(usize::MAX).max(1);
            let excess = times.len().saturating_sub(keep);
            times.drain(..excess);
        }
        true
    }

    fn is_left_empty(&self, service: &Service, slot: &SlotKey, dead: &TaskId) -> bool {
        let is_other = |task: &Task| task.id != *dead && task.is_live();
        !service.progress.will_fill(slot) && !self.world.tasks_in(&service.id, slot).any(is_other)
    }

    /// Whether the slot wants a replacement at all, policy aside.
    fn may_replace(&self, service: &Service, slot: &SlotKey, dead: &Task) -> bool {
        let is_current = dead.spec.definition == service.spec.task.definition;
        let is_going_back = service.rollout.as_ref().is_some_and(|r| {
            matches!(
                r.state,
                crate::RolloutState::RollbackStarted | crate::RolloutState::RollbackPaused
            )
        });
        if is_going_back && !is_current {
            return false;
        }
        // The revision that made the rollout pause is not started again and again.
        let monitor = service.spec.update.monitor;
        let is_unproven = dead.running_at.is_none_or(|at| self.now.since(at) <= monitor);
        if service.is_paused() && is_current && is_unproven {
            return false;
        }
        let others: Vec<&Task> = self
            .world
            .tasks_in(&service.id, slot)
            .filter(|task| task.id != dead.id && task.is_live() && !task.is_unhealthy)
            .collect();
        // A failure that the rollout tolerates does not leave the slot on the old revision.
        let goes_on = !service.is_paused()
            && is_current
            && others.iter().all(|t| t.spec.definition != dead.spec.definition);
        others.is_empty() || goes_on
    }

    /// What the policy says: `Err` with the reason why the slot stays as it is.
    fn attempt(&self, service: &Service, slot: &SlotKey, dead: &Task) -> Result<(), String> {
        let policy = dead.spec.restart;
        let is_success = dead.observed == Observed::Complete;
        match policy.condition {
            RestartCondition::None => {
                let why = "not restarted, its restart condition is none";
                return Err(format!("{slot}: {why}, {}", last_error(dead)));
            }
            RestartCondition::OnFailure if is_success => {
                let why = "ended with exit code 0, its restart condition is on-failure";
                return Err(format!("{slot}: {why}"));
            }
            RestartCondition::OnFailure | RestartCondition::Any => {}
        }
        if policy.max_attempts == 0 {
            return Ok(());
        }
        // The last attempt's own run, unless it outlived the window, takes none of the window away.
        let ran = dead.running_at.map_or(Duration::ZERO, |at| self.now.since(at));
        let back = memory(&policy).saturating_add(ran.min(policy.window)).as_nanos();
        let since = if policy.window.is_zero() {
            Time(0)
        } else {
            Time(self.now.0.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX)))
        };
        let recent =
            service.restarts.get(slot).into_iter().flatten().filter(|at| **at >= since).count();
        if u64::try_from(recent).unwrap_or(u64::MAX) < limit(&policy) {
            return Ok(());
        }
        let times = if recent == 1 { "restart" } else { "restarts" };
        let within = match policy.window.as_secs() {
            0 => String::new(),
            seconds if seconds % 60 == 0 => format!(" within {}m", seconds / 60),
            seconds => format!(" within {seconds}s"),
        };
        Err(format!("{slot} stopped: {recent} {times}{within}, {}", last_error(dead)))
    }
}

/// How many restarts are counted at most; each is remembered with its time.
fn limit(policy: &RestartPolicy) -> u64 {
    policy.max_attempts.min(1000)
}

fn last_error(task: &Task) -> String {
    let error = task.error.as_deref().or(task.detail.as_deref()).unwrap_or("exit code 0");
    format!("last error: {error}")
}
