//! The embedded engine: Docker's swarm mode for one machine, with supervised processes as tasks.
//!
//! Reading order: [`traffic`] and [`driver`] (the two seams), `control` (the one loop and single
//! writer), `container` (those outside any service, decided), `store` (what survives), `image`,
//! `registry` (where images come from), `exec` (commands beside tasks), then `api` (the Docker
//! Engine API on a socket).
//!
//! This crate never parses a stack file and never talks to the ingress itself: whoever composes
//! the binary connects [`traffic::Command`] and [`traffic::Event`] to one.

mod api;
pub mod cgroup;
pub mod container;
pub mod control;
pub mod copy;
mod disk;
pub mod driver;
pub mod engine;
pub mod exec;
pub mod image;
pub mod limits;
pub mod log;
pub mod registry;
pub mod store;
pub mod supervisor;
pub mod template;
pub mod traffic;

pub use engine::{Config, Engine, Error, StatsSource, lock};
