//! `step`: one event in, actions out.
//!
//! An event changes a task or a service; the slots it touched are then advanced until nothing
//! moves, and every touched task is asked what is due ([`Task::due`](crate::Task)). No action is
//! decided anywhere else.

use std::{collections::BTreeSet, net::SocketAddr};

use crate::{
    event::{Action, Event, Observation},
    task::{Desired, Issued, Observed, ServiceId, SlotKey, Task, TaskId, Traffic},
    time::Time,
    world::{Service, TimerKey, World},
};

/// Applies one event and returns what must be done now.
pub fn step(world: &mut World, now: Time, event: Event) -> Vec<Action> {
    let mut machine = Machine::new(world, now);
    match event {
        Event::ServiceCreated { id, spec, version } => machine.create_service(id, spec, version),
        Event::ServiceUpdated { id, spec, version } => machine.update_service(&id, spec, version),
        Event::RollbackRequested { id } => machine.roll_back_by_hand(&id),
        Event::JobTakenBack { id, spec, version } => machine.take_job_back(&id, spec, version),
        Event::NodeChanged(node) => machine.change_node(node),
        Event::ServiceRemoved { id } => machine.remove_service(&id),
        Event::Observed { task, what } => machine.observe(&task, what),
        Event::Published { task } => machine.published(&task),
        Event::Drained { task } => machine.drained(&task),
        Event::Tick => machine.tick(),
    }
    machine.run()
}

/// When `step(…, Event::Tick)` is due next; `None` when nothing waits for time.
pub fn next_deadline(world: &World) -> Option<Time> {
    world.timers.first().map(|(at, _, _)| *at)
}

/// All actions that are due in this state, for an engine that just started.
pub fn resume(world: &World) -> Vec<Action> {
    world.tasks().filter_map(|task| task.due().map(|due| action(due, task.id.clone()))).collect()
}

pub use crate::invariant::check;

/// Sets every timer anew, after a restore.
pub(crate) fn rebuild_timers(world: &mut World) {
    let all: Vec<(ServiceId, Vec<SlotKey>)> = world
        .slots
        .iter()
        .map(|(service, slots)| (service.clone(), slots.keys().cloned().collect()))
        .collect();
    let mut machine = Machine::new(world, Time(0));
    for (service, slots) in all {
        for slot in slots {
            machine.set_slot_timer(&service, &slot);
        }
        machine.set_rollout_timer(&service);
    }
}

/// One step under way.
pub(crate) struct Machine<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) now: Time,
    actions: Vec<Action>,
    /// Slots to advance.
    pub(crate) pending: BTreeSet<(ServiceId, SlotKey)>,
    /// Services whose rollout may take the next slot.
    pub(crate) rollouts: BTreeSet<ServiceId>,
    /// Something ended or changed: a task that waits for its place may have one now.
    pub(crate) is_room_made: bool,
}

impl<'a> Machine<'a> {
    fn new(world: &'a mut World, now: Time) -> Self {
        let (pending, rollouts) = (BTreeSet::new(), BTreeSet::new());
        Self { world, now, actions: Vec::new(), pending, rollouts, is_room_made: false }
    }

    /// Advances what was touched until nothing moves.
    fn run(mut self) -> Vec<Action> {
        loop {
            if let Some((service, slot)) = self.pending.pop_first() {
                self.advance_slot(&service, &slot);
            } else if let Some(service) = self.rollouts.pop_first() {
                self.advance_rollout(&service);
            } else if std::mem::take(&mut self.is_room_made) {
                self.place_waiting();
            } else {
                return self.actions;
            }
        }
    }

