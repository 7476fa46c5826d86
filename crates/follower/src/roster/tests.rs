//! Histories of tasks as Swarm tells them, and what the ingress is told.

use std::{collections::BTreeMap, time::Duration};

use orchestrator::traffic::Protocol;

use super::*;
use crate::{local::Container, view::Node};

const SECOND: u64 = 1_000_000_000;

/// A Swarm in which things happen.
struct Scene {
    roster: Roster,
    view: View,
    local: Local,
    now: u64,
}

impl Scene {
    fn new() -> Self {
        let service = Service {
            name: "ala_api".to_owned(),
            release: "1".to_owned(),
            ports: vec![(5000, 5000, Protocol::Http)],
            probe: Some("/health".to_owned()),
            monitor: Duration::from_secs(5),
            upgraded: Duration::from_secs(20),
            is_changing: false,
        };
        let node = Node {
            hostname: "one".to_owned(),
            address: String::new(),
            is_manager: true,
            is_leader: true,
            is_up: true,
        };
        let view = View {
            services: BTreeMap::from([("s".to_owned(), service)]),
            tasks: Vec::new(),
            nodes: BTreeMap::from([("n1".to_owned(), node)]),
        };
        let local = Local { node: "n1".to_owned(), containers: BTreeMap::new() };
        Self { roster: Roster::default(), view, local, now: SECOND }
    }

    /// A task that runs on this node; with `waits` its stop is ours.
    fn runs(&mut self, id: &str, slot: &str, waits: bool) -> &mut Self {
        let stop = dockerapi::publish::Stop {
            signal: "SIGTERM".to_owned(),
            grace: Duration::from_secs(10),
            within: Duration::from_secs(30),
        };
        let labels = stop.labels().map(|(key, value)| (key.to_owned(), value));
        self.view.tasks.push(Task {
            id: id.to_owned(),
            service: "s".to_owned(),
            slot: slot.to_owned(),
            node: "n1".to_owned(),
            created_at: Time(self.now),
            wanted: Wanted::Running,
            state: State::Running,
            container: format!("c-{id}"),
            addresses: vec![("net".to_owned(), [10, 0, 1, 7].into())],
            labels: if waits { labels.into() } else { BTreeMap::new() },
            grace: Duration::from_secs(10),
        });
        let address = Some([172, 18, 0, 3].into());
        let container = Container { task: id.to_owned(), address, is_unhealthy: false };
        self.local.containers.insert(format!("c-{id}"), container);
        self
    }

    fn task(&mut self, id: &str) -> &mut Task {
        self.view.tasks.iter_mut().find(|task| task.id == id).expect("a task")
    }

    fn stops(&mut self, id: &str) -> &mut Self {
        self.task(id).wanted = Wanted::Stopped;
        self
    }

    fn ready(&mut self, id: &str) -> &mut Self {
        self.roster.published(Time(self.now), id);
        self
    }

    fn later(&mut self, millis: u64) -> &mut Self {
        self.now += millis * 1_000_000;
        self
    }

    /// What the ingress is told now, in short.
    fn told(&mut self) -> Vec<String> {
        let commands = self.roster.look(Time(self.now), &self.view, &self.local);
        commands
            .into_iter()
            .map(|command| match command {
                Command::Publish(endpoint) => format!("publish {}", endpoint.task),
                Command::Drain(drain) => format!("drain {}", drain.task),
                Command::Routes(routes) => format!("{} routes", routes.len()),
                Command::Sync { .. } => "sync".to_owned(),
            })
            .collect()
    }
}

#[test]
fn a_running_task_is_published_where_the_host_reaches_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.runs("a", "1", false).told(), ["1 routes", "publish a"]);
    let endpoint = scene.roster.endpoint("a").expect("known");
    assert_eq!(endpoint.addresses, [(5000, ([172, 18, 0, 3], 5000).into())]);
    assert_eq!(scene.told(), [""; 0]);
}

#[test]
fn a_task_elsewhere_is_reached_through_the_ingress_of_its_node() {
    let mut scene = Scene::new();
    let task = scene.runs("a", "1", false).task("a");
    (task.node, task.addresses) = ("n2".to_owned(), Vec::new());
    assert_eq!(scene.told(), ["1 routes"], "nobody knows where that node is");
    let node = Node { address: "192.0.2.2".to_owned(), ..scene.view.nodes["n1"].clone() };
    scene.view.nodes.insert("n2".to_owned(), node);
    assert_eq!(scene.told(), ["publish a"]);
    let endpoint = scene.roster.endpoint("a").expect("known");
    assert_eq!(endpoint.addresses, [(5000, ([192, 0, 2, 2], 7481).into())]);
    assert_eq!(endpoint.peer.as_deref(), Some("n2"));
    assert_eq!(endpoint.probe.as_deref(), Some("/health"));
}

