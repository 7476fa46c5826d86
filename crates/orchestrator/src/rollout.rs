//! Moving the slots of a service to a revision, forward or back, a few at a time.
//!
//! ```text
//! one slot:   Coming ──▶ Holding ──▶ Pausing ──▶ done        start-first
//!             Coming ───────────────▶ Pausing ──▶ done       stop-first
//!
//! Coming   the new task is made; stop-first: once it is prepared the old one is stopped, and only
//!          when that has ended is the new one started
//! Holding  the new task serves; the old one is kept until the monitor time has passed
//! Pausing  the update's delay, before the next slot is taken
//! ```
//!
//! A new task that fails before it serves, or within the monitor time after, counts against
//! `max_failure_ratio`; beyond it the rollout pauses or goes back to the last good revision.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    spec::{FailureAction, UpdateConfig, UpdateOrder},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId},
    time::Time,
    world::{Revision, RolloutState, RolloutStatus, TimerKey, pairs},
};

/// Where one slot stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    Coming { new: TaskId, deadline: Time },
    Holding { new: TaskId, since: Time, until: Time },
    Pausing { until: Time },
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    todo: BTreeSet<SlotKey>,
    #[serde(with = "pairs")]
    active: BTreeMap<SlotKey, Step>,
    /// New tasks whose failure counts, and until when (none: they do not serve yet).
    #[serde(with = "pairs")]
    watched: BTreeMap<TaskId, Option<Time>>,
    watch_ends: BTreeSet<(Time, TaskId)>,
    /// Slots that were to be replaced when it began.
    total: u32,
    failures: u32,
}

impl Progress {
    /// The rollout will make, or has just made, a task for this slot.
    pub(crate) fn owns(&self, slot: &SlotKey) -> bool {
        self.todo.contains(slot) || self.active.contains_key(slot)
    }

    pub(crate) fn abandon(&mut self, slot: &SlotKey) {
        self.todo.remove(slot);
        self.active.remove(slot);
    }

    pub(crate) fn is_watched(&self, task: &TaskId) -> bool {
        self.watched.contains_key(task)
    }

    pub(crate) fn unwatch(&mut self, task: &TaskId) -> bool {
        match self.watched.remove(task) {
            Some(Some(end)) => self.watch_ends.remove(&(end, task.clone())),
            Some(None) => true,
            None => false,
        }
    }

    fn watch_until(&mut self, task: &TaskId, end: Time) {
        if let Some(entry) = self.watched.get_mut(task) {
            if let Some(old) = entry.replace(end) {
                self.watch_ends.remove(&(old, task.clone()));
            }
            self.watch_ends.insert((end, task.clone()));
        }
    }

    fn is_done(&self) -> bool {
        self.todo.is_empty() && self.active.is_empty() && self.watched.is_empty()
    }
}

