//! Listeners, the accept loop and graceful drain: written once, for every server here.
//!
//! This crate never knows what is served; it is given a hyper service and a shutdown signal.

mod listen;
mod serve;

pub use listen::{ListenError, unix_listener};
pub use serve::{Limits, serve};
