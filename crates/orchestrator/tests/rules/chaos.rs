//! Events in any order, about anything, never panic and never break an invariant.

use std::time::Duration;

use orchestrator::{
    Availability, Constraint, Event, HostPort, Mode, Needs, Node, Observation, ServiceId,
    ServiceSpec, Task, TaskId, Time, UpdateOrder, World, check, step,
};
use proptest::prelude::*;

use crate::scene::spec;

/// What to do, with numbers that choose among what is there.
type Choice = (u8, usize, u8, u16);

fn observation(number: u8) -> Observation {
    match number % 9 {
        0 => Observation::Preparing,
        1 => Observation::Ready,
        2 => Observation::Starting,
        3 | 4 => Observation::Running { address: None },
        5 => Observation::Unhealthy { error: "503".to_owned() },
        6 => Observation::Exited { exit_code: Some(0), error: None },
        7 => Observation::Exited { exit_code: Some(1), error: None },
        _ => Observation::Rejected { error: "No such image: x".to_owned() },
    }
}

/// The engine refuses to change the kind of a service.
fn mode(which: usize, number: u8) -> Mode {
    match which % 3 {
        2 => Mode::Global,
        _ => Mode::Replicated { replicas: u32::from(number % 5) },
    }
}

fn job(which: usize, number: u8) -> ServiceSpec {
    let mut spec = spec(0);
    let total = u32::from(number % 5);
    let max_concurrent = 1 + u32::from(number % 3);
    spec.mode = match which % 3 {
        0 => Mode::GlobalJob,
        _ => Mode::ReplicatedJob { max_concurrent, total },
    };
    spec.task.definition = format!("revision {}", number % 3).into();
    spec.task.needs = needs(number);
    spec.task.has_traffic = number.is_multiple_of(8);
    spec
}

fn needs(number: u8) -> Needs {
    let port = HostPort { protocol: "tcp".to_owned(), port: 8080 };
    let zone = Constraint::parse("node.labels.zone!=a").expect("a constraint");
    match number % 7 {
        0 => Needs { memory_bytes: 40, ..Needs::default() },
        1 => Needs { max_per_node: 2, ..Needs::default() },
        2 => Needs { host_ports: vec![port], ..Needs::default() },
        3 => Needs { constraints: vec![zone], ..Needs::default() },
        _ => Needs::default(),
    }
}

fn node(number: u8) -> Node {
    let availability = match number % 4 {
        0 => Availability::Drain,
        1 => Availability::Pause,
        _ => Availability::Active,
    };
    let labels =
        if number.is_multiple_of(5) { vec![("zone".to_owned(), "a".to_owned())] } else { vec![] };
    Node {
        id: "node".to_owned(),
        availability,
        labels: labels.into_iter().collect(),
        memory_bytes: Some(100),
        ..Node::default()
    }
}

fn event(world: &World, (kind, which, number, _): Choice) -> Event {
    let tasks: Vec<TaskId> = world.tasks().map(|task: &Task| task.id.clone()).collect();
    let unknown = TaskId("unknown".to_owned());
    let task = tasks.get(which % (tasks.len() + 1)).cloned().unwrap_or(unknown);
    let id = ServiceId(format!("service{}", which % 3));
    let version = world.ids_issued() + u64::from(number);
    match kind % 20 {
        0 => {
            let mut spec = spec(u32::from(number % 5));
            spec.mode = mode(which, number);
            Event::ServiceCreated { id, spec, version }
        }
        1 => {
            let mut spec = spec(u32::from(number % 4));
            spec.task.definition = format!("revision {}", number % 3).into();
            spec.task.needs = needs(number);
            if number % 2 == 0 {
                spec.update.order = UpdateOrder::StopFirst;
            }
            spec.mode = mode(which, number);
            spec.update.parallelism = u32::from(number % 3);
            Event::ServiceUpdated { id, spec, version }
        }
        16 => {
            let id = ServiceId(format!("job{}", which % 3));
            Event::ServiceCreated { id, spec: job(which, number), version }
        }
        17 => {
            let id = ServiceId(format!("job{}", which % 3));
            match number % 4 {
                0 => Event::JobTakenBack { id, spec: job(which, number), version },
                1 => Event::RollbackRequested { id },
                2 if number > 200 => Event::ServiceRemoved { id },
                _ => Event::ServiceUpdated { id, spec: job(which, number), version },
            }
        }
        18 => Event::NodeChanged(node(number)),
        2 => Event::RollbackRequested { id },
        3 if number < 20 => Event::ServiceRemoved { id },
        3..=5 => Event::Tick,
        6..=11 => Event::Observed { task, what: observation(number) },
        12 | 13 => Event::Published { task },
        _ => Event::Drained { task },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_events_in_any_order_break_nothing(choices in prop::collection::vec(any::<Choice>(), 1..250)) {
        let mut world = World::new(3, vec!["node".to_owned()], 5);
        let mut now = Time(1_000_000_000);
        step(&mut world, now, Event::NodeChanged(node(2)));
        for choice in choices {
            now = now + Duration::from_millis(u64::from(choice.3));
            let event = event(&world, choice);
            let told = format!("{event:?}");
            step(&mut world, now, event);
            let broken = check(&world);
            prop_assert!(broken.is_empty(), "after {}: {:?}", told, broken);
        }
    }
}
