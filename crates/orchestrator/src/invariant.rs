//! What must hold in every state, told in words when it does not.

mod place;

use std::collections::BTreeSet;

use crate::{
    node::Availability,
    spec::Mode,
    task::{Desired, Issued, Observed, ServiceId, SlotKey, Task, TaskId, Traffic},
    world::{Service, World},
};

/// The broken invariants, in words; empty when all hold. Looks at everything: for tests and the
/// simulator, not for the engine's loop.
pub fn check(world: &World) -> Vec<String> {
    let mut broken = Vec::new();
    for task in world.tasks() {
        check_task(world, task, &mut broken);
    }
    for service in world.services() {
        check_service(world, service, &mut broken);
        broken.extend(service.progress.broken().map(|what| format!("{}: {what}", service.id)));
    }
    check_indexes(world, &mut broken);
    place::check(world, &mut broken);
    broken
}

fn check_indexes(world: &World, broken: &mut Vec<String>) {
    let mut indexed: BTreeSet<&TaskId> = BTreeSet::new();
    for (service, slots) in &world.slots {
        for (slot, tasks) in slots {
            for id in tasks {
                let fits = world.task(id).is_some_and(|t| t.service == *service && t.slot == *slot);
                if !fits || !indexed.insert(id) {
                    broken.push(format!("the index has {id} in {slot:?} of {service} wrongly"));
                }
            }
        }
    }
    if indexed.len() != world.tasks.len() {
        let (index, all) = (indexed.len(), world.tasks.len());
        broken.push(format!("{index} tasks in the index, {all} in the world"));
    }
    let is_same = world.timers.len() == world.timer_of.len()
        && world.timers.iter().all(|(at, service, key)| {
            world.timer_of.get(&(service.clone(), key.clone())) == Some(at)
        });
    if !is_same {
        broken.push("the two indexes of timers differ".to_owned());
    }
    for (_, service, _) in &world.timers {
        if !world.services.contains_key(service) {
            broken.push(format!("a timer is left of service {service}, which is gone"));
        }
    }
}

fn check_task(world: &World, task: &Task, broken: &mut Vec<String>) {
    let id = &task.id;
    let mut fails = |is_wrong: bool, what: &str| {
        if is_wrong {
            broken.push(format!("task {id} {what}"));
        }
    };
    let is_taking = matches!(task.traffic, Traffic::Publishing | Traffic::Published);
    let is_stopping = task.desired >= Desired::Shutdown;
    fails(!world.services.contains_key(&task.service), "has no service");
    fails(
        task.observed == Observed::Running && task.running_at.is_none(),
        "runs since no known moment",
    );
    fails(
        task.traffic != Traffic::Off && !task.spec.has_traffic,
        "has no published port, yet its traffic is not off",
    );
    fails(task.traffic > Traffic::Off && task.running_at.is_none(), "takes requests, never ran");
    fails(is_taking && is_stopping, "takes requests and is to be stopped");
    fails(is_taking && task.observed.is_end(), "takes requests and has ended");
    fails(task.desired == Desired::Remove && task.is_over(), "is over and was not deleted");
    fails(
        task.issued == Some(Issued::Stop) && (is_taking || task.traffic == Traffic::Draining),
        "was told to stop before it was drained",
    );
    let is_held = task.prepare_after.is_some()
        && task.issued.is_none()
        && has_timer(world, &task.service, &task.slot);
    fails(
        !is_stopping && !is_held && task.due().is_some_and(|due| task.issued != Some(due)),
        "waits for an action that was never asked for",
    );
    fails(
        is_stopping && !task.is_over() && !task.is_started && task.traffic == Traffic::Off,
        "never started and was not ended",
    );
}

