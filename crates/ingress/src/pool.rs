//! Kept upstream connections of one worker. Never shared between threads, so never locked.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::{net::TcpStream, time::timeout};

use crate::proxy::RequestBody;

/// Backends close idle connections after 5 s (Node.js) or later; ours go before.
const IDLE: Duration = Duration::from_secs(4);
/// A local process answers a connect at once or never.
const CONNECT: Duration = Duration::from_secs(2);
const KEPT_PER_ENDPOINT: usize = 256;

/// One connection to an endpoint.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// The same socket, to look whether the other side has closed it.
    socket: OwnedFd,
    idle_since: Instant,
}

impl Connection {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(CONNECT, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .preserve_header_case(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, socket, idle_since: Instant::now() })
    }

    /// Nothing was sent by the other side, not even its end.
    fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let peeked = recv(&self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

/// Idle connections by task and address.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    idle: Rc<RefCell<HashMap<SocketAddr, Vec<Connection>>>>,
}

impl Pool {
    /// A kept connection that is still good, or a new one. True when it is new.
    pub(crate) async fn get(&self, address: SocketAddr) -> io::Result<(Connection, bool)> {
        loop {
            let kept = self.idle.borrow_mut().get_mut(&address).and_then(Vec::pop);
            let Some(mut kept) = kept else {
                return Ok((Connection::open(address).await?, true));
            };
            let is_fresh = kept.idle_since.elapsed() < IDLE;
            if is_fresh && kept.is_quiet() && kept.sender.ready().await.is_ok() {
                return Ok((kept, false));
            }
        }
    }

    pub(crate) fn put(&self, address: SocketAddr, mut connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(address).or_default();
        if kept.len() < KEPT_PER_ENDPOINT {
            kept.push(connection);
        }
    }

    /// Closes all idle connections to an address.
    pub(crate) fn flush(&self, address: SocketAddr) {
        self.idle.borrow_mut().remove(&address);
    }

    /// Closes what was idle for too long.
    pub(crate) fn sweep(&self) {
        for kept in self.idle.borrow_mut().values_mut() {
            kept.retain(|connection| connection.idle_since.elapsed() < IDLE);
        }
    }
}
