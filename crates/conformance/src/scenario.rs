//! The scenarios: what an engine does, asked through the docker client and the bare API. Order and
//! sets are asserted, not exact times.

mod api;
mod beside;
mod defect;
mod life;
mod object;
mod restart;
mod rollback;
mod stack;
mod swarm;
mod update;

use anyhow::Result;
use conformance::engine::Kind;

use crate::exam::Exam;

pub struct Scenario {
    pub id: &'static str,
    pub title: &'static str,
    pub run: fn(&Exam<'_>) -> Result<()>,
    /// Why a Docker daemon does not sit it.
    pub not_on_dockerd: Option<&'static str>,
}

const fn scenario(
    id: &'static str,
    title: &'static str,
    run: fn(&Exam<'_>) -> Result<()>,
) -> Scenario {
    Scenario { id, title, run, not_on_dockerd: None }
}

const fn only_embedded(
    id: &'static str,
    title: &'static str,
    run: fn(&Exam<'_>) -> Result<()>,
    why: &'static str,
) -> Scenario {
    Scenario { id, title, run, not_on_dockerd: Some(why) }
}

impl Scenario {
    /// One of Swarm's defects rather than of its behaviour.
    pub fn is_defect(&self) -> bool {
        self.id.starts_with('B')
    }

    pub fn is_for(&self, kind: Kind) -> bool {
        kind == Kind::Embedded || self.not_on_dockerd.is_none()
    }
}

/// All of them, in the order of the table that is printed.
pub fn all() -> Vec<Scenario> {
    let groups = [
        api::ALL,
        life::ALL,
        update::ALL,
        rollback::ALL,
        restart::ALL,
        beside::ALL,
        object::ALL,
        stack::ALL,
        swarm::ALL,
    ];
    let mut all: Vec<Scenario> =
        groups.into_iter().flatten().map(|scenario| Scenario { ..*scenario }).collect();
    all.sort_by_key(|scenario| scenario.id);
    all.extend(defect::all());
    all
}

/// Those that take longest; they begin first.
pub const LONG: [&str; 9] = ["B10", "C38", "C37", "B06", "C25", "C15", "C39", "C32", "C31"];

/// Those that run one after the other, after all others: they end everybody's services.
pub const ALONE: [&str; 3] = ["C11", "C12", "C13"];

/// What is known to differ: engine, scenario, and why. One that passes all the same is an error.
pub const KNOWN: &[(Kind, &str, &str)] = &[];