    pub(crate) fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.world.services.get(id)
    }

    pub(crate) fn service_mut(&mut self, id: &ServiceId) -> Option<&mut Service> {
        let service = self.world.services.get_mut(id)?;
        self.world.changes.services.insert(id.clone());
        Some(service)
    }

    pub(crate) fn task(&self, id: &TaskId) -> Option<&Task> {
        self.world.tasks.get(id)
    }

    pub(crate) fn task_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        let task = self.world.tasks.get_mut(id)?;
        self.world.changes.tasks.insert(id.clone());
        self.pending.insert((task.service.clone(), task.slot.clone()));
        Some(task)
    }

    /// Ids of the tasks in a slot that satisfy `is`, oldest first.
    pub(crate) fn in_slot(
        &self,
        service: &ServiceId,
        slot: &SlotKey,
        is: impl Fn(&Task) -> bool,
    ) -> Vec<TaskId> {
        self.world.tasks_in(service, slot).filter(|t| is(t)).map(|t| t.id.clone()).collect()
    }

    /// Moves what is wanted of a task forward, never back.
    pub(crate) fn want(&mut self, id: &TaskId, desired: Desired) {
        if self.task(id).is_none_or(|task| task.desired >= desired) {
            return;
        }
        if let Some(task) = self.task_mut(id) {
            task.desired = desired;
        }
        if desired >= Desired::Shutdown {
            self.world.unplaced.remove(id);
            self.is_room_made = true;
        }
        self.settle(id);
    }

    /// Ends what never started, deletes what is over, and asks for what is due.
    pub(crate) fn settle(&mut self, id: &TaskId) {
        let now = self.now;
        let Some(task) = self.task(id) else { return };
        if task.desired >= Desired::Shutdown
            && !task.is_started
            && !task.observed.is_end()
            && let Some(task) = self.task_mut(id)
        {
            // Given up on before it was started (the progress deadline) is a failure, told as such.
            let is_given_up = task.error.is_some();
            task.observed = if is_given_up { Observed::Failed } else { Observed::Shutdown };
            task.observed_at = now;
        }
        let Some(task) = self.task(id) else { return };
        if task.desired == Desired::Remove && task.is_over() {
            self.delete(id);
            return;
        }
        let due = task.due();
        if due.is_none() || due == task.issued {
            return;
        }
        let Some(due) = due else { return };
        if due == Issued::Prepare && task.prepare_after.is_some_and(|at| at > now) {
            return;
        }
        if let Some(task) = self.task_mut(id) {
            task.issued = Some(due);
            match due {
                Issued::Start => task.is_started = true,
                Issued::Publish => task.traffic = Traffic::Publishing,
                Issued::Drain => task.traffic = Traffic::Draining,
                Issued::Prepare | Issued::Stop => {}
            }
        }
        self.actions.push(action(due, id.clone()));
    }

    /// Out of history, or removed.
    pub(crate) fn delete(&mut self, id: &TaskId) {
        let Some(task) = self.world.tasks.remove(id) else { return };
        self.world.unindex(&task);
        self.world.changes.tasks.insert(id.clone());
        self.is_room_made = true;
        self.pending.insert((task.service.clone(), task.slot.clone()));
        self.actions.push(Action::Forget { task: id.clone() });
        let is_last = !self.world.slots.contains_key(&task.service);
        if is_last && self.service(&task.service).is_some_and(|service| service.is_removed) {
            self.drop_service(&task.service);
        }
    }

    fn observe(&mut self, id: &TaskId, what: Observation) {
        // Nobody has been told of a task that waits for its place.
        if self.task(id).is_none_or(|task| task.observed.is_end() || task.unplaced.is_some()) {
            return;
        }
        match what {
            Observation::Preparing => self.advance_to(id, Observed::Preparing),
            Observation::Ready => self.advance_to(id, Observed::Ready),
            Observation::Starting => self.advance_to(id, Observed::Starting),
            Observation::Running { address } => self.runs(id, address),
            Observation::Unhealthy { error } => self.unhealthy(id, error),
            Observation::Exited { exit_code, error } => self.exited(id, exit_code, error),
            Observation::Rejected { error } => self.rejected(id, error),
        }
        self.settle(id);
    }

    fn advance_to(&mut self, id: &TaskId, observed: Observed) {
        let now = self.now;
        if self.task(id).is_none_or(|task| task.observed >= observed) {
            return;
        }
        if let Some(task) = self.task_mut(id) {
            task.observed = observed;
            task.observed_at = now;
            task.is_started |= observed >= Observed::Starting;
        }
    }

    fn runs(&mut self, id: &TaskId, address: Option<SocketAddr>) {
        self.advance_to(id, Observed::Running);
        let now = self.now;
        if let Some(task) = self.task_mut(id) {
            task.address = address.or(task.address);
            task.running_at.get_or_insert(now);
        }
    }

    /// The process ended, in Docker's words (`swarmkit/agent/exec/controller.go`).
    fn exited(&mut self, id: &TaskId, exit_code: Option<i32>, error: Option<String>) {
        let now = self.now;
        self.is_room_made = true;
        let Some(task) = self.task_mut(id) else { return };
        task.observed_at = now;
        task.exit_code = exit_code;
        if task.is_unhealthy {
            task.observed = Observed::Failed;
            let text = match exit_code.unwrap_or(0) {
                0 => "task: unhealthy container".to_owned(),
                code => format!("task: non-zero exit ({code}): dockerexec: unhealthy container"),
            };
            task.error.get_or_insert(text);
        } else if task.desired >= Desired::Shutdown {
            task.observed = Observed::Shutdown;
        } else if error.is_none() && exit_code.unwrap_or(0) == 0 {
            task.observed = Observed::Complete;
        } else {
            task.observed = Observed::Failed;
            let code = exit_code.unwrap_or(-1);
            task.error = error.or_else(|| Some(format!("task: non-zero exit ({code})")));
        }
    }

    /// It could not be prepared: there never was a process.
    fn rejected(&mut self, id: &TaskId, error: String) {
        let now = self.now;
        self.is_room_made = true;
        let Some(task) = self.task_mut(id) else { return };
        task.observed_at = now;
        if task.desired >= Desired::Shutdown && !task.is_unhealthy {
            task.observed = Observed::Shutdown;
            return;
        }
        task.observed = Observed::Rejected;
        task.error.get_or_insert(error);
    }

    fn published(&mut self, id: &TaskId) {
        if self.task(id).is_some_and(|task| task.traffic == Traffic::Publishing)
            && let Some(task) = self.task_mut(id)
        {
            task.traffic = Traffic::Published;
        }
        self.settle(id);
    }

    fn drained(&mut self, id: &TaskId) {
        if self.task(id).is_some_and(|task| task.traffic == Traffic::Draining)
            && let Some(task) = self.task_mut(id)
        {
            task.traffic = Traffic::Drained;
        }
        self.settle(id);
    }

    fn tick(&mut self) {
        while let Some((at, service, key)) = self.world.timers.first().cloned() {
            if at > self.now {
                return;
            }
            self.world.set_timer(&service, key.clone(), None);
            match key {
                TimerKey::Slot(slot) => {
                    self.pending.insert((service, slot));
                }
                TimerKey::Rollout => {
                    self.rollouts.insert(service);
                }
            }
        }
    }
}

fn action(due: Issued, task: TaskId) -> Action {
    match due {
        Issued::Prepare => Action::Prepare { task },
        Issued::Start => Action::Start { task },
        Issued::Publish => Action::Publish { task },
        Issued::Drain => Action::Drain { task },
        Issued::Stop => Action::Stop { task },
    }
}
