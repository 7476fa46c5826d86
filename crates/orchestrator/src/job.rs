//! Jobs: tasks that run to their end, so many times (`swarmkit/manager/orchestrator/jobs`).
//!
//! ```text
//! iteration n:  every slot 1..=total gets a task, at most `max_concurrent` at a time
//!               exit 0   the slot is complete
//!               failure  the restart policy: another attempt in the same slot, or given up
//! ```
//!
//! An update that changes the tasks begins iteration n + 1 and everything runs again; what still
//! ran of the one before is stopped first. One that does not change them (the same stack deployed once
//! more, more completions, another label) begins none: it runs what is missing, and tries again
//! what was given up.

use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    spec::{Mode, ServiceSpec},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId},
    time::Time,
    world::{Service, World},
};

/// Which run of a job is under way (Docker's `JobStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Counted from 0.
    pub iteration: u64,
    /// When it began.
    pub last_execution: Time,
    /// How many iterations there were before the next one.
    pub(crate) next: u64,
    /// The operator went back to this run: what it left undone stays undone.
    pub(crate) is_taken_back: bool,
}

impl Job {
    /// The operator went back to this run: nothing of it is run any more.
    pub fn is_taken_back(&self) -> bool {
        self.is_taken_back
    }
}

/// How far the iteration under way is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCount {
    pub running: u64,
    pub completed: u64,
    /// Slots that are no longer tried.
    pub given_up: u64,
    /// All completions that are asked for.
    pub total: u64,
    /// Tasks that run at the same time at most (Docker's `DesiredTasks`); for a global job those
    /// that are still to complete.
    pub at_once: u64,
}

impl JobCount {
    /// Every completion is there.
    pub fn is_complete(&self) -> bool {
        self.completed >= self.total
    }
}

impl Service {
    fn slots_of_job(&self, nodes: &[String]) -> (usize, Vec<SlotKey>) {
        match self.spec.mode {
            Mode::ReplicatedJob { max_concurrent, total } => {
                let limit = usize::try_from(max_concurrent).unwrap_or(usize::MAX);
                (limit, (1..=total).map(SlotKey::Replica).collect())
            }
            Mode::GlobalJob => (usize::MAX, nodes.iter().cloned().map(SlotKey::Node).collect()),
            Mode::Replicated { .. } | Mode::Global => (0, Vec::new()),
        }
    }
}

impl World {
    /// How far a job is; none for a service that is no job.
    pub fn job(&self, service: &Service) -> Option<JobCount> {
        if !service.spec.mode.is_job() {
            return None;
        }
        let (limit, slots) = service.slots_of_job(&self.nodes);
        let mut count = JobCount { total: slots.len() as u64, ..JobCount::default() };
        for slot in &slots {
            count.completed += u64::from(self.is_slot_complete(service, slot));
            count.given_up += u64::from(service.parked.contains_key(slot));
        }
        let is_running = |task: &&Task| {
            task.iteration == Some(service.job.iteration) && task.observed == Observed::Running
        };
        count.running = self.tasks_of(&service.id).filter(is_running).count() as u64;
        count.at_once = match service.spec.mode {
            Mode::GlobalJob => count.total - count.completed,
            _ => limit as u64,
        };
        Some(count)
    }

    fn is_slot_complete(&self, service: &Service, slot: &SlotKey) -> bool {
        self.tasks_in(&service.id, slot).any(|task| {
            task.iteration == Some(service.job.iteration) && task.observed == Observed::Complete
        })
    }

    /// Slots where something runs or is about to.
    pub(crate) fn busy_slots(&self, id: &ServiceId) -> usize {
        let slots = self.slots.get(id).into_iter().flat_map(|slots| slots.keys());
        slots.filter(|slot| self.is_busy(id, slot)).count()
    }

    fn is_busy(&self, id: &ServiceId, slot: &SlotKey) -> bool {
        self.tasks_in(id, slot).any(|task| !task.observed.is_end())
    }

