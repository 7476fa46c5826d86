//! Which slots a service has: creation, update, scale, removal (`swarmkit/manager/orchestrator`).

use std::collections::BTreeSet;

use crate::{
    job::Job,
    machine::Machine,
    node::Availability,
    rollout::Progress,
    spec::{Mode, ServiceSpec, TaskSpec},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId, Traffic},
    time::Time,
    world::{Revision, RolloutState, Service},
};

impl Machine<'_> {
    pub(crate) fn create_service(&mut self, id: ServiceId, spec: ServiceSpec, version: u64) {
        if self.service(&id).is_some() {
            return;
        }
        let service = Service {
            id: id.clone(),
            spec,
            spec_version: version,
            previous: None,
            last_good: None,
            good_before: None,
            rollout: None,
            created_at: self.now,
            updated_at: self.now,
            is_removed: false,
            job: Job { last_execution: self.now, next: 1, ..Job::default() },
            progress: Progress::default(),
            restarts: Default::default(),
            holds: Default::default(),
            parked: Default::default(),
        };
        self.world.services.insert(id.clone(), service);
        self.world.changes.services.insert(id.clone());
        self.reconcile(&id);
    }

    pub(crate) fn update_service(&mut self, id: &ServiceId, spec: ServiceSpec, version: u64) {
        let now = self.now;
        let Some(service) = self.service_mut(id) else { return };
        if service.is_removed {
            return;
        }
        if service.spec.mode.is_job() {
            return self.update_job(id, spec, version);
        }
        let is_dirty = service.spec.task.definition != spec.task.definition;
        let old = (service.spec_version, std::mem::replace(&mut service.spec, spec));
        service.updated_at = now;
        let was_good = service.last_good.as_ref().is_none_or(|(good, _)| *good == old.0);
        if !is_dirty {
            change_settings(service, old, was_good);
            self.reconcile(id);
            self.rollouts.insert(id.clone());
            return;
        }
        service.spec_version = version;
        service.last_good.get_or_insert_with(|| old.clone());
        service.previous = if was_good { Some(old) } else { service.last_good.clone() };
        service.rollout = None;
        self.begin_rollout(id, RolloutState::Updating, "update in progress");
    }

    pub(crate) fn remove_service(&mut self, id: &ServiceId) {
        let Some(service) = self.service_mut(id) else { return };
        service.is_removed = true;
        service.rollout = None;
        service.progress = Progress::default();
        service.holds.clear();
        let tasks: Vec<TaskId> = self.world.tasks_of(id).map(|task| task.id.clone()).collect();
        if tasks.is_empty() {
            self.drop_service(id);
        }
        for task in tasks {
            self.want(&task, Desired::Remove);
        }
    }

    /// The last task of a removed service is gone.
    pub(crate) fn drop_service(&mut self, id: &ServiceId) {
        self.world.services.remove(id);
        self.world.changes.services.insert(id.clone());
        self.world.set_timer(id, crate::world::TimerKey::Rollout, None);
    }

    /// Makes the slots what the mode says: missing ones are created, too many are removed.
    /// Slots under a rollout, or parked, count as present.
    pub(crate) fn reconcile(&mut self, id: &ServiceId) {
        let Some(service) = self.service(id).filter(|service| !service.is_removed) else { return };
        let mode = service.spec.mode;
        let present: BTreeSet<SlotKey> = self
            .world
            .slots
            .get(id)
            .into_iter()
            .flat_map(|slots| slots.keys())
            .filter(|slot| self.is_present(service, slot))
            .cloned()
            .collect();
        match mode {
            Mode::Replicated { replicas } => self.scale(id, &present, replicas),
            Mode::Global => self.spread(id, &present),
            Mode::ReplicatedJob { .. } | Mode::GlobalJob => self.run_job(id),
        }
    }

    fn is_present(&self, service: &Service, slot: &SlotKey) -> bool {
        service.parked.contains_key(slot)
            || service.progress.owns(slot)
            || self.world.tasks_in(&service.id, slot).any(Task::is_live)
    }

    /// One task on each node that can have one.
    fn spread(&mut self, id: &ServiceId, present: &BTreeSet<SlotKey>) {
        for node in self.eligible_nodes(id) {
            let slot = SlotKey::Node(node);
            if !present.contains(&slot) {
                self.create_in(id, slot);
            }
        }
    }

    fn scale(&mut self, id: &ServiceId, present: &BTreeSet<SlotKey>, replicas: u32) {
        let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
        if present.len() > wanted {
            let mut ranked: Vec<(bool, &SlotKey)> = present
                .iter()
                .map(|slot| (!self.world.tasks_in(id, slot).any(Task::is_serving), slot))
                .collect();
            ranked.sort();
            for (_, slot) in &ranked[wanted..] {
                self.remove_slot(id, slot);
            }
            return;
        }
        let mut missing = wanted - present.len();
        for number in 1..=u32::MAX {
            if missing == 0 {
                return;
            }
            let slot = SlotKey::Replica(number);
            if !present.contains(&slot) {
                missing -= 1;
                self.create_in(id, slot);
            }
        }
    }

    fn remove_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        if let Some(service) = self.service_mut(id) {
            service.parked.remove(slot);
            service.restarts.remove(slot);
            service.holds.remove(slot);
            service.progress.abandon(slot);
        }
        for task in self.in_slot(id, slot, |_| true) {
            if let Some(service) = self.service_mut(id) {
                service.progress.unwatch(&task);
            }
            self.want(&task, Desired::Remove);
        }
        self.rollouts.insert(id.clone());
    }

    /// A new task in a slot that a scale or a creation asked for. While a rollout is paused, new
    /// slots get the last good spec, never the one that failed.
    pub(crate) fn create_in(&mut self, id: &ServiceId, slot: SlotKey) {
        let Some(service) = self.service(id) else { return };
        let (version, spec) = match (&service.last_good, service.is_paused()) {
            (Some((version, good)), true) => (*version, good.task.clone()),
            _ => (service.spec_version, service.spec.task.clone()),
        };
        self.create_task(id, slot, version, spec, Desired::Running);
    }

    pub(crate) fn create_task(
        &mut self,
        service: &ServiceId,
        slot: SlotKey,
        spec_version: u64,
        spec: TaskSpec,
        desired: Desired,
    ) -> TaskId {
        let id = self.add_task(service, slot, spec_version, spec, desired);
        self.settle(&id);
        id
    }

    /// A new task of which nothing is asked yet.
    pub(crate) fn add_task(
        &mut self,
        service: &ServiceId,
        slot: SlotKey,
        spec_version: u64,
        spec: TaskSpec,
        desired: Desired,
    ) -> TaskId {
        let id = TaskId(self.world.draw_id());
        let node = match &slot {
            SlotKey::Node(node) => node.clone(),
            SlotKey::Replica(_) => self.world.nodes.first().cloned().unwrap_or_default(),
        };
        let job = self.service(service).filter(|service| service.spec.mode.is_job());
        let iteration = job.map(|service| service.job.iteration);
        let attempts = usize::try_from(spec.restart.max_attempts).unwrap_or(usize::MAX);
        let task = Task {
            id: id.clone(),
            service: service.clone(),
            slot: slot.clone(),
            node,
            spec_version,
            spec,
            iteration,
            unplaced: None,
            desired,
            observed: Observed::New,
            traffic: Traffic::Off,
            is_unhealthy: false,
            detail: None,
            error: None,
            exit_code: None,
            address: None,
            created_at: self.now,
            observed_at: self.now,
            running_at: None,
            start_after: None,
            prepare_after: None,
            restart_of: None,
            is_started: false,
            issued: None,
        };
        self.world.index(&task);
        self.world.tasks.insert(id.clone(), task);
        self.world.changes.tasks.insert(id.clone());
        self.pending.insert((service.clone(), slot.clone()));
        self.place(&id);
        self.trim_history(service, &slot, attempts);
        id
    }

    /// Keeps at most the history limit per slot, the new task included; with a limited number of
    /// restarts at least those.
    fn trim_history(&mut self, service: &ServiceId, slot: &SlotKey, attempts: usize) {
        let limit = self.world.history_limit.max(attempts.saturating_add(1).min(100));
        let count = self.world.tasks_in(service, slot).count();
        let over = self.in_slot(service, slot, Task::is_over);
        for task in over.into_iter().take(count.saturating_sub(limit)) {
            self.delete(&task);
        }
    }

    /// The slots that the mode asks for and that exist or existed.
    pub(crate) fn wanted_slots(&self, id: &ServiceId) -> Vec<SlotKey> {
        let Some(slots) = self.world.slots.get(id) else { return Vec::new() };
        let is_global = self.service(id).is_some_and(|service| service.spec.mode == Mode::Global);
        // Where the node is drained, a global service has no slot but for what is still there.
        let is_closed = is_global && self.world.node.availability == Availability::Drain;
        let counts = |task: &Task| task.is_live() || !is_closed && task.desired != Desired::Remove;
        slots
            .iter()
            .filter(|(_, tasks)| tasks.iter().filter_map(|t| self.task(t)).any(counts))
            .map(|(slot, _)| slot.clone())
            .collect()
    }

    pub(crate) fn later(&self, by: std::time::Duration) -> Time {
        self.now + by
    }
}

/// A scale or new settings: a rollout goes on as it is, a paused one stays paused, and the way back
/// to what worked is kept, with the new number of replicas.
fn change_settings(service: &mut Service, old: Revision, was_good: bool) {
    // What a rollout that is over came to says nothing of this change.
    if !service.is_rolling() && !service.is_paused() {
        service.rollout = None;
    }
    if was_good {
        if service.last_good.is_some() {
            service.last_good = Some((service.spec_version, service.spec.clone()));
        }
        service.previous = Some(old);
        return;
    }
    for (_, spec) in service.last_good.iter_mut().chain(&mut service.previous) {
        spec.mode = service.spec.mode;
    }
}
