//! Routes and pools. Readers take a snapshot without a lock; control swaps in a new one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    endpoint::{Description, Endpoint, Standing, State},
    stats::Counters,
};

/// How bytes of a published port are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Tcp,
    /// TCP, and the endpoint is told who the client is (PROXY protocol, version 2).
    #[serde(rename = "tcp+proxy")]
    TcpProxy,
}

/// A published port and the service behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub published_port: u16,
    pub target_port: u16,
    pub protocol: Protocol,
    pub service: String,
    /// Where it is opened, when not at the ingress's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
}

/// The endpoints of one service.
#[derive(Debug, Default)]
pub struct Pool {
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    turn: AtomicUsize,
    /// Told when an endpoint becomes ready.
    pub changed: Notify,
    /// Requests that wait for an endpoint now.
    pub holding: AtomicUsize,
    /// What no endpoint can count: requests that never reached one.
    pub counters: Counters,
}

impl Pool {
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// The ready endpoint with the fewest requests in flight, in turn among equals; a suspect one
    /// when none is ready. Those of this node come before those of others. `avoid` was tried
    /// already. With `needs_proof` those on probation come after all others.
    pub fn pick(&self, avoid: &[u64], needs_proof: bool) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        let count = endpoints.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).filter_map(|step| endpoints.get((first + step) % count));
        let best = |state: State| {
            in_turn().filter(|e| e.state() == state && !avoid.contains(&e.number)).min_by_key(|e| {
                let is_remote = e.about.peer.is_some();
                (needs_proof && !e.is_proven(), is_remote, e.in_flight())
            })
        };
        best(State::Ready).or_else(|| best(State::Suspect)).cloned()
    }

    /// The counts of an endpoint that goes stay with its service.
    pub fn keep_counts(&self, endpoint: &Endpoint) {
        self.counters.take_over(&endpoint.counters);
    }

    fn change(&self, change: impl Fn(&mut Vec<Arc<Endpoint>>)) {
        self.endpoints.rcu(|old| {
            let mut new = Vec::clone(old);
            change(&mut new);
            new
        });
        self.changed.notify_waiters();
    }
}

/// Everything the workers route by.
#[derive(Debug, Default)]
pub struct Table {
    pub routes: ArcSwap<BTreeMap<u16, Arc<Route>>>,
    pools: ArcSwap<BTreeMap<String, Arc<Pool>>>,
}

/// What became of a description.
#[derive(Clone, Debug)]
pub enum Added {
    Known(Arc<Endpoint>),
    New(Arc<Endpoint>),
}

/// The table as it is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub routes: Vec<Route>,
    pub endpoints: Vec<Description>,
}

impl Table {
    pub fn route(&self, published_port: u16) -> Option<Arc<Route>> {
        self.routes.load().get(&published_port).cloned()
    }

