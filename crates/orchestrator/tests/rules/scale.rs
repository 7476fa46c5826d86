//! Slots: scale, removal, global services, history.

use orchestrator::{Action, Event, Mode, Observed, SlotKey};

use crate::scene::{Scene, id, spec};

fn slots(scene: &Scene) -> Vec<u32> {
    let live = scene.world.tasks_of(&id()).filter(|task| task.is_live());
    live.filter_map(|task| match task.slot {
        SlotKey::Replica(number) => Some(number),
        SlotKey::Node(_) => None,
    })
    .collect()
}

#[test]
fn a_scale_up_fills_the_lowest_free_slots_and_touches_no_other() {
    let mut scene = Scene::settled(spec(1));
    let first = scene.newest(1).id.clone();
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 3 });
    assert_eq!(slots(&scene), [1, 2, 3]);
    assert_eq!(scene.newest(1).id, first);
    assert_eq!(scene.state(), None);
}

#[test]
fn a_scale_down_takes_what_does_not_run_first_then_the_highest_slots() {
    let mut scene = Scene::settled(spec(4));
    let second = scene.newest(2).id.clone();
    scene.exit(&second, 1);
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 2 });
    assert_eq!(slots(&scene), [1, 3]);
}

#[test]
fn removed_tasks_are_drained_stopped_and_leave_no_history() {
    let mut scene = Scene::settled(spec(3));
    let third = scene.newest(3).id.clone();
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 1 });
    let of_third: Vec<&Action> = scene
        .asked
        .iter()
        .filter(|action| matches!(action, Action::Drain { task } | Action::Stop { task } | Action::Forget { task } if *task == third))
        .collect();
    assert_eq!(
        of_third,
        [
            &Action::Drain { task: third.clone() },
            &Action::Stop { task: third.clone() },
            &Action::Forget { task: third.clone() },
        ]
    );
    assert!(scene.world.task(&third).is_none());
}

#[test]
fn a_removed_service_is_gone_with_its_last_task() {
    let mut scene = Scene::settled(spec(2));
    scene.ignore("stop", "one");
    scene.happens(Event::ServiceRemoved { id: id() });
    scene.obey();
    assert!(scene.service().is_removed);
    for task in scene.world.tasks().map(|task| task.id.clone()).collect::<Vec<_>>() {
        scene.exit(&task, 0);
    }
    assert!(scene.world.service(&id()).is_none());
    assert_eq!(scene.world.tasks().count(), 0);
    assert_eq!(orchestrator::next_deadline(&scene.world), None);
}

#[test]
fn a_global_service_has_one_task_per_node_and_is_updated_like_any_other() {
    let mut base = spec(1);
    base.mode = Mode::Global;
    let mut scene = Scene::settled(base);
    let node = SlotKey::Node("node".to_owned());
    assert_eq!(scene.world.tasks_in(&id(), &node).count(), 1);
    scene.release("two");
    scene.pass(30);
    let live: Vec<_> = scene.world.tasks_in(&id(), &node).filter(|t| t.is_live()).collect();
    assert_eq!(live.len(), 1);
    assert_eq!(&*live[0].spec.definition, "two");
}

#[test]
fn a_slot_keeps_its_history_up_to_the_limit_the_live_task_included() {
    let mut base = spec(1);
    base.task.restart.max_attempts = 0;
    let mut scene = Scene::settled(base);
    for _ in 0..9 {
        let task = scene.newest(1).id.clone();
        scene.exit(&task, 1);
        scene.pass(6);
    }
    assert_eq!(scene.world.tasks_of(&id()).count(), 5);
    let failed = scene.world.tasks_of(&id()).filter(|t| t.observed == Observed::Failed).count();
    assert_eq!(failed, 4);
}
