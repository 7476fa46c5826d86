//! The scenarios: what an engine does, asked through the docker client and the bare API. Order and
//! sets are asserted, not exact times.

mod api;
mod beside;
mod life;
mod object;
mod restart;
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
    [api::ALL, life::ALL, update::ALL, restart::ALL, beside::ALL, object::ALL]
        .into_iter()
        .flat_map(|group| group.iter().map(|s| Scenario { ..*s }))
        .collect()
}

/// What is known to differ: engine, scenario, and why. One that passes all the same is an error.
pub const KNOWN: &[(Kind, &str, &str)] = &[
    (Kind::Embedded, "C68", "jobs are not there yet"),
    (Kind::Embedded, "C69", "jobs are not there yet"),
];
