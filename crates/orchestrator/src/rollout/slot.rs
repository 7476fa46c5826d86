//! One slot of a rollout: its new task comes, proves itself, and the old one goes.

use super::Step;
use crate::{
    machine::Machine,
    spec::{UpdateConfig, UpdateOrder},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId},
    time::Time,
    world::TimerKey,
};

impl Machine<'_> {
    /// Begins with one slot: an up-to-date task that is there already is used.
    pub(super) fn take(&mut self, id: &ServiceId, slot: &SlotKey, settings: &UpdateConfig) {
        let Some(service) = self.service_mut(id) else { return };
        service.parked.remove(slot);
        let (version, spec) = (service.spec_version, service.spec.task.clone());
        let live = self.in_slot(id, slot, Task::is_live);
        let has_current = |id: &TaskId| {
            self.task(id).is_some_and(|t| t.spec.definition == spec.definition && !t.is_unhealthy)
        };
        let current = live.iter().rev().find(|id| has_current(id)).cloned();
        let is_serving =
            current.as_ref().and_then(|id| self.task(id)).is_some_and(Task::is_serving);
        let is_proven = is_serving && !self.is_on_trial(current.as_ref(), &live, settings);
        if let (Some(current), true) = (&current, is_proven) {
            for task in live.iter().filter(|task| *task != current) {
                self.dismiss(task);
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
            self.dismiss(task);
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

    /// It serves, but not for long, and another one of the slot serves beside it.
    fn is_on_trial(&self, task: Option<&TaskId>, live: &[TaskId], settings: &UpdateConfig) -> bool {
        let since = task.and_then(|id| self.task(id)).and_then(|task| task.running_at);
        since.is_some_and(|since| self.now < since + settings.monitor)
            && live.iter().any(|id| Some(id) != task && self.task(id).is_some_and(Task::is_serving))
    }

    /// Of no more use. One that was never started leaves no row in the history.
    fn dismiss(&mut self, id: &TaskId) {
        let is_started = self.task(id).is_some_and(|task| task.is_started);
        self.want(id, if is_started { Desired::Shutdown } else { Desired::Remove });
    }

    /// Brings one slot as far as it goes now.
    pub(crate) fn advance_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        if self.service(id).is_some_and(|service| service.spec.mode.is_job()) {
            return self.advance_job_slot(id, slot);
        }
        for task in self.in_slot(id, slot, |t| t.observed.is_end() && t.desired < Desired::Shutdown)
        {
            self.ended_unasked(&task);
        }
        let step = self.service(id).and_then(|s| s.progress.active.get(slot).cloned());
        match step {
            Some(Step::Coming { new, deadline }) => self.advance_coming(id, slot, &new, deadline),
            Some(Step::Stopping { new }) => self.advance_stopping(id, slot, &new),
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

    /// Outside a rollout: once the newest task serves, unhealthy ones of the slot go, and healthy
    /// ones when it has proved itself.
    fn settle_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        let now = self.now;
        let monitor = self.settings(id).monitor;
        let Some(service) = self.service(id) else { return };
        // While paused, or before the rollout came here, two revisions may share a slot; only what
        // is unhealthy goes.
        let keeps_healthy = service.is_paused() || service.progress.todo.contains(slot);
        let hold = service.holds.get(slot).cloned();
        let live = self.in_slot(id, slot, Task::is_live);
        let Some((newest, older)) = live.split_last() else { return self.end_hold(id, slot) };
        if !self.task(newest).is_some_and(Task::is_serving) {
            let may_take_all = !keeps_healthy;
            self.make_room(id, newest, older, may_take_all);
            return self.end_hold(id, slot);
        }
        let (ill, healthy): (Vec<&TaskId>, Vec<&TaskId>) =
            older.iter().partition(|id| self.task(id).is_some_and(|task| task.is_unhealthy));
        for task in ill {
            self.want(task, Desired::Shutdown);
        }
        if healthy.is_empty() || keeps_healthy {
            return self.end_hold(id, slot);
        }
        let until = hold.filter(|(of, _)| of == newest).map_or(now + monitor, |(_, until)| until);
        if until > now {
            if let Some(service) = self.service_mut(id) {
                service.holds.insert(slot.clone(), (newest.clone(), until));
            }
            return;
        }
        self.end_hold(id, slot);
        for task in healthy {
            self.want(task, Desired::Shutdown);
        }
    }

    /// The newest task has no place while older ones of its slot have it: ill ones go for it, and
    /// all where two can never be together.
    fn make_room(&mut self, id: &ServiceId, newest: &TaskId, older: &[TaskId], may_take_all: bool) {
        if !self.is_kept_out_by_its_slot(newest) {
            return;
        }
        let goes_all = may_take_all && self.must_stop_first(newest, self.settings(id).order);
        for task in older {
            if goes_all || self.task(task).is_some_and(|task| task.is_unhealthy) {
                self.want(task, Desired::Shutdown);
            }
        }
    }

    fn end_hold(&mut self, id: &ServiceId, slot: &SlotKey) {
        if self.service(id).is_some_and(|service| service.holds.contains_key(slot))
            && let Some(service) = self.service_mut(id)
        {
            service.holds.remove(slot);
        }
    }

    /// A restart's replacement starts when its delay is over and the task it replaces has ended,
    /// or serves on until then.
    pub(crate) fn start_replacement(&mut self, id: &ServiceId, slot: &SlotKey) {
        let now = self.now;
        let held = |task: &Task| task.is_live() && task.prepare_after.is_some_and(|at| at <= now);
        for task in self.in_slot(id, slot, held) {
            self.settle(&task);
        }
        let waiting = self.in_slot(id, slot, |task| {
            task.is_live()
                && task.desired == Desired::Ready
                && task.start_after.is_some_and(|at| at <= now)
        });
        for task in waiting {
            let replaced = self.task(&task).and_then(|task| task.restart_of.as_ref());
            let is_stopping = replaced
                .and_then(|id| self.task(id))
                .is_some_and(|t| t.desired >= Desired::Shutdown && !t.observed.is_end());
            if !is_stopping {
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
        let is_kept_out = self.must_stop_first(new, settings.order);
        let comes_first = settings.order == UpdateOrder::StartFirst;
        if (comes_first || task.desired == Desired::Running) && !is_kept_out {
            return self.want(new, Desired::Running);
        }
        if task.observed < Observed::Ready && !is_kept_out {
            return;
        }
        if let Some(service) = self.service_mut(id) {
            service.progress.active.insert(slot.clone(), Step::Stopping { new: new.clone() });
        }
        for task in self.in_slot(id, slot, |t| t.is_live() && t.id != *new) {
            self.want(&task, Desired::Shutdown);
        }
        self.pending.insert((id.clone(), slot.clone()));
    }

    /// The new task has no place while the old one has it. With start-first that is changed only
    /// where two can never be together: a service that asks for both would wait for ever. Short
    /// of memory or processors the old task goes on serving, and the deadline decides.
    fn must_stop_first(&self, new: &TaskId, order: UpdateOrder) -> bool {
        let is_limited = self.task(new).is_some_and(|task| task.spec.needs.max_per_node > 0);
        (order == UpdateOrder::StopFirst || is_limited) && self.is_kept_out_by_its_slot(new)
    }

    /// Stop-first: the new task starts when the old one has really ended.
    fn advance_stopping(&mut self, id: &ServiceId, slot: &SlotKey, new: &TaskId) {
        if self.task(new).is_none_or(|task| !task.is_live()) {
            return self.step_over(id, slot, new);
        }
        if !self.in_slot(id, slot, |t| t.id != *new && !t.observed.is_end()).is_empty() {
            return;
        }
        let deadline = self.later(self.settings(id).progress_deadline);
        if let Some(service) = self.service_mut(id) {
            let step = Step::Coming { new: new.clone(), deadline };
            service.progress.active.insert(slot.clone(), step);
        }
        self.want(new, Desired::Running);
        self.pending.insert((id.clone(), slot.clone()));
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
            let why = task.unplaced.as_ref().map_or_else(String::new, |unplaced| {
                format!(": {}: {}", unplaced.reason, unplaced.detail)
            });
            task.error = Some(format!("task: not ready within {within}s (progress deadline){why}"));
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
            Some(Step::Coming { new, .. } | Step::Stopping { new } | Step::Holding { new, .. }) => {
                new == dead
            }
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

    pub(crate) fn set_slot_timer(&mut self, id: &ServiceId, slot: &SlotKey) {
        let service = self.service(id);
        let step = service.and_then(|s| s.progress.active.get(slot)).and_then(|step| match step {
            Step::Coming { deadline, .. } => Some(*deadline),
            Step::Holding { until, .. } | Step::Pausing { until } => Some(*until),
            Step::Stopping { .. } => None,
        });
        let hold = service.and_then(|s| s.holds.get(slot)).map(|(_, until)| *until);
        let now = self.now;
        let start = self
            .world
            .tasks_in(id, slot)
            .filter(|task| task.is_live() && task.desired == Desired::Ready)
            .flat_map(|task| [task.prepare_after, task.start_after])
            .flatten()
            .filter(|at| *at > now)
            .min();
        let at = step.into_iter().chain(hold).chain(start).min();
        self.world.set_timer(id, TimerKey::Slot(slot.clone()), at);
    }
}