impl Machine<'_> {
    /// Starts replacing every slot that is not as the spec says.
    pub(crate) fn begin_rollout(&mut self, id: &ServiceId, state: RolloutState, message: &str) {
        let now = self.now;
        if let Some(service) = self.service_mut(id) {
            service.parked.clear();
            service.restarts.clear();
            service.progress = Progress::default();
        }
        let dirty: BTreeSet<SlotKey> =
            self.wanted_slots(id).into_iter().filter(|slot| self.is_dirty(id, slot)).collect();
        let is_back = state == RolloutState::RollbackStarted;
        if let Some(service) = self.service_mut(id) {
            service.progress.total = u32::try_from(dirty.len()).unwrap_or(u32::MAX);
            if !dirty.is_empty() || is_back {
                let started_at = service
                    .rollout
                    .as_ref()
                    .filter(|_| is_back)
                    .map_or(now, |status| status.started_at);
                let message = message.to_owned();
                service.rollout =
                    Some(RolloutStatus { state, started_at, completed_at: None, message });
            }
            service.progress.todo = dirty;
        }
        self.reconcile(id);
        self.rollouts.insert(id.clone());
    }

    /// `docker service rollback`: the spec and the previous one change places.
    pub(crate) fn roll_back_by_hand(&mut self, id: &ServiceId) {
        let Some(previous) = self.service(id).and_then(|service| service.previous.clone()) else {
            return;
        };
        if let Some(service) = self.service_mut(id) {
            service.rollout = None;
            service.previous = Some((service.spec_version, service.spec.clone()));
        }
        self.go_back(id, previous, "manually requested rollback");
    }

    fn go_back(&mut self, id: &ServiceId, (version, spec): Revision, message: &str) {
        let now = self.now;
        if let Some(service) = self.service_mut(id) {
            service.spec = spec;
            service.spec_version = version;
            service.updated_at = now;
        }
        self.begin_rollout(id, RolloutState::RollbackStarted, message);
    }

    fn is_dirty(&self, id: &ServiceId, slot: &SlotKey) -> bool {
        let Some(service) = self.service(id) else { return false };
        let mut live = self.world.tasks_in(id, slot).filter(|task| task.is_live());
        match (live.next(), live.next()) {
            (Some(only), None) => {
                let is_abandoned = only.desired == Desired::Ready && only.start_after.is_none();
                is_abandoned || only.spec.definition != service.spec.task.definition
            }
            _ => true,
        }
    }

    /// The settings of the rollout that is under way.
    fn settings(&self, id: &ServiceId) -> UpdateConfig {
        self.service(id).map_or_else(UpdateConfig::default, |service| {
            match service.rollout.as_ref().map(|status| status.state) {
                Some(RolloutState::RollbackStarted | RolloutState::RollbackPaused) => {
                    service.spec.rollback
                }
                _ => service.spec.update,
            }
        })
    }

    /// Brings one slot as far as it goes now.
    pub(crate) fn advance_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        for task in self.in_slot(id, slot, |t| t.observed.is_end() && t.desired < Desired::Shutdown)
        {
            self.ended_unasked(&task);
        }
        let step = self.service(id).and_then(|s| s.progress.active.get(slot).cloned());
        match step {
            Some(Step::Coming { new, deadline }) => self.advance_coming(id, slot, &new, deadline),
            Some(Step::Holding { new, since, until }) if self.now >= until => {
                self.release_old(id, slot, &new, since);
            }
            Some(Step::Pausing { until }) if self.now >= until => {
                if let Some(service) = self.service_mut(id) {
                    service.progress.active.remove(slot);
                }
                self.rollouts.insert(id.clone());
            }
            Some(Step::Holding { .. }) => {}
            Some(Step::Pausing { .. }) | None => self.settle_slot(id, slot),
        }
        self.start_replacement(id, slot);
        self.set_slot_timer(id, slot);
    }

    /// Outside a rollout: once the newest task serves, older ones of the slot may go.
    fn settle_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        let Some(service) = self.service(id) else { return };
        // While paused, or before the rollout came here, two revisions may share a slot; only what
        // is unhealthy goes.
        let keeps_healthy = service.is_paused() || service.progress.todo.contains(slot);
        let live = self.in_slot(id, slot, Task::is_live);
        let Some((newest, older)) = live.split_last() else { return };
        if self.task(newest).is_some_and(Task::is_serving) {
            for task in older {
                if !keeps_healthy || self.task(task).is_some_and(|task| task.is_unhealthy) {
                    self.want(task, Desired::Shutdown);
                }
            }
        }
    }

    /// A restart's replacement starts when its delay is over and the task it replaces has ended,
    /// or serves on until then.
    fn start_replacement(&mut self, id: &ServiceId, slot: &SlotKey) {
        let now = self.now;
        let waiting = self.in_slot(id, slot, |task| {
            task.is_live()
                && task.desired == Desired::Ready
                && task.start_after.is_some_and(|at| at <= now)
        });
        for task in waiting {
            let is_blocked = self
                .world
                .tasks_in(id, slot)
                .any(|t| t.id != task && !t.observed.is_end() && t.desired >= Desired::Shutdown);
            if !is_blocked {
                self.want(&task, Desired::Running);
            }
        }
    }

    fn advance_coming(&mut self, id: &ServiceId, slot: &SlotKey, new: &TaskId, deadline: Time) {
        let settings = self.settings(id);
        let Some(task) = self.task(new).filter(|task| task.desired <= Desired::Running) else {
            return self.step_over(&id.clone(), slot, new);
        };
        if task.is_serving() {
            return self.serves(id, slot, new, &settings);
        }
        if self.now >= deadline {
            return self.stuck(id, slot, new, &settings);
        }
        if settings.order == UpdateOrder::StartFirst || task.desired == Desired::Running {
            return self.want(new, Desired::Running);
        }
        if task.observed < Observed::Ready {
            return;
        }
        let others = self.in_slot(id, slot, |t| t.id != *new && !t.observed.is_end());
        let next = self.later(settings.progress_deadline);
        if let Some(service) = self.service_mut(id) {
            let step = Step::Coming { new: new.clone(), deadline: next };
            service.progress.active.insert(slot.clone(), step);
        }
        if others.is_empty() {
            self.want(new, Desired::Running);
        }
        for task in others {
            self.want(&task, Desired::Shutdown);
        }
    }

    /// The new task takes requests.
    fn serves(&mut self, id: &ServiceId, slot: &SlotKey, new: &TaskId, settings: &UpdateConfig) {
        let now = self.now;
        let until = self.later(settings.monitor);
        let has_older = !self.in_slot(id, slot, |t| t.is_live() && t.id != *new).is_empty();
        let Some(service) = self.service_mut(id) else { return };
        service.progress.watch_until(new, until);
        let step = if has_older {
            Step::Holding { new: new.clone(), since: now, until }
        } else {
            Step::Pausing { until: now + settings.delay }
        };
        service.progress.active.insert(slot.clone(), step);
        self.pending.insert((id.clone(), slot.clone()));
        self.rollouts.insert(id.clone());
    }

    /// The new task proved itself: the old ones go, and the delay runs from when it first served.
    fn release_old(&mut self, id: &ServiceId, slot: &SlotKey, new: &TaskId, since: Time) {
        let delay = self.settings(id).delay;
        if let Some(service) = self.service_mut(id) {
            service.progress.unwatch(new);
            service.progress.active.insert(slot.clone(), Step::Pausing { until: since + delay });
        }
        for task in self.in_slot(id, slot, |t| t.is_live() && t.id != *new) {
            self.want(&task, Desired::Shutdown);
        }
        self.pending.insert((id.clone(), slot.clone()));
    }

    /// The new task did not become ready in time.
    fn stuck(&mut self, id: &ServiceId, slot: &SlotKey, new: &TaskId, settings: &UpdateConfig) {
        let within = settings.progress_deadline.as_secs_f64();
        if let Some(task) = self.task_mut(new) {
            task.is_unhealthy = true;
            task.error = Some(format!("task: not ready within {within}s (progress deadline)"));
        }
        self.want(new, Desired::Shutdown);
        self.failed_in_rollout(id, new);
        self.step_over(id, slot, new);
        self.restart(id, slot, new);
    }

    /// The slot's new task is gone: the worker waits the delay and takes the next slot.
    pub(crate) fn step_over(&mut self, id: &ServiceId, slot: &SlotKey, dead: &TaskId) {
        let until = self.later(self.settings(id).delay);
        let Some(service) = self.service(id) else { return };
        let is_its = match service.progress.active.get(slot) {
            Some(Step::Coming { new, .. } | Step::Holding { new, .. }) => new == dead,
            _ => false,
        };
        if !is_its {
            return;
        }
        if let Some(service) = self.service_mut(id) {
            service.progress.unwatch(dead);
            service.progress.active.insert(slot.clone(), Step::Pausing { until });
        }
        self.pending.insert((id.clone(), slot.clone()));
        self.rollouts.insert(id.clone());
    }

    /// Counts a failure of a task that this rollout made, and acts when there are too many.
    pub(crate) fn failed_in_rollout(&mut self, id: &ServiceId, task: &TaskId) {
        let settings = self.settings(id);
        let now = self.now;
        self.rollouts.insert(id.clone());
        let Some(service) = self.service_mut(id) else { return };
        let is_late = matches!(service.progress.watched.get(task), Some(Some(end)) if *end < now);
        if !service.progress.unwatch(task) || is_late || !service.is_rolling() {
            return;
        }
        service.progress.failures += 1;
        #[expect(clippy::cast_precision_loss, reason = "Docker computes this ratio as float32")]
        let ratio = service.progress.failures as f32 / service.progress.total.max(1) as f32;
        if ratio <= settings.max_failure_ratio {
            return;
        }
        let is_back =
            service.rollout.as_ref().map(|s| s.state) == Some(RolloutState::RollbackStarted);
        let good = service.last_good.clone();
        match (settings.failure_action, is_back, good) {
            (FailureAction::Continue, ..) => {}
            (FailureAction::Rollback, false, Some(good)) => {
                service.previous = service.good_before.clone();
                let why = "update rolled back due to failure or early termination of task";
                self.go_back(id, good, &format!("{why} {task}"));
            }
            (FailureAction::Pause | FailureAction::Rollback, ..) => self.pause(id, is_back, task),
        }
    }

    /// No further slot is taken; what is under way ends.
    fn pause(&mut self, id: &ServiceId, is_back: bool, task: &TaskId) {
        let Some(service) = self.service_mut(id) else { return };
        service.progress.todo.clear();
        if let Some(status) = &mut service.rollout {
            let (state, what) = if is_back {
                (RolloutState::RollbackPaused, "rollback")
            } else {
                (RolloutState::Paused, "update")
            };
            status.state = state;
            status.message =
                format!("{what} paused due to failure or early termination of task {task}");
        }
    }

    /// Takes further slots, and ends the rollout when nothing is left to do or to watch.
    pub(crate) fn advance_rollout(&mut self, id: &ServiceId) {
        let now = self.now;
        let settings = self.settings(id);
        let Some(service) = self.service_mut(id) else { return };
        while let Some((end, task)) = service.progress.watch_ends.first().cloned() {
            if end > now {
                break;
            }
            service.progress.unwatch(&task);
        }
        let limit = match settings.parallelism {
            0 => usize::MAX,
            some => usize::try_from(some).unwrap_or(usize::MAX),
        };
        let mut taken = Vec::new();
        while service.is_rolling() && service.progress.active.len() + taken.len() < limit {
            let Some(slot) = service.progress.todo.pop_first() else { break };
            taken.push(slot);
        }
        for slot in &taken {
            self.take(id, slot, &settings);
        }
        let Some(service) = self.service(id) else { return };
        if service.is_rolling() && service.progress.is_done() {
            self.complete(id);
        }
        self.set_rollout_timer(id);
    }

    /// Begins with one slot: an up-to-date task that is there already is used.
    fn take(&mut self, id: &ServiceId, slot: &SlotKey, settings: &UpdateConfig) {
        let Some(service) = self.service(id) else { return };
        let (version, spec) = (service.spec_version, service.spec.task.clone());
        let live = self.in_slot(id, slot, Task::is_live);
        let has_current = |id: &TaskId| {
            self.task(id).is_some_and(|t| t.spec.definition == spec.definition && !t.is_unhealthy)
        };
        let current = live.iter().rev().find(|id| has_current(id)).cloned();
        let is_serving =
            current.as_ref().and_then(|id| self.task(id)).is_some_and(Task::is_serving);
        if let (Some(current), true) = (&current, is_serving) {
            for task in live.iter().filter(|task| *task != current) {
                self.want(task, Desired::Shutdown);
            }
            self.rollouts.insert(id.clone());
            return;
        }
        // Of what earlier rollouts left here, one serving task is kept; the rest is not waited for.
        let outdated = live.iter().filter(|task| Some(*task) != current.as_ref());
        let (serving, idle): (Vec<_>, Vec<_>) =
            outdated.cloned().partition(|id| self.task(id).is_some_and(Task::is_serving));
        let surplus = if serving.is_empty() { idle.into_iter().skip(1).collect() } else { idle };
        for task in surplus.iter().chain(serving.iter().skip(1)) {
            self.want(task, Desired::Shutdown);
        }
        let new = current.unwrap_or_else(|| {
            let waits = settings.order == UpdateOrder::StopFirst && !live.is_empty();
            let desired = if waits { Desired::Ready } else { Desired::Running };
            self.create_task(id, slot.clone(), version, spec, desired)
        });
        let deadline = self.later(settings.progress_deadline);
        if let Some(service) = self.service_mut(id) {
            service.progress.watched.insert(new.clone(), None);
            service.progress.active.insert(slot.clone(), Step::Coming { new, deadline });
        }
        self.pending.insert((id.clone(), slot.clone()));
    }

    fn complete(&mut self, id: &ServiceId) {
        let now = self.now;
        let Some(service) = self.service_mut(id) else { return };
        service.progress = Progress::default();
        let Some(status) = &mut service.rollout else { return };
        status.completed_at = Some(now);
        if status.state == RolloutState::RollbackStarted {
            status.state = RolloutState::RollbackCompleted;
            status.message = "rollback completed".to_owned();
        } else {
            status.state = RolloutState::Completed;
            status.message = "update completed".to_owned();
        }
        let good = (service.spec_version, service.spec.clone());
        if service.last_good.as_ref().is_none_or(|(version, _)| *version != good.0) {
            service.good_before = service.last_good.take();
        }
        service.last_good = Some(good);
        self.settle_all(id);
    }

    /// Slots that the rollout left with two tasks are looked at once more.
    fn settle_all(&mut self, id: &ServiceId) {
        let Some(slots) = self.world.slots.get(id) else { return };
        let several: Vec<SlotKey> =
            slots.iter().filter(|(_, tasks)| tasks.len() > 1).map(|(s, _)| s.clone()).collect();
        for slot in several {
            self.pending.insert((id.clone(), slot));
        }
    }

    pub(crate) fn set_slot_timer(&mut self, id: &ServiceId, slot: &SlotKey) {
        let step =
            self.service(id).and_then(|s| s.progress.active.get(slot)).map(|step| match step {
                Step::Coming { deadline, .. } => *deadline,
                Step::Holding { until, .. } | Step::Pausing { until } => *until,
            });
        let now = self.now;
        let start = self
            .world
            .tasks_in(id, slot)
            .filter(|task| task.is_live() && task.desired == Desired::Ready)
            .filter_map(|task| task.start_after)
            .filter(|at| *at > now)
            .min();
        let at = step.into_iter().chain(start).min();
        self.world.set_timer(id, TimerKey::Slot(slot.clone()), at);
    }

    pub(crate) fn set_rollout_timer(&mut self, id: &ServiceId) {
        let at = self.service(id).and_then(|s| s.progress.watch_ends.first()).map(|(at, _)| *at);
        self.world.set_timer(id, TimerKey::Rollout, at);
    }
}
