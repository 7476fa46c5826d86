//! The data plane in front of services: routes, health-gated endpoint pools, retry, drain.
//!
//! Reading order: [`endpoint`] (one task and its states), [`table`] (routes and pools, swapped
//! whole), [`proxy`] (one request), `pool` (kept upstream connections), `worker` (listeners, one
//! thread per core), [`control`] (what the engine says, and what is acknowledged).
//!
//! This crate knows endpoints, not services' specs; it never decides what should run. It goes on
//! serving with its last known good table when nobody talks to it.

pub mod control;
pub mod endpoint;
pub mod header;
mod page;
mod pool;
pub mod proxy;
mod run;
pub mod stats;
pub mod table;
mod tcp;
mod worker;

pub use run::{Config, Error, run};
