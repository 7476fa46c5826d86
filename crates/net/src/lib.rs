//! Listeners, the accept loop and graceful drain: written once, for every server here.
//!
//! Reading order: [`listen`] (sockets), [`tls`] (who may connect from elsewhere), [`serve()`] (the
//! accept loop and its end), [`body`] (request bodies with a bound). This crate never knows what is served; it is given a function
//! from request to response and a shutdown signal.

pub mod body;
pub mod listen;
mod serve;
pub mod tls;

pub use body::{BodyError, collect};
pub use listen::{Accept, ListenError, TcpOptions, tcp_listener, unix_listener, unix_listener_of};
pub use serve::{Limits, serve};
pub use tls::{Peer, TlsError, TlsFiles, TlsListener};