    /// Slots of a job that wait for their turn, and how many there is room for now.
    pub(crate) fn waiting_slots(&self, service: &Service, nodes: &[String]) -> Vec<SlotKey> {
        if service.is_removed || service.job.is_taken_back {
            return Vec::new();
        }
        let (limit, slots) = service.slots_of_job(nodes);
        let room = limit.saturating_sub(self.busy_slots(&service.id));
        let waits = |slot: &SlotKey| {
            !service.parked.contains_key(slot)
                && !self.is_busy(&service.id, slot)
                && !self.is_slot_complete(service, slot)
        };
        slots.into_iter().filter(waits).take(room).collect()
    }
}

impl Machine<'_> {
    /// Starts what there is room for.
    pub(crate) fn run_job(&mut self, id: &ServiceId) {
        let nodes = self.eligible_nodes(id);
        let Some(service) = self.service(id) else { return };
        for slot in self.world.waiting_slots(service, &nodes) {
            self.create_in(id, slot);
        }
    }

    /// A changed job. `previous` becomes what it was.
    pub(crate) fn update_job(&mut self, id: &ServiceId, spec: ServiceSpec, version: u64) {
        let now = self.now;
        let Some(service) = self.replace_job(id, spec, version) else { return };
        if !service.spec.mode.is_job() {
            return;
        }
        let was = service.previous.as_ref().map(|(_, spec)| &spec.task.definition);
        if was != Some(&service.spec.task.definition) {
            let next = service.job.next.max(service.job.iteration + 1);
            service.job =
                Job { iteration: next, last_execution: now, next: next + 1, is_taken_back: false };
        }
        self.clear_job(id);
        self.run_job(id);
    }

    /// Back to a spec whose run is over: nothing is run again for it.
    pub(crate) fn take_job_back(&mut self, id: &ServiceId, spec: ServiceSpec, version: u64) {
        let known = self.world.tasks_of(id);
        let run = known
            .filter(|task| task.spec.definition == spec.task.definition)
            .filter_map(|task| task.iteration)
            .max();
        let Some(service) = self.replace_job(id, spec, version) else { return };
        let next = service.job.next.max(service.job.iteration + 1);
        service.job.iteration = run.unwrap_or(next);
        service.job.next = next + 1;
        service.job.is_taken_back = true;
        self.clear_job(id);
    }

    fn replace_job(
        &mut self,
        id: &ServiceId,
        spec: ServiceSpec,
        version: u64,
    ) -> Option<&mut Service> {
        let now = self.now;
        let service = self.service_mut(id).filter(|service| !service.is_removed)?;
        let old = std::mem::replace(&mut service.spec, spec);
        service.previous = Some((service.spec_version, old));
        service.spec_version = version;
        service.updated_at = now;
        service.restarts.clear();
        service.parked.clear();
        Some(service)
    }

    /// Stops what belongs to another iteration or to slots that are no longer asked for; of the
    /// latter nothing is kept.
    fn clear_job(&mut self, id: &ServiceId) {
        let Some(service) = self.service(id) else { return };
        let iteration = Some(service.job.iteration);
        let (_, slots) = service.slots_of_job(&self.world.nodes);
        let wanted: std::collections::BTreeSet<SlotKey> = slots.into_iter().collect();
        let gone: Vec<TaskId> = self
            .world
            .tasks_of(id)
            .filter(|task| {
                let is_outdated = task.iteration != iteration && !task.observed.is_end();
                is_outdated || !wanted.contains(&task.slot)
            })
            .map(|task| task.id.clone())
            .collect();
        for task in gone {
            self.want(&task, Desired::Remove);
        }
    }

    /// One slot of a job: what ended is acted on, and the next slot gets its turn.
    pub(crate) fn advance_job_slot(&mut self, id: &ServiceId, slot: &SlotKey) {
        let ended = |t: &Task| t.observed.is_end() && t.desired < Desired::Shutdown;
        for task in self.in_slot(id, slot, ended) {
            self.want(&task, Desired::Shutdown);
            if self.task(&task).is_some_and(|task| task.observed != Observed::Complete) {
                self.restart(id, slot, &task);
            }
        }
        self.start_replacement(id, slot);
        self.set_slot_timer(id, slot);
        if !self.world.tasks_in(id, slot).any(|task| !task.observed.is_end()) {
            self.run_job(id);
        }
    }
}