#[test]
fn a_release_of_its_service_does_not_make_a_task_begin_anew() {
    let mut scene = Scene::new();
    scene.runs("a", "1", true).told();
    scene.ready("a");
    let service = scene.view.services.get_mut("s").expect("there");
    (service.release, service.monitor) = ("2".to_owned(), Duration::from_secs(9));
    assert_eq!(scene.told(), [""; 0]);
    assert_eq!(scene.roster.stage("a"), Some(Stage::Ready));
    assert_eq!(scene.roster.endpoint("a").expect("known").release, "1");
    scene.view.services.get_mut("s").expect("there").probe = None;
    assert_eq!(scene.told(), ["publish a"]);
}

#[test]
fn a_task_that_nobody_replaces_is_drained_at_once() {
    let mut scene = Scene::new();
    scene.runs("a", "1", true).runs("b", "2", true).told();
    scene.ready("a").ready("b");
    assert_eq!(scene.stops("b").told(), ["drain b"]);
}

#[test]
fn an_old_task_serves_on_until_its_replacement_has_proved_itself() {
    let mut scene = Scene::new();
    scene.runs("old", "1", true).told();
    scene.ready("old").later(1000).runs("new", "1", true).stops("old");
    assert_eq!(scene.told(), ["publish new"]);
    scene.ready("new").later(4900);
    assert_eq!(scene.told(), [""; 0]);
    assert_eq!(scene.later(200).told(), ["drain old"]);
}

#[test]
fn a_replacement_that_crashes_leaves_the_old_task_in_place_until_the_next_one_is_good() {
    let mut scene = Scene::new();
    scene.runs("old", "1", true).told();
    scene.ready("old").later(1000).runs("new", "1", true).stops("old").told();
    scene.ready("new").later(1000).task("new").state = State::Ended;
    assert_eq!(scene.told(), ["drain new"]);
    scene.later(1000).runs("again", "1", true);
    assert_eq!(scene.told(), ["publish again"]);
    scene.ready("again").later(5100);
    assert_eq!(scene.told(), ["drain old"]);
}

#[test]
fn without_the_stop_being_ours_an_old_task_goes_when_the_new_one_is_ready() {
    let mut scene = Scene::new();
    scene.runs("old", "1", false).told();
    scene.ready("old").later(1000).runs("new", "1", false).stops("old");
    assert_eq!(scene.told(), ["publish new"]);
    assert_eq!(scene.later(300).told(), [""; 0]);
    assert_eq!(scene.ready("new").told(), ["drain old"]);
}

#[test]
fn no_task_stays_longer_than_its_signal_lets_it() {
    let mut scene = Scene::new();
    scene.runs("old", "1", false).told();
    scene.ready("old").later(1000).runs("new", "1", false).stops("old").told();
    assert_eq!(scene.later(1000).told(), ["drain old"]);
    let mut scene = Scene::new();
    scene.runs("old", "1", true).told();
    scene.ready("old").later(1000).runs("new", "1", true).stops("old").told();
    assert_eq!(scene.later(9900).told(), [""; 0]);
    assert_eq!(scene.later(100).told(), ["drain old"]);
}

#[test]
fn an_unhealthy_task_takes_nothing_more() {
    let mut scene = Scene::new();
    scene.runs("a", "1", true).told();
    scene.ready("a").local.containers.get_mut("c-a").expect("there").is_unhealthy = true;
    assert_eq!(scene.told(), ["drain a"]);
    assert_eq!(scene.told(), [""; 0]);
}

#[test]
fn a_new_ingress_is_told_everything_that_counts() {
    let mut scene = Scene::new();
    scene.runs("a", "1", true).runs("b", "2", true).runs("c", "3", true).told();
    scene.stops("b").stops("c").told();
    scene.roster.drained("c");
    let Command::Sync { routes, published, draining } = scene.roster.sync() else {
        panic!("not a sync")
    };
    let published: Vec<_> = published.iter().map(|endpoint| &*endpoint.task).collect();
    let draining: Vec<_> = draining.iter().map(|drain| &*drain.task).collect();
    assert_eq!((routes.len(), published, draining), (1, vec!["a"], vec!["b"]));
}
