//! What is saved comes back: JSON round trips, and a restart in the middle loses nothing.

use orchestrator::{Action, Service, Task, World, next_deadline, resume};
use serde::{Serialize, de::DeserializeOwned};

use crate::scene::{Scene, spec};

fn copy<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("it is JSON");
    serde_json::from_str(&text).expect("and comes back")
}

pub fn restored(world: &World) -> World {
    let services: Vec<Service> = world.services().map(copy).collect();
    let tasks: Vec<Task> = world.tasks().map(copy).collect();
    World::restore(7, world.ids_issued(), vec!["node".to_owned()], 5, services, tasks)
}

#[test]
fn a_service_and_its_tasks_survive_the_way_through_json() {
    let mut scene = Scene::settled(spec(3));
    scene.release("two");
    let failed = scene.newest(2).id.clone();
    scene.exit(&failed, 1);
    for service in scene.world.services() {
        assert_eq!(copy(service), *service);
    }
    for task in scene.world.tasks() {
        assert_eq!(copy(task), *task);
    }
}

#[test]
fn an_update_goes_on_where_it_was_after_the_engine_was_killed() {
    let mut scene = Scene::settled(spec(3));
    scene.release("two");
    for _ in 0..40 {
        let deadline = next_deadline(&scene.world);
        scene.world = restored(&scene.world);
        assert_eq!(next_deadline(&scene.world), deadline);
        assert!(orchestrator::check(&scene.world).is_empty());
        scene.pass(1);
    }
    assert_eq!(scene.live("two").len(), 3);
    assert_eq!(scene.state(), Some(orchestrator::RolloutState::Completed));
}

#[test]
fn actions_that_were_saved_and_not_done_are_due_again() {
    let mut scene = Scene::settled(spec(1));
    scene.ignore("start", "two");
    scene.release("two");
    let new = scene.live("two").remove(0);
    let world = restored(&scene.world);
    assert_eq!(resume(&world), [Action::Start { task: new }]);
}

/// Restart history is in the service, not in memory: B15's limit holds across restarts.
#[test]
fn attempts_are_remembered_across_a_restart_of_the_engine() {
    let mut scene = Scene::settled(spec(1));
    for _ in 0..4 {
        let task = scene.newest(1).id.clone();
        scene.exit(&task, 1);
        scene.world = restored(&scene.world);
        scene.pass(6);
    }
    assert_eq!(scene.service().parked().count(), 1);
}

#[test]
fn task_ids_have_docker_s_form_and_are_never_drawn_twice() {
    let mut scene = Scene::settled(spec(50));
    let before: std::collections::BTreeSet<_> =
        scene.world.tasks().map(|task| task.id.clone()).collect();
    let is_id = |id: &str| {
        id.len() == 25 && id.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
    };
    assert!(before.iter().all(|id| is_id(&id.0)));
    assert_eq!(before.len(), 50);
    scene.world = restored(&scene.world);
    scene.release("two");
    assert!(scene.live("two").iter().all(|id| !before.contains(id)));
}

/// What an engine saved before there were jobs and places is read as it was meant.
#[test]
fn a_state_without_jobs_and_places_still_loads() {
    let scene = Scene::settled(spec(1));
    let without = |value: &mut serde_json::Value, key: &str| {
        let removed = value.as_object_mut().and_then(|fields| fields.remove(key));
        assert!(removed.is_some(), "{key} is saved");
    };
    let mut service = serde_json::to_value(scene.service()).expect("JSON");
    without(&mut service, "job");
    without(&mut service["spec"]["task"], "needs");
    let mut task = serde_json::to_value(scene.newest(1)).expect("JSON");
    without(&mut task, "iteration");
    without(&mut task, "unplaced");
    without(&mut task["spec"], "needs");
    let service: Service = serde_json::from_value(service).expect("loads");
    let task: Task = serde_json::from_value(task).expect("loads");
    assert!(task.is_serving());
    let nodes = vec!["node".to_owned()];
    let world = World::restore(7, scene.world.ids_issued(), nodes, 5, vec![service], vec![task]);
    assert_eq!(orchestrator::check(&world), Vec::<String>::new());
    assert_eq!(resume(&world), []);
}
