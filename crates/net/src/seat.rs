//! Places for connections: a bounded number, and who leaves first when all are taken.
//!
//! A client that says nothing, or does not read what it asked for, makes room for one that does.
//! Whoever is being answered stays.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

/// One that said nothing for so long may be asked to leave.
const IDLE: Duration = Duration::from_millis(100);
/// So may one that has not read for so long.
const STALLED: Duration = Duration::from_secs(10);
/// How long its leaving may take.
const LEAVING: Duration = Duration::from_secs(5);
/// It is not waiting for anything.
const NEVER: u64 = u64::MAX;

/// All places of a server.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<BTreeMap<u64, Arc<Guest>>>>,
    next: Arc<AtomicU64>,
    opened: Instant,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Milliseconds after the server's start.
    idle_since: AtomicU64,
    stalled_since: AtomicU64,
    /// Requests that are being answered.
    requests: AtomicUsize,
    is_leaving: AtomicBool,
    pub(crate) leave: Notify,
    opened: Instant,
}

/// A taken place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) guest: Arc<Guest>,
    number: u64,
    taken: Arc<Mutex<BTreeMap<u64, Arc<Guest>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(crate) fn new(count: usize) -> Self {
        let free = Arc::new(Semaphore::new(count));
        Self { free, taken: Arc::default(), next: Arc::default(), opened: Instant::now() }
    }

    /// A place, of one that leaves for it if there is no other; none when all are being answered.
    pub(crate) async fn take(&self) -> Option<Seat> {
        let mut has_waited = false;
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return Some(self.seat(permit));
            }
            if self.make_room() {
                break;
            }
            if has_waited || self.longest(Guest::idle_since, Duration::ZERO).is_none() {
                return None;
            }
            // Some say nothing, but have only just come: each gets its moment to speak.
            sleep(IDLE).await;
            has_waited = true;
        }
        let permit = timeout(LEAVING, Arc::clone(&self.free).acquire_owned()).await;
        permit.ok()?.ok().map(|permit| self.seat(permit))
    }

    /// Tells the one that waits longest to leave; false when there is none.
    pub(crate) fn make_room(&self) -> bool {
        let Some(leaving) = self.longest_waiting() else { return false };
        leaving.is_leaving.store(true, Ordering::Relaxed);
        leaving.leave.notify_one();
        true
    }

    fn seat(&self, permit: OwnedSemaphorePermit) -> Seat {
        let guest = Arc::new(Guest {
            idle_since: AtomicU64::new(millis(self.opened)),
            stalled_since: AtomicU64::new(NEVER),
            requests: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
            leave: Notify::new(),
            opened: self.opened,
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(number, Arc::clone(&guest));
        Seat { guest, number, taken: Arc::clone(&self.taken), _permit: permit }
    }

    /// The silent come first, then those that do not read.
    fn longest_waiting(&self) -> Option<Arc<Guest>> {
        let silent = self.longest(Guest::idle_since, IDLE);
        silent.or_else(|| self.longest(Guest::stalled_since, STALLED))
    }

    /// Who waits longest, and for no less than this.
    fn longest(&self, since: fn(&Guest) -> u64, least: Duration) -> Option<Arc<Guest>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let guests = taken.values().filter(|g| !g.is_leaving.load(Ordering::Relaxed));
        let (since, guest) = guests.map(|g| (since(g), g)).min_by_key(|(since, _)| *since)?;
        let waited = millis(self.opened).checked_sub(since)?;
        (u128::from(waited) >= least.as_millis()).then(|| Arc::clone(guest))
    }
}

impl Guest {
    /// A request arrived; it counts until the guard is dropped.
    pub(crate) fn asks(self: &Arc<Self>) -> Asking {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Asking(Arc::clone(self))
    }

    /// What is written to it is not read, or is again.
    pub(crate) fn stalls(&self, is_stalled: bool) {
        let since = if is_stalled { millis(self.opened) } else { NEVER };
        self.stalled_since.store(since, Ordering::Relaxed);
    }

    fn idle_since(&self) -> u64 {
        match self.requests.load(Ordering::Relaxed) {
            0 => self.idle_since.load(Ordering::Relaxed),
            _ => NEVER,
        }
    }

    fn stalled_since(&self) -> u64 {
        self.stalled_since.load(Ordering::Relaxed)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Asking(Arc<Guest>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.idle_since.store(millis(self.0.opened), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_has_only_just_come_refuses_nobody() {
        let seats = Seats::new(2);
        let first = seats.take().await.expect("free");
        let second = seats.take().await.expect("free");
        let guest = Arc::clone(&first.guest);
        tokio::spawn(async move {
            guest.leave.notified().await;
            drop(first);
        });
        let third = seats.take().await.expect("the first has had its moment");
        let _asking = (second.guest.asks(), third.guest.asks());
        assert!(seats.take().await.is_none(), "both are being answered");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_makes_room_and_whoever_is_answered_stays() {
        let seats = Seats::new(2);
        let silent = seats.take().await.expect("free");
        tokio::time::advance(IDLE).await;
        let busy = seats.take().await.expect("free");
        let asking = busy.guest.asks();
        tokio::time::advance(IDLE).await;
        let guest = Arc::clone(&silent.guest);
        let leaves = tokio::spawn(async move {
            guest.leave.notified().await;
            drop(silent);
        });
        let third = seats.take().await.expect("the silent one left");
        leaves.await.expect("told to");
        let _third = third.guest.asks();
        assert!(seats.take().await.is_none(), "both are being answered");
        busy.guest.stalls(true);
        tokio::time::advance(STALLED).await;
        let guest = Arc::clone(&busy.guest);
        tokio::spawn(async move {
            guest.leave.notified().await;
            drop((asking, busy));
        });
        assert!(seats.take().await.is_some(), "one does not read");
    }
}
