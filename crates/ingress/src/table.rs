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
    endpoint::{Description, Endpoint, State},
    stats::Counters,
};

/// How bytes of a published port are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Tcp,
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
    /// when none is ready. `avoid` was tried already. With `needs_proof` those on probation come
    /// after the others.
    pub fn pick(&self, avoid: &[String], needs_proof: bool) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        let count = endpoints.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..count).filter_map(|step| endpoints.get((first + step) % count));
        let best = |state: State| {
            in_turn()
                .filter(|e| e.state() == state && !avoid.contains(&e.about.task))
                .min_by_key(|e| (needs_proof && !e.is_proven(), e.in_flight()))
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

    pub fn endpoint(&self, task: &str) -> Option<Arc<Endpoint>> {
        let pools = self.pools.load();
        pools.values().flat_map(|pool| pool.endpoints().to_vec()).find(|e| e.about.task == task)
    }

    /// Adds an endpoint; one that is known already is returned as it is.
    pub fn add(&self, about: Description) -> Arc<Endpoint> {
        if let Some(known) = self.endpoint(&about.task) {
            return known;
        }
        let endpoint = Endpoint::new(about);
        let pool = self.pool(&endpoint.about.service);
        pool.change(|all| all.push(Arc::clone(&endpoint)));
        endpoint
    }

    pub fn remove(&self, endpoint: &Endpoint) {
        let pool = self.pool(&endpoint.about.service);
        pool.change(|all| all.retain(|e| e.about.task != endpoint.about.task));
    }

    /// What is worth keeping on disk: routes, and endpoints that take requests.
    pub fn saved(&self) -> Saved {
        let pools = self.pools.load();
        let all = pools.values().flat_map(|pool| pool.endpoints().to_vec());
        let endpoints =
            all.filter(|e| e.state() < State::Draining).map(|e| e.about.clone()).collect();
        let routes = self.routes.load().values().map(|route| Route::clone(route)).collect();
        Saved { routes, endpoints }
    }
}
