//! Moving the slots of a service to a revision, forward or back, a few at a time.
//!
//! ```text
//! one slot:   Coming ──▶ Holding ──▶ Pausing ──▶ done                   start-first
//!             Coming ──▶ Stopping ──▶ Coming ──▶ Pausing ──▶ done      stop-first
//!
//! Coming    the new task is made: prepared, then started, within the progress deadline
//! Stopping  the new task is prepared, the old one stops; its own grace period bounds that
//! Holding   the new task serves; the old one is kept until the monitor time has passed
//! Pausing   the update's delay, before the next slot is taken
//! ```
//!
//! A new task that fails before it serves, or within the monitor time after, counts against
//! `max_failure_ratio`; beyond it the rollout pauses or goes back to the last good revision.

mod slot;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    spec::{FailureAction, UpdateConfig},
    task::{Desired, ServiceId, SlotKey, Task, TaskId},
    time::Time,
    world::{Revision, RolloutState, RolloutStatus, Service, TimerKey, pairs},
};

/// Where one slot stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    Coming { new: TaskId, deadline: Time },
    Stopping { new: TaskId },
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

    /// The rollout has a task for this slot, or will make one.
    pub(crate) fn will_fill(&self, slot: &SlotKey) -> bool {
        let is_past = |step: &Step| matches!(step, Step::Pausing { .. });
        self.todo.contains(slot) || self.active.get(slot).is_some_and(|step| !is_past(step))
    }

    pub(crate) fn abandon(&mut self, slot: &SlotKey) {
        self.todo.remove(slot);
        self.active.remove(slot);
    }

    /// The slot's task was taken away: unless it proved itself already, the slot is done once more.
    pub(crate) fn again(&mut self, slot: &SlotKey, task: &TaskId, is_rolling: bool) {
        self.unwatch(task);
        if self.active.remove(slot).is_some() && is_rolling {
            self.todo.insert(slot.clone());
        }
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

    /// More failed than the settings tolerate (a strict comparison, as Docker's).
    #[expect(clippy::cast_precision_loss, reason = "Docker computes this ratio as float32")]
    fn is_failing(&self, settings: &UpdateConfig) -> bool {
        self.failures as f32 / self.total.max(1) as f32 > settings.max_failure_ratio
    }

    /// Slots whose step ends at a time.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = &SlotKey> {
        let is_timed = |step: &&Step| !matches!(step, Step::Stopping { .. });
        self.active.iter().filter(move |(_, step)| is_timed(step)).map(|(slot, _)| slot)
    }

    /// What of the progress contradicts itself, in words.
    pub(crate) fn broken(&self) -> impl Iterator<Item = String> {
        let ends: BTreeSet<(Time, TaskId)> = self
            .watched
            .iter()
            .filter_map(|(task, end)| end.map(|end| (end, task.clone())))
            .collect();
        let watch = (ends != self.watch_ends).then_some("the watched tasks and their ends differ");
        let both = self.active.keys().any(|slot| self.todo.contains(slot));
        let both = both.then_some("a slot is under way and still to do");
        watch.into_iter().chain(both).map(str::to_owned)
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
            service.restarts.clear();
            service.holds.clear();
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
            service.parked.retain(|slot, _| dirty.contains(slot));
            service.progress.todo = dirty;
            if service.rollout.is_none() {
                // No slot had to change: there is nothing that could still fail.
                note_good(service);
            }
        }
        self.reconcile(id);
        self.rollouts.insert(id.clone());
    }

    /// `docker service rollback`: the spec and the previous one change places.
    pub(crate) fn roll_back_by_hand(&mut self, id: &ServiceId) {
        let Some(previous) = self.service(id).and_then(|service| service.previous.clone()) else {
            return;
        };
        let (version, spec) = previous;
        if spec.mode.is_job() {
            return self.update_job(id, spec, version);
        }
        if let Some(service) = self.service_mut(id) {
            service.rollout = None;
            service.previous = Some((service.spec_version, service.spec.clone()));
        }
        self.go_back(id, (version, spec), "manually requested rollback");
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
        let Some(service) = self.service(id) else { return UpdateConfig::default() };
        let mut settings = match service.rollout.as_ref().map(|status| status.state) {
            Some(RolloutState::RollbackStarted | RolloutState::RollbackPaused) => {
                service.spec.rollback
            }
            _ => service.spec.update,
        };
        // On the wire 0 is the default of 5 s, so an explicit zero arrives as one nanosecond.
        if settings.monitor <= Duration::from_nanos(1) {
            settings.monitor = Duration::ZERO;
        }
        settings
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
        if !service.progress.is_failing(&settings) {
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
        let untouched = std::mem::take(&mut service.progress.todo);
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
        for slot in untouched {
            self.fill_untouched(id, &slot);
        }
    }

    /// A slot that was empty before the paused rollout came to it gets the last good revision.
    fn fill_untouched(&mut self, id: &ServiceId, slot: &SlotKey) {
        let Some(service) = self.service(id) else { return };
        if service.parked.contains_key(slot) || self.world.tasks_in(id, slot).any(Task::is_live) {
            return;
        }
        let now_in_force = &service.spec.task.definition;
        let is_other = |(_, good): &Revision| good.task.definition != *now_in_force;
        if service.last_good.as_ref().is_some_and(is_other) {
            return self.create_in(id, slot.clone());
        }
        if let Some(service) = self.service_mut(id) {
            let why = format!("{slot}: not filled while the rollout is paused");
            service.parked.insert(slot.clone(), why);
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

    fn complete(&mut self, id: &ServiceId) {
        let now = self.now;
        let settings = self.settings(id);
        let Some(service) = self.service_mut(id) else { return };
        // With the action `continue` a rollout ends even when everything failed.
        if !service.progress.is_failing(&settings) {
            note_good(service);
        }
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

    pub(crate) fn set_rollout_timer(&mut self, id: &ServiceId) {
        let at = self.service(id).and_then(|s| s.progress.watch_ends.first()).map(|(at, _)| *at);
        self.world.set_timer(id, TimerKey::Rollout, at);
    }
}

/// The spec in force proved itself. The same tasks under other settings are the same revision.
fn note_good(service: &mut Service) {
    let good = (service.spec_version, service.spec.clone());
    let is_other = |(_, spec): &Revision| spec.task.definition != service.spec.task.definition;
    if service.last_good.as_ref().is_some_and(is_other) {
        service.good_before = service.last_good.take();
    }
    service.last_good = Some(good);
}