    /// The pool of a service; made on first use.
    pub fn pool(&self, service: &str) -> Arc<Pool> {
        if let Some(pool) = self.pools.load().get(service) {
            return Arc::clone(pool);
        }
        self.pools.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            new.entry(service.to_owned()).or_default();
            new
        });
        self.pools.load().get(service).cloned().unwrap_or_default()
    }

    pub fn pools(&self) -> Arc<BTreeMap<String, Arc<Pool>>> {
        self.pools.load_full()
    }

    pub fn all(&self) -> Vec<Arc<Endpoint>> {
        self.pools.load().values().flat_map(|pool| pool.endpoints().to_vec()).collect()
    }

    /// The endpoints of one task: more than one while its description changes, the newest last.
    pub fn of_task(&self, task: &str) -> Vec<Arc<Endpoint>> {
        let mut all = self.all();
        all.retain(|endpoint| endpoint.about.task == task);
        all.sort_by_key(|endpoint| endpoint.number);
        all
    }

    /// Adds what is described. An earlier description of the task stays beside it.
    pub fn add(&self, about: Description) -> Added {
        let known = self.of_task(&about.task).pop();
        let is_same = |e: &Arc<Endpoint>| e.about.is_still(&about) && e.state() < State::Draining;
        if let Some(known) = known.filter(is_same) {
            return Added::Known(known);
        }
        let endpoint = Endpoint::new(about);
        self.put(&endpoint);
        Added::New(endpoint)
    }

    pub fn put(&self, endpoint: &Arc<Endpoint>) {
        let pool = self.pool(&endpoint.about.service);
        pool.change(|all| all.push(Arc::clone(endpoint)));
    }

    pub fn remove(&self, endpoint: &Endpoint) {
        let pool = self.pool(&endpoint.about.service);
        pool.change(|all| all.retain(|e| e.number != endpoint.number));
    }

    /// What takes requests, each task once.
    fn newest(&self) -> Vec<Arc<Endpoint>> {
        let mut newest = BTreeMap::new();
        for endpoint in self.all().into_iter().filter(|e| e.state() < State::Draining) {
            let slot = newest.entry(endpoint.about.task.clone()).or_insert(Arc::clone(&endpoint));
            if slot.number < endpoint.number {
                *slot = endpoint;
            }
        }
        newest.into_values().collect()
    }

    /// What the next process is to know.
    pub fn standing(&self) -> Vec<Standing> {
        self.newest().iter().map(|endpoint| endpoint.stands()).collect()
    }

    pub fn routes(&self) -> Vec<Route> {
        self.routes.load().values().map(|route| Route::clone(route)).collect()
    }

    /// What is worth keeping on disk: routes, and endpoints that take requests.
    pub fn saved(&self) -> Saved {
        let endpoints = self.newest().iter().map(|endpoint| endpoint.about.clone()).collect();
        Saved { routes: self.routes(), endpoints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(task: &str, port: u16, node: Option<&str>) -> Description {
        Description {
            task: task.to_owned(),
            task_name: format!("s.1.{task}"),
            service: "s".to_owned(),
            release: String::new(),
            addresses: vec![(80, ([127, 0, 0, 1], port).into())],
            probation_ms: 0,
            peer: node.map(Into::into),
            probe: None,
        }
    }

    fn new(added: Added) -> Arc<Endpoint> {
        match added {
            Added::New(endpoint) => endpoint,
            Added::Known(endpoint) => panic!("{endpoint:?} was known"),
        }
    }

    fn picked(table: &Table, needs_proof: bool) -> String {
        let picked = table.pool("s").pick(&[], needs_proof);
        picked.map_or("none".to_owned(), |endpoint| endpoint.about.task.clone())
    }

    #[test]
    fn a_node_sends_requests_to_others_only_when_it_has_nobody_of_its_own() {
        let table = Table::default();
        let remote = new(table.add(about("remote", 1, Some("n2"))));
        remote.become_state(State::Ready);
        assert_eq!(picked(&table, false), "remote");
        let local = new(table.add(Description { probation_ms: 60_000, ..about("local", 2, None) }));
        assert_eq!(picked(&table, false), "remote", "it is not ready yet");
        local.become_state(State::Ready);
        let busy: Vec<_> = (0..9).filter_map(|_| local.enter()).collect();
        assert_eq!(picked(&table, false), "local");
        assert_eq!(picked(&table, true), "remote", "the local one is not proven");
        local.become_state(State::Suspect);
        assert_eq!(picked(&table, false), "remote");
        drop(busy);
    }

    #[test]
    fn a_changed_description_stands_beside_the_one_before_and_is_the_one_that_is_kept() {
        let table = Table::default();
        let old = new(table.add(about("t", 1, None)));
        assert!(matches!(table.add(about("t", 1, None)), Added::Known(_)));
        old.become_state(State::Ready);
        let later = Description { release: "2".to_owned(), ..about("t", 1, None) };
        assert!(matches!(table.add(later), Added::Known(_)), "what it has proved stays proved");
        let next = new(table.add(about("t", 2, None)));
        assert!(old.number < next.number);
        assert_eq!(table.of_task("t").len(), 2);
        assert_eq!(table.saved().endpoints, [about("t", 2, None)]);
        assert!(matches!(table.add(about("t", 2, None)), Added::Known(_)));
        table.remove(&old);
        assert_eq!(table.of_task("t").len(), 1);
    }

    #[test]
    fn a_drained_task_that_is_published_again_starts_anew() {
        let table = Table::default();
        let old = new(table.add(about("t", 1, None)));
        old.become_state(State::Draining);
        assert!(table.standing().is_empty());
        new(table.add(about("t", 1, None)));
        assert_eq!(table.standing().len(), 1);
    }
}
