//! What must hold of every action, and of the world once it has come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use orchestrator::{
    Action, Availability, Desired, Event, JobCount, Mode, Observed, Service, TaskId, Time, Traffic,
    UpdateOrder, World,
};

use crate::play::Behaviour;

/// Every completion is there, or its attempts are used up.
fn job_at_rest(service: &Service, count: JobCount) -> Option<String> {
    let is_over = count.completed + count.given_up >= count.total && count.running == 0;
    (!is_over && !service.job.is_taken_back())
        .then(|| format!("{}: a job came to rest at {count:?}", service.id))
}

/// Looks at actions as they are asked for.
#[derive(Debug, Default)]
pub struct Judge {
    published: BTreeSet<TaskId>,
    drained: BTreeSet<TaskId>,
}

impl Judge {
    /// Remembers which tasks took requests.
    pub fn seen(&mut self, event: &Event) {
        if let Event::Published { task } = event {
            self.published.insert(task.clone());
        }
    }

    /// The invariants that an action alone can break.
    pub fn action(&mut self, world: &World, action: &Action) -> Option<String> {
        match action {
            Action::Stop { task } => {
                let task = world.task(task)?;
                matches!(task.traffic, Traffic::Publishing | Traffic::Published | Traffic::Draining)
                    .then(|| format!("{} is stopped before it was drained", task.id))
            }
            Action::Start { task } => {
                let service = world.service(&world.task(task)?.service)?;
                let Mode::ReplicatedJob { max_concurrent, .. } = service.spec.mode else {
                    return None;
                };
                let active = world
                    .tasks_of(&service.id)
                    .filter(|task| task.is_started && !task.observed.is_end())
                    .count();
                (active > max_concurrent as usize)
                    .then(|| format!("{}: {active} at once, {max_concurrent} allowed", service.id))
            }
            Action::Drain { task } => {
                // Only what took requests counts. Repeated after a crash of the engine: judged when it was first asked.
                if !self.drained.insert(task.clone()) || !self.published.contains(task) {
                    return None;
                }
                let task = world.task(task)?;
                let service = world.service(&task.service)?;
                let is_update = task.desired == Desired::Shutdown
                    && task.observed == Observed::Running
                    && !task.is_unhealthy
                    && service.is_rolling()
                    && task.spec.definition != service.spec.task.definition;
                let order = match service.rollout.as_ref().map(|r| r.state) {
                    Some(orchestrator::RolloutState::Updating) => service.spec.update.order,
                    _ => return None,
                };
                if !is_update || order != UpdateOrder::StartFirst {
                    return None;
                }
                // Two that may never be together, and a node that is emptied, have no cover.
                let is_alone = task.spec.needs.max_per_node > 0
                    || service.spec.task.needs.max_per_node > 0
                    || world.node().availability == Availability::Drain;
                if is_alone {
                    return None;
                }
                let is_covered = world
                    .tasks_in(&task.service, &task.slot)
                    .any(|other| other.id != task.id && other.is_serving());
                (!is_covered).then(|| {
                    format!("{} stops taking requests and nothing in its slot serves", task.id)
                })
            }
            _ => None,
        }
    }

    /// What must hold when nothing moves any more.
    pub fn at_rest(
        &self,
        world: &World,
        now: Time,
        behaviours: &BTreeMap<String, Behaviour>,
    ) -> Vec<String> {
        let mut broken = Vec::new();
        let is_good = |definition: &str| {
            behaviours.get(definition).is_none_or(|behaviour| behaviour.is_good())
        };
        for service in world.services() {
            let id = &service.id;
            if service.is_removed {
                broken.push(format!("{id} was removed and is still there"));
                continue;
            }
            if let Some(count) = world.job(service) {
                let waits = world.tasks_of(id).any(|t| t.is_live() && t.unplaced.is_some());
                broken.extend(job_at_rest(service, count).filter(|_| !waits));
                continue;
            }
            if service.is_rolling() {
                broken.push(format!("{id}: its rollout never ended: {service:?}"));
            }
            let live: Vec<_> = world.tasks_of(id).filter(|task| task.is_live()).collect();
            let serving = live.iter().filter(|task| task.is_serving()).count();
            let parked = service
                .parked()
                .filter(|(slot, _)| {
                    !live.iter().any(|task| task.slot == **slot && task.is_serving())
                })
                .count();
            let wanted = match service.spec.mode {
                Mode::Replicated { replicas } => replicas as usize,
                Mode::Global => 1,
                Mode::ReplicatedJob { .. } | Mode::GlobalJob => 0,
            };
            // Without room for two, a new task may wait for ever beside the old one that serves.
            let waits = |task: &&&orchestrator::Task| {
                task.unplaced.is_some()
                    && !service.parked().any(|(slot, _)| *slot == task.slot)
                    && !live.iter().any(|t| t.slot == task.slot && t.is_serving())
            };
            let waiting: BTreeSet<_> = live.iter().filter(waits).map(|task| &task.slot).collect();
            let waiting = waiting.len();
            let is_full = live.iter().any(|task| task.unplaced.is_some());
            let all_good = is_good(&service.spec.task.definition)
                && live.iter().all(|task| is_good(&task.spec.definition));
            if all_good && !service.is_paused() && serving + parked + waiting != wanted {
                let told = format!("{serving} serve, {parked} parked, {waiting} wait");
                broken.push(format!("{id}: {told}, {wanted} wanted"));
            }
            if live.len() > wanted + parked && !is_full && !service.is_paused() && all_good {
                broken.push(format!("{id}: {} live tasks, {wanted} wanted", live.len()));
            }
            // An old task whose tolerated replacement failed for good keeps its slot served.
            let is_uniform = live.iter().all(|task| {
                task.spec.definition == service.spec.task.definition
                    || service.parked().any(|(slot, _)| *slot == task.slot)
            });
            if !is_uniform && !is_full && !service.is_paused() && all_good {
                broken.push(format!("{id}: tasks of another revision are left"));
            }
            let undrained = world
                .tasks_of(id)
                .filter(|task| task.desired >= Desired::Shutdown && !task.is_over())
                // In a crash loop there is always one on its way.
                .filter(|task| now.since(task.observed_at) > Duration::from_secs(120))
                .count();
            if undrained > 0 {
                broken.push(format!("{id}: {undrained} tasks never came to their end"));
            }
        }
        broken
    }
}
