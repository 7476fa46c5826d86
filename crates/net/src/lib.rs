//! Listeners, the accept loop and graceful drain: written once, for every server here.
//!
//! Reading order: [`listen`] (sockets), [`serve()`] (the accept loop and its end), [`body`]
//! (request bodies with a bound). This crate never knows what is served; it is given a function
//! from request to response and a shutdown signal.

pub mod body;
pub mod listen;
mod serve;

pub use body::{BodyError, collect};
pub use listen::{Accept, ListenError, TcpOptions, tcp_listener, unix_listener};
pub use serve::{Limits, serve};
