//! Events in any order, about anything, never panic and never break an invariant.

use std::time::Duration;

use orchestrator::{
    Event, Mode, Observation, ServiceId, Task, TaskId, Time, UpdateOrder, World, check, step,
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

fn event(world: &World, (kind, which, number, _): Choice) -> Event {
    let tasks: Vec<TaskId> = world.tasks().map(|task: &Task| task.id.clone()).collect();
    let unknown = TaskId("unknown".to_owned());
    let task = tasks.get(which % (tasks.len() + 1)).cloned().unwrap_or(unknown);
    let id = ServiceId(format!("service{}", which % 3));
    let version = world.ids_issued() + u64::from(number);
    match kind % 16 {
        0 => Event::ServiceCreated { id, spec: spec(u32::from(number % 5)), version },
        1 => {
            let mut spec = spec(u32::from(number % 4));
            spec.task.definition = format!("revision {}", number % 3).into();
            if number % 2 == 0 {
                spec.update.order = UpdateOrder::StopFirst;
            }
            if number % 7 == 0 {
                spec.mode = Mode::Global;
            }
            spec.update.parallelism = u32::from(number % 3);
            Event::ServiceUpdated { id, spec, version }
        }
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
