//! Kept upstream connections of one worker. Never shared between threads, so never locked.

use std::{
    cell::RefCell,
    os::fd::AsFd,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

use crate::{endpoint::Endpoint, reach::Connection};

/// Backends close idle connections after 5 s (Node.js) or later; ours go before.
/// The clock counts whole seconds, so this is between two and four.
const IDLE_SECONDS: u32 = 3;
const KEPT_PER_ENDPOINT: usize = 256;

/// How sure a kept connection must be that the other side has not closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// As far as the last look at all sockets told: the request may be sent again.
    Cheap,
    /// Asks the kernel now.
    Now,
}

/// A connection that waits for its next request.
struct Idle {
    connection: Connection,
    /// On the worker's clock, in seconds.
    since: u32,
}

impl Idle {
    fn is_fresh(&self, now: u32) -> bool {
        now.saturating_sub(self.since) < IDLE_SECONDS
    }
}

/// Where a connection leads: no two tasks share one, whatever their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The endpoint's number.
    endpoint: u64,
    target_port: u16,
}

impl Key {
    pub(crate) fn new(endpoint: &Endpoint, target_port: u16) -> Self {
        Self { endpoint: endpoint.number, target_port }
    }
}

/// Idle connections to one port of an endpoint.
struct Kept {
    key: Key,
    idle: Vec<Idle>,
}

/// Idle connections. There are few endpoints: looking at each is quicker than a map.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    kept: Rc<RefCell<Vec<Kept>>>,
}

impl Pool {
    /// A kept connection that is still good.
    pub(crate) fn kept(&self, key: Key, check: Check, now: u32) -> Option<Connection> {
        let mut all = self.kept.borrow_mut();
        let kept = all.iter_mut().find(|kept| kept.key == key)?;
        while let Some(one) = kept.idle.pop() {
            if one.is_fresh(now) && is_quiet(&one.connection.stream, check) {
                return Some(one.connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, key: Key, connection: Connection, now: u32) {
        if !connection.may_be_kept() {
            return;
        }
        let mut all = self.kept.borrow_mut();
        let one = Idle { connection, since: now };
        match all.iter_mut().find(|kept| kept.key == key) {
            Some(kept) if kept.idle.len() < KEPT_PER_ENDPOINT => kept.idle.push(one),
            Some(_) => {}
            None => all.push(Kept { key, idle: vec![one] }),
        }
    }

    /// Closes all idle connections to the endpoint of this number.
    pub(crate) fn flush(&self, endpoint: u64) {
        self.kept.borrow_mut().retain(|kept| kept.key.endpoint != endpoint);
    }

    /// Closes what was idle for too long.
    pub(crate) fn sweep(&self, now: u32) {
        self.kept.borrow_mut().retain_mut(|kept| {
            kept.idle.retain(|one| one.is_fresh(now));
            !kept.idle.is_empty()
        });
    }
}

/// Nothing was sent by the other side, not even its end.
fn is_quiet(stream: &TcpStream, check: Check) -> bool {
    let is_readable = || {
        let mut context = Context::from_waker(Waker::noop());
        !matches!(stream.poll_read_ready(&mut context), Poll::Pending)
    };
    if check == Check::Cheap && !is_readable() {
        return true;
    }
    has_nothing(stream)
}

/// The kernel has no byte and no end of the other side for us.
pub(crate) fn has_nothing(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    let peeked = recv(stream.as_fd(), &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}
