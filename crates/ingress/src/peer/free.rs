//! Connections to other nodes that have carried what they were for, and wait for the next: a
//! handshake costs more than most requests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use net::tls::ClientStream;
use tokio::{
    runtime::{Handle, Id},
    time::sleep,
};

use super::ask::OLDEST;

/// Idle connections to one node, of one runtime.
const MOST: usize = 64;
/// Between two looks for those that are too old.
const LOOK: Duration = Duration::from_secs(5);

/// Whom a connection leads to. It stays with the runtime that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    runtime: Id,
    node: String,
    address: SocketAddr,
}

impl Key {
    /// Of the runtime that runs this.
    pub(super) fn new(node: &str, address: SocketAddr) -> Self {
        Self { runtime: Handle::current().id(), node: node.to_owned(), address }
    }
}

/// A connection, and since when there is one.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) stream: ClientStream,
    pub(super) since: Instant,
}

impl Far {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= OLDEST
    }
}

#[derive(Debug, Default)]
pub(super) struct Free(Mutex<HashMap<Key, Vec<Far>>>);

impl Free {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Vec<Far>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last.
    pub(super) fn take(&self, key: &Key) -> Option<Far> {
        let mut all = self.all();
        let idle = all.get_mut(key)?;
        while let Some(far) = idle.pop() {
            if !far.is_old() {
                return Some(far);
            }
        }
        None
    }

    /// The process at their other ends is no more.
    pub(super) fn forget(&self, key: &Key) {
        self.all().remove(key);
    }

    pub(super) fn put(self: &Arc<Self>, key: Key, far: Far) {
        if far.is_old() {
            return;
        }
        let mut all = self.all();
        if !all.contains_key(&key) {
            tokio::spawn(sweep(Arc::clone(self), key.clone()));
        }
        let idle = all.entry(key).or_default();
        if idle.len() < MOST {
            idle.push(far);
        }
    }
}

/// Closes what nobody takes any more, until nothing is left.
async fn sweep(free: Arc<Free>, key: Key) {
    loop {
        sleep(LOOK).await;
        let mut all = free.all();
        let Some(idle) = all.get_mut(&key) else { return };
        idle.retain(|far| !far.is_old());
        if idle.is_empty() {
            // Whoever puts one there next starts this again.
            all.remove(&key);
            return;
        }
    }
}
