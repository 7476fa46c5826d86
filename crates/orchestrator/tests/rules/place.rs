//! Where tasks go: what does not fit waits with a reason, and comes as soon as it fits.

use orchestrator::{
    Availability, Constraint, Event, HostPort, Mode, Needs, Node, Observed, RolloutState,
    ServiceId, ServiceSpec, Task,
};

use crate::scene::{Scene, id, spec};

fn node() -> Node {
    Node {
        id: "node".to_owned(),
        hostname: "vm".to_owned(),
        memory_bytes: Some(4 << 30),
        nano_cpus: Some(2_000_000_000),
        ..Node::default()
    }
}

fn scene(base: ServiceSpec) -> Scene {
    let mut empty = base.clone();
    empty.mode = Mode::Replicated { replicas: 0 };
    let mut scene = Scene::settled(empty);
    scene.happens(Event::NodeChanged(node()));
    scene.update(|spec| *spec = base);
    scene.pass(30);
    scene
}

fn with(replicas: u32, needs: Needs) -> ServiceSpec {
    let mut base = spec(replicas);
    base.task.needs = needs;
    base
}

fn memory(gigabytes: u64) -> Needs {
    Needs { memory_bytes: gigabytes << 30, ..Needs::default() }
}

fn zone(value: &str) -> Needs {
    let constraint = Constraint::parse(&format!("node.labels.zone=={value}")).expect("valid");
    Needs { constraints: vec![constraint], ..Needs::default() }
}

fn port() -> Needs {
    let port = HostPort { protocol: "tcp".to_owned(), port: 8080 };
    Needs { host_ports: vec![port], ..Needs::default() }
}

fn labelled(value: &str) -> Node {
    Node { labels: [("zone".to_owned(), value.to_owned())].into(), ..node() }
}

fn waiting(scene: &Scene) -> Vec<&Task> {
    let tasks = scene.world.tasks_of(&id());
    tasks.filter(|task| task.is_live() && task.unplaced.is_some()).collect()
}

fn reason(scene: &Scene) -> &str {
    waiting(scene)[0].unplaced.as_ref().map_or("", |unplaced| &unplaced.reason)
}

#[test]
fn what_does_not_fit_waits_with_dockers_reason_until_something_ends() {
    let mut scene = scene(with(3, memory(2)));
    assert_eq!(scene.serving(), 2);
    assert_eq!(reason(&scene), "no suitable node (insufficient resources on 1 node)");
    let detail = waiting(&scene)[0].unplaced.as_ref().map(|unplaced| unplaced.detail.clone());
    assert_eq!(detail.as_deref(), Some("needs 2 GiB of memory; 0 B of 4 GiB is free"));
    let other = ServiceId("other".to_owned());
    let created = Event::ServiceCreated { id: other.clone(), spec: with(1, memory(1)), version: 9 };
    scene.happens(created);
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 1 });
    assert!(waiting(&scene).is_empty());
    let placed = scene.world.tasks_of(&other).next().expect("a task");
    assert_eq!(placed.unplaced, None);
}

#[test]
fn a_constraint_that_comes_true_places_the_task() {
    let mut scene = scene(with(1, zone("a")));
    let told = "no suitable node (scheduling constraints not satisfied on 1 node)";
    assert_eq!(reason(&scene), told);
    scene.happens(Event::NodeChanged(labelled("a")));
    scene.obey();
    assert_eq!(scene.serving(), 1);
}

#[test]
fn a_task_whose_constraint_is_no_longer_met_goes_and_its_slot_waits() {
    let mut scene = scene(with(1, zone("a")));
    scene.happens(Event::NodeChanged(labelled("a")));
    scene.obey();
    scene.happens(Event::NodeChanged(labelled("b")));
    scene.obey();
    assert_eq!((scene.serving(), waiting(&scene).len()), (0, 1));
    scene.happens(Event::NodeChanged(labelled("a")));
    scene.obey();
    assert_eq!(scene.serving(), 1);
}

