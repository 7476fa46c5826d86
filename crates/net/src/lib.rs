//! Listeners, the accept loop and graceful drain: written once, for every server here.
//!
//! Reading order: [`listen`] (sockets), `shared` (those of root), [`tls`] (who may connect from
//! elsewhere), [`serve()`] (the accept loop and its end), `seat` (who may stay), `watched` and
//! `answer` (clients that do not read, or are gone), [`body`] (request bodies with a bound). This
//! crate never knows what is served; it is given a function from request to response and a shutdown
//! signal.

mod answer;
pub mod body;
pub mod listen;
mod seat;
mod serve;
mod shared;
pub mod tls;
mod watched;

pub use body::{BodyError, collect};
pub use listen::{Accept, ListenError, TcpOptions, UnixBeside, tcp_listener, unix_listener};
pub use serve::{Limits, serve};
pub use shared::{let_pass, shared_listener};
pub use tls::{Peer, TlsError, TlsFiles, TlsListener};
