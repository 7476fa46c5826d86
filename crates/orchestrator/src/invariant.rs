//! What must hold in every state, told in words when it does not.

use crate::{
    task::{Desired, Observed, Task, Traffic},
    world::{Service, World},
};

/// The broken invariants, in words; empty when all hold.
pub fn check(world: &World) -> Vec<String> {
    let mut broken = Vec::new();
    for task in world.tasks() {
        check_task(world, task, &mut broken);
    }
    for service in world.services() {
        check_service(world, service, &mut broken);
    }
    let indexed: usize = world.slots.values().flat_map(|s| s.values()).map(Vec::len).sum();
    if indexed != world.tasks.len() {
        broken.push(format!("{indexed} tasks in the index, {} in the world", world.tasks.len()));
    }
    if world.timers.len() != world.timer_of.len() {
        broken.push("the two indexes of timers differ".to_owned());
    }
    broken
}

fn check_task(world: &World, task: &Task, broken: &mut Vec<String>) {
    let id = &task.id;
    if !world.services.contains_key(&task.service) {
        broken.push(format!("task {id} has no service"));
    }
    if task.observed == Observed::Running && task.running_at.is_none() {
        broken.push(format!("task {id} runs since never"));
    }
    if task.traffic != Traffic::Off && !task.spec.has_traffic {
        broken.push(format!("task {id} has no published port, yet traffic is {:?}", task.traffic));
    }
    if task.desired == Desired::Remove && task.is_over() {
        broken.push(format!("task {id} is over and was not deleted"));
    }
    if task.issued == Some(crate::task::Issued::Stop)
        && matches!(task.traffic, Traffic::Publishing | Traffic::Published)
    {
        broken.push(format!("task {id} was told to stop while it takes requests"));
    }
}

fn check_service(world: &World, service: &Service, broken: &mut Vec<String>) {
    let id = &service.id;
    let Some(slots) = world.slots.get(id) else { return };
    for (slot, tasks) in slots {
        let live: Vec<&Task> =
            tasks.iter().filter_map(|t| world.task(t)).filter(|t| t.is_live()).collect();
        let is_settled = !service.is_rolling()
            && !service.is_paused()
            && !service.progress.owns(slot)
            && !live.iter().any(|t| t.is_unhealthy || !t.is_serving());
        if is_settled && live.len() > 1 {
            broken.push(format!("service {id}, slot {slot:?}: {} tasks serve", live.len()));
        }
        if live.len() > 3 {
            broken.push(format!("service {id}, slot {slot:?}: {} live tasks", live.len()));
        }
        let ended_unhandled = tasks
            .iter()
            .filter_map(|t| world.task(t))
            .any(|t| t.observed.is_end() && t.desired < Desired::Shutdown);
        if ended_unhandled {
            broken.push(format!("service {id}, slot {slot:?}: an end was not acted on"));
        }
        let is_empty = live.is_empty()
            && !service.is_removed
            && !service.progress.owns(slot)
            && !service.parked.contains_key(slot)
            && !service.is_paused()
            && tasks.iter().filter_map(|t| world.task(t)).any(|t| t.desired != Desired::Remove);
        if is_empty {
            broken.push(format!("service {id}, slot {slot:?}: empty, and nothing will fill it"));
        }
    }
}
