//! Swarm's known defects: the embedded engine does better, a Docker daemon shows the defect where
//! that takes no longer than a scenario. What no client of the API can see is not here.

mod outside;
mod restart;
mod rollback;
mod update;

use super::Scenario;

/// All of them, in the order of their numbers.
pub fn all() -> Vec<Scenario> {
    let groups = [update::ALL, rollback::ALL, restart::ALL, outside::ALL];
    let mut all: Vec<Scenario> =
        groups.into_iter().flatten().map(|scenario| Scenario { ..*scenario }).collect();
    all.sort_by_key(|scenario| scenario.id);
    all
}
