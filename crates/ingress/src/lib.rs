//! The data plane in front of services: routes, health-gated endpoint pools, retry, drain.
//!
//! Reading order: [`endpoint`] (one task and its states), [`table`] (routes and pools, swapped
//! whole), [`message`] (HTTP/1.1 as bytes, pure), `exchange` (one request), `client` (one client's
//! connection), `reach` (a new connection to an endpoint), `peer` (to one of another node), `relay`
//! (bytes on their way), `worker` (listeners, one thread per core), `health` (which endpoints are
//! well), [`control`] (what the engine says, and what is acknowledged), `handover` (one process
//! takes the sockets of another).
//!
//! This crate knows endpoints, not services' specs; it never decides what should run. It goes on
//! serving with its last known good table when nobody talks to it.

mod buffer;
mod client;
pub mod control;
mod door;
pub mod endpoint;
mod exchange;
mod handover;
mod health;
pub mod message;
mod page;
mod peer;
mod pool;
mod preface;
mod reach;
mod relay;
mod run;
pub mod stats;
pub mod table;
mod tcp;
mod worker;

pub use handover::HandoverError;
pub use peer::Node;
pub use run::{Config, Error, run};
