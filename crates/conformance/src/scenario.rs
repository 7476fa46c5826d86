//! The scenarios: what an engine does, asked through the docker client and the bare API. Order and
//! sets are asserted, not exact times.

mod api;
mod beside;
mod life;
mod object;
mod restart;
mod swarm;
mod update;

use anyhow::Result;

use crate::{engine::Kind, exam::Exam};

pub struct Scenario {
    pub id: &'static str,
    pub title: &'static str,
    pub run: fn(&Exam<'_>) -> Result<()>,
}

const fn scenario(
    id: &'static str,
    title: &'static str,
    run: fn(&Exam<'_>) -> Result<()>,
) -> Scenario {
    Scenario { id, title, run }
}

/// All of them, in the order of the table that is printed.
pub fn all() -> Vec<Scenario> {
    [api::ALL, life::ALL, update::ALL, restart::ALL, beside::ALL, object::ALL, swarm::ALL]
        .into_iter()
        .flat_map(|group| group.iter().map(|s| Scenario { ..*s }))
        .collect()
}

/// Those that run one after the other, after all others: they end everybody's services.
pub const ALONE: [&str; 3] = ["C11", "C12", "C13"];

/// What is known to differ: engine, scenario, and why. One that passes all the same is an error.
pub const KNOWN: &[(Kind, &str, &str)] = &[];
