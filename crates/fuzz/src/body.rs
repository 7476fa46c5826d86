//! Service specs as clients send them: read, turned into what the orchestrator works with, kept as
//! they were. Then what the orchestrator makes of them does not break it.

use dockerapi::{convert, spec};
use orchestrator::{Event, ServiceId, Time, World, check, next_deadline, step};
use serde_json::Value;

pub fn run(data: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<Value>(data) else { return };
    let _ = serde_json::from_value::<spec::Definition>(raw.clone());
    let Ok((_, converted)) = convert::service(&raw) else { return };
    let kept: Value = serde_json::from_str(&converted.raw).expect("our own JSON");
    assert_eq!(kept, raw, "something of the spec was lost");
    let (_, again) = convert::service(&kept).expect("fine a moment ago");
    assert_eq!(again, converted);
    let definition: spec::Definition =
        serde_json::from_str(&converted.task.definition).expect("a definition reads");
    assert!(definition.task_template.container_spec.is_some());
    live(converted);
}

/// Some steps of its life, with a clock near the end of time as well.
fn live(mut spec: orchestrator::ServiceSpec) {
    if let orchestrator::Mode::Replicated { replicas } = &mut spec.mode {
        *replicas = (*replicas).min(3);
    }
    for start in [0, 1 << 60, u64::MAX - 5] {
        let mut world = World::new(1, vec!["n".to_owned()], 5);
        let id = ServiceId("s".to_owned());
        let mut now = Time(start);
        let created = Event::ServiceCreated { id: id.clone(), spec: spec.clone(), version: 1 };
        step(&mut world, now, created);
        let updated = Event::ServiceUpdated { id, spec: spec.clone(), version: 2 };
        step(&mut world, now, updated);
        for _ in 0..3 {
            now = next_deadline(&world).unwrap_or(now).max(now);
            step(&mut world, now, Event::Tick);
            assert_eq!(check(&world), Vec::<String>::new());
        }
    }
}
