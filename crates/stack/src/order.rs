//! The order in which services are deployed.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Service;

/// Short names, dependencies first, otherwise by name. Services on a cycle come last, by name.
pub(crate) fn by_dependency(services: &BTreeMap<String, Service>) -> Vec<String> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut order = Vec::with_capacity(services.len());
    loop {
        let next = services.iter().find(|(name, service)| {
            !done.contains(name.as_str())
                && service
                    .depends_on
                    .iter()
                    .all(|d| done.contains(d.as_str()) || !services.contains_key(d))
        });
        let Some((name, _)) = next else { break };
        done.insert(name);
        order.push(name.clone());
    }
    order.extend(services.keys().filter(|name| !done.contains(name.as_str())).cloned());
    order
}

/// One cycle of `depends_on` as `a → b → a`, if there is any.
pub(crate) fn cycle(services: &BTreeMap<String, Service>) -> Option<Vec<String>> {
    let order = by_dependency(services);
    let mut placed = BTreeSet::new();
    let stuck = order.iter().find(|name| {
        let ready = services[*name]
            .depends_on
            .iter()
            .all(|d| placed.contains(d) || !services.contains_key(d));
        placed.insert((*name).clone());
        !ready
    })?;
    let mut path = vec![stuck.clone()];
    loop {
        let last = &services[path.last()?];
        let on_cycle = last
            .depends_on
            .iter()
            .find(|d| services.contains_key(*d) && !is_before(&order, d, stuck))?;
        if let Some(at) = path.iter().position(|name| name == on_cycle) {
            path.drain(..at);
            path.push(on_cycle.clone());
            return Some(path);
        }
        path.push(on_cycle.clone());
    }
}

fn is_before(order: &[String], a: &str, b: &str) -> bool {
    let place = |name: &str| order.iter().position(|n| n == name);
    place(a) < place(b)
}