#[test]
fn a_release_that_has_no_place_fails_at_its_deadline_and_costs_nothing() {
    let mut scene = scene(spec(2));
    let old = scene.live("one");
    scene.update(|spec| {
        spec.task.definition = "two".into();
        spec.task.needs = zone("nowhere");
    });
    scene.pass(59);
    assert_eq!(scene.state(), Some(RolloutState::Updating));
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.live("one"), old);
    let failed = scene.world.tasks_of(&id()).find(|task| task.observed == Observed::Failed);
    let error = failed.and_then(|task| task.error.as_deref()).unwrap_or("");
    assert!(error.contains("(progress deadline): no suitable node (scheduling"), "{error}");
}

/// B11: with Docker the new task waits for the old one's place, and the old one for the new task.
#[test]
fn start_first_with_one_replica_per_node_stops_the_old_task_first() {
    let limit = Needs { max_per_node: 1, ..Needs::default() };
    let mut scene = scene(with(1, limit));
    scene.release("two");
    scene.pass(30);
    assert_eq!(scene.state(), Some(RolloutState::Completed));
    assert_eq!((scene.live("one").len(), scene.live("two").len()), (0, 1));
}

/// B11, and B28's port: the ingress hands a port of the machine over, so nothing is stopped first.
#[test]
fn start_first_with_a_port_of_the_machine_hands_it_over_without_a_gap() {
    let mut scene = scene(with(1, port()));
    scene.ignore("start", "two");
    scene.release("two");
    assert_eq!(scene.serving(), 1);
    assert!(waiting(&scene).is_empty());
    scene.ignores.clear();
    let new = scene.live("two").remove(0);
    scene.observe(&new, orchestrator::Observation::Running { address: None });
    scene.obey();
    scene.pass(30);
    assert_eq!(scene.state(), Some(RolloutState::Completed));
    assert_eq!(scene.live("two").len(), 1);
}

#[test]
fn a_port_of_the_machine_is_one_slot_s_at_a_time() {
    let mut scene = scene(with(2, port()));
    assert_eq!(scene.serving(), 1);
    assert_eq!(reason(&scene), "no suitable node (host-mode port already in use on 1 node)");
    let holder = scene.newest(1).id.clone();
    scene.exit(&holder, 1);
    scene.pass(6);
    assert_eq!((scene.serving(), waiting(&scene).len()), (1, 1), "its replacement keeps it");
}

/// Without room for two, start-first keeps the old task: it fails rather than cost a replica.
#[test]
fn start_first_without_memory_for_two_keeps_the_old_task_serving() {
    let mut scene = scene(with(1, memory(3)));
    scene.release("two");
    scene.pass(30);
    assert_eq!(scene.serving(), 1);
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.live("one").len(), 1);
}

#[test]
fn stop_first_gives_the_new_task_the_room_of_the_old_one() {
    let mut base = with(1, memory(3));
    base.update.order = orchestrator::UpdateOrder::StopFirst;
    let mut scene = scene(base);
    scene.release("two");
    scene.pass(30);
    assert_eq!(scene.state(), Some(RolloutState::Completed));
    assert_eq!(scene.live("two").len(), 1);
}

#[test]
fn a_drained_node_stops_its_tasks_and_has_them_again_when_it_is_opened() {
    let mut scene = scene(spec(2));
    scene.happens(Event::NodeChanged(Node { availability: Availability::Drain, ..node() }));
    scene.obey();
    assert_eq!((scene.serving(), waiting(&scene).len()), (0, 2));
    assert_eq!(reason(&scene), "no suitable node (1 node not available for new tasks)");
    scene.happens(Event::NodeChanged(node()));
    scene.obey();
    assert_eq!(scene.serving(), 2);
    assert_eq!(scene.service().parked().count(), 0, "it was no failure");
}

#[test]
fn a_paused_node_keeps_its_tasks_and_takes_no_new_one() {
    let mut scene = scene(spec(1));
    scene.happens(Event::NodeChanged(Node { availability: Availability::Pause, ..node() }));
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 2 });
    assert_eq!((scene.serving(), waiting(&scene).len()), (1, 1));
}

#[test]
fn a_global_service_has_no_task_on_a_drained_node() {
    let mut base = spec(1);
    base.mode = Mode::Global;
    let mut scene = Scene::settled(base);
    scene.happens(Event::NodeChanged(Node { availability: Availability::Drain, ..node() }));
    scene.obey();
    assert_eq!(scene.live("one").len(), 0);
    scene.happens(Event::NodeChanged(node()));
    scene.obey();
    assert_eq!(scene.serving(), 1);
}