fn check_service(world: &World, service: &Service, broken: &mut Vec<String>) {
    let id = &service.id;
    let is_job = service.spec.mode.is_job();
    if is_job {
        check_job(world, service, broken);
    }
    for slot in world.slots.get(id).into_iter().flat_map(|slots| slots.keys()) {
        check_slot(world, service, slot, broken);
    }
    for slot in service.progress.awaited().chain(service.holds.keys()) {
        if !has_timer(world, id, slot) {
            broken.push(format!("{id}, {slot:?}: waits for a time and has no timer"));
        }
    }
    if service.is_removed && world.tasks_of(id).next().is_none() {
        broken.push(format!("{id} was removed, has no tasks and is still there"));
    }
}

fn check_job(world: &World, service: &Service, broken: &mut Vec<String>) {
    let id = &service.id;
    if service.is_rolling() || service.is_paused() {
        broken.push(format!("{id}: a job has a rollout"));
    }
    let nodes = match service.spec.mode {
        Mode::GlobalJob if !service.spec.task.needs.suits(&world.node) => Vec::new(),
        Mode::GlobalJob if world.node.availability == Availability::Drain => Vec::new(),
        _ => world.nodes.clone(),
    };
    for slot in world.waiting_slots(service, &nodes) {
        broken.push(format!("{id}, {slot:?}: there is room for it and it is not run"));
    }
    let completed: Vec<&SlotKey> = world
        .tasks_of(id)
        .filter(|t| t.iteration == Some(service.job.iteration) && t.observed == Observed::Complete)
        .map(|task| &task.slot)
        .collect();
    if completed.iter().collect::<BTreeSet<_>>().len() != completed.len() {
        broken.push(format!("{id}: a slot completed twice in one iteration"));
    }
    let is_stray = |task: &&Task| task.iteration.is_none();
    for task in world.tasks_of(id).filter(is_stray) {
        broken.push(format!("{id}: task {} belongs to no iteration", task.id));
    }
}

fn has_timer(world: &World, service: &ServiceId, slot: &SlotKey) -> bool {
    let key = crate::world::TimerKey::Slot(slot.clone());
    world.timer_of.contains_key(&(service.clone(), key))
}

/// A global service whose node may not have it.
fn cannot_be_here(world: &World, service: &Service) -> bool {
    let is_closed = world.node.availability == Availability::Drain;
    service.spec.mode == Mode::Global && (is_closed || !service.spec.task.needs.suits(&world.node))
}

fn check_slot(world: &World, service: &Service, slot: &SlotKey, broken: &mut Vec<String>) {
    let id = &service.id;
    let mut fails = |is_wrong: bool, what: &str| {
        if is_wrong {
            broken.push(format!("{id}, {slot:?}: {what}"));
        }
    };
    let tasks: Vec<&Task> = world.tasks_in(id, slot).collect();
    let live: Vec<&Task> = tasks.iter().copied().filter(|task| task.is_live()).collect();
    let is_between = service.is_rolling()
        || service.is_paused()
        || service.progress.owns(slot)
        || service.holds.contains_key(slot);
    let serving = live.iter().filter(|task| task.is_serving()).count();
    fails(serving > 1 && !is_between, "two tasks serve outside of any replacement");
    fails(live.len() > 3, "more than three live tasks");
    fails(
        tasks.iter().any(|task| task.observed.is_end() && task.desired < Desired::Shutdown),
        "an end was not acted on",
    );
    let is_wanted = tasks.iter().any(|task| task.desired != Desired::Remove);
    fails(
        live.is_empty()
            && is_wanted
            && !service.is_removed
            && !service.spec.mode.is_job()
            && !cannot_be_here(world, service)
            && !service.progress.will_fill(slot)
            && !service.parked.contains_key(slot),
        "empty, and nothing will fill it",
    );
    let waits = live.iter().any(|task| {
        let is_held = task.desired == Desired::Ready && task.start_after.is_some();
        let replaced = task.restart_of.as_ref().and_then(|id| world.task(id));
        let is_stopping =
            replaced.is_some_and(|t| t.desired >= Desired::Shutdown && !t.observed.is_end());
        is_held && !is_stopping
    });
    fails(waits && !has_timer(world, id, slot), "a replacement waits and has no timer");
}
