//! The seam to the ingress, in the words that every control of one shares.

pub use orchestrator::traffic::{Command, Drain, Endpoint, Event, Protocol, Route};
