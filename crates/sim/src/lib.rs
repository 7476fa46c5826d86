//! A simulator for the orchestrator: seeded faults in virtual time, invariants after every step.
//!
//! Reading order: [`chance`] (the seeded numbers), [`play`] (one history: operator, driver, ingress
//! and engine crashes around the real `orchestrator::step`), [`judge`] (what must hold). The same
//! seed always gives the same history: `cargo run -p sim -- --seed 17 --trace`.

pub mod bench;
pub mod chance;
pub mod judge;
pub mod play;

pub use play::{Outcome, play};
