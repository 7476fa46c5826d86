//! What one event costs, by the number of tasks in the world.

use std::time::{Duration, Instant};

use orchestrator::{
    Event, Mode, Observation, Observed, RestartPolicy, ServiceId, ServiceSpec, SlotKey, TaskId,
    TaskSpec, Time, Traffic, UpdateConfig, World, step,
};

const SIZES: [u32; 3] = [10, 1000, 100_000];
const ROUNDS: u32 = 2000;

/// Median nanoseconds per event, as a JSON object keyed by the number of tasks: the worse of one
/// service with all tasks and of services with ten tasks each.
pub fn run() -> String {
    let figures: Vec<String> = SIZES
        .iter()
        .map(|size| {
            let worst = measure(1, *size).max(measure(size / 10, 10));
            format!("\"{size}\":{worst}")
        })
        .collect();
    format!("{{{}}}", figures.join(","))
}

fn spec(replicas: u32) -> ServiceSpec {
    ServiceSpec {
        name: "service".to_owned(),
        mode: Mode::Replicated { replicas },
        task: TaskSpec {
            definition: "one".into(),
            restart: RestartPolicy { delay: Duration::from_secs(1), ..RestartPolicy::default() },
            has_health_check: true,
            has_traffic: true,
            needs: orchestrator::Needs::default(),
        },
        update: UpdateConfig::default(),
        rollback: UpdateConfig::default(),
        raw: "".into(),
    }
}

/// A settled world of `services` × `replicas`, then failures, restarts and publishing in it.
fn measure(services: u32, replicas: u32) -> u128 {
    let mut world = World::new(1, vec!["node".to_owned()], 5);
    let mut now = Time(1);
    for number in 0..services.max(1) {
        let id = ServiceId(format!("service{number:06}"));
        step(&mut world, now, Event::ServiceCreated { id, spec: spec(replicas), version: 1 });
    }
    let ids: Vec<TaskId> = world.tasks().map(|task| task.id.clone()).collect();
    for id in &ids {
        live(&mut world, now, id);
    }
    let slots: Vec<(ServiceId, SlotKey)> =
        world.tasks().map(|task| (task.service.clone(), task.slot.clone())).collect();
    let _ = world.take_changes();
    let mut costs = Vec::new();
    for round in 0..ROUNDS {
        now = now + Duration::from_millis(2500);
        let Some((service, slot)) = slots.get((round as usize * 7919) % slots.len()) else { break };
        let Some(victim) = newest(&world, service, slot) else { break };
        let started = Instant::now();
        let exit = Observation::Exited { exit_code: Some(1), error: None };
        step(&mut world, now, Event::Observed { task: victim.clone(), what: exit });
        step(&mut world, now, Event::Drained { task: victim });
        let Some(new) = newest(&world, service, slot) else { break };
        now = now + Duration::from_secs(2);
        live(&mut world, now, &new);
        costs.push(started.elapsed().as_nanos() / 7);
        let _ = world.take_changes();
    }
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().unwrap_or(0)
}

/// Seven events with the two before: prepared, due, started, running, published.
fn live(world: &mut World, now: Time, task: &TaskId) {
    let observed = |what| Event::Observed { task: task.clone(), what };
    step(world, now, observed(Observation::Ready));
    step(world, now, Event::Tick);
    step(world, now, observed(Observation::Starting));
    step(world, now, observed(Observation::Running { address: None }));
    step(world, now, Event::Published { task: task.clone() });
    assert!(world.task(task).is_some_and(|task| {
        task.observed == Observed::Running && task.traffic == Traffic::Published
    }));
}

fn newest(world: &World, service: &ServiceId, slot: &SlotKey) -> Option<TaskId> {
    world.tasks_in(service, slot).next_back().map(|task| task.id.clone())
}
