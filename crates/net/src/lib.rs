//! Listeners, the accept loop and graceful drain: written once, for every server here.
//!
//! Reading order: [`listen`] (sockets), [`tls`] (who may connect from elsewhere), [`serve()`] (the
//! accept loop and its end), `seat` (who may stay), `watched` and `answer` (clients that do not
//! read, or are gone), [`body`] (request bodies with a bound). This crate never knows what is
//! served; it is given a function
//! from request to response and a shutdown signal.

mod answer;
pub mod body;
pub mod listen;
mod seat;
mod serve;
pub mod tls;
mod watched;

pub use body::{BodyError, collect};
pub use listen::{
    Accept, ListenError, TcpOptions, UnixBeside, tcp_listener, unix_listener, unix_listener_of,
};
pub use serve::{Limits, serve};
pub use tls::{Peer, TlsError, TlsFiles, TlsListener};
