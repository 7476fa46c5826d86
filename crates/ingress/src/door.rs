//! The client connections of one listener: who waits for a next request, for how long, and how they
//! are told to end. A waiting connection costs no timer.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::Waker,
};

/// Seconds that a client may take from one answer to the end of its next request's head.
const PATIENCE: u32 = 30;

/// One client connection, as its listener sees it.
#[derive(Debug, Default)]
pub(crate) struct Visitor {
    /// Since when it has waited for a head, in seconds of the worker's clock.
    waits_since: Cell<Option<u32>>,
    ends: Cell<bool>,
    is_late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Visitor {
    pub(crate) fn waits(&self, now: u32) {
        self.waits_since.set(Some(now));
    }

    pub(crate) fn is_served(&self) {
        self.waits_since.set(None);
    }

    /// No further request is taken from it.
    pub(crate) fn ends(&self) -> bool {
        self.ends.get()
    }

    /// It took too long.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late.get()
    }

    /// Whom to wake when it is to end.
    pub(crate) fn wakes(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if kept.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// All client connections of one listener.
#[derive(Debug, Default)]
pub(crate) struct Door {
    visitors: RefCell<Vec<Weak<Visitor>>>,
    is_closed: Cell<bool>,
}

impl Door {
    pub(crate) fn enter(&self) -> Rc<Visitor> {
        let visitor = Rc::new(Visitor::default());
        visitor.ends.set(self.is_closed.get());
        self.visitors.borrow_mut().push(Rc::downgrade(&visitor));
        visitor
    }

    /// Those who wait end now, the others after their next answer.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        for visitor in self.visitors.borrow().iter().filter_map(Weak::upgrade) {
            visitor.ends.set(true);
            visitor.wake();
        }
    }

    /// Ends those who have waited for too long, and forgets those who left.
    pub(crate) fn sweep(&self, now: u32) {
        self.visitors.borrow_mut().retain(|visitor| {
            let Some(visitor) = visitor.upgrade() else { return false };
            if visitor.waits_since.get().is_some_and(|since| now.saturating_sub(since) > PATIENCE) {
                visitor.is_late.set(true);
                visitor.wake();
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_wait_for_too_long_are_late() {
        let door = Door::default();
        let (idle, busy) = (door.enter(), door.enter());
        idle.waits(100);
        busy.waits(100);
        busy.is_served();
        door.sweep(100 + PATIENCE);
        assert!(!idle.is_late());
        door.sweep(101 + PATIENCE);
        assert!(idle.is_late() && !busy.is_late());
    }

    #[test]
    fn a_closed_door_ends_everybody_and_those_who_come_late() {
        let door = Door::default();
        let early = door.enter();
        door.close();
        assert!(early.ends() && door.enter().ends());
        drop(early);
        door.sweep(0);
        assert_eq!(door.visitors.borrow().len(), 0);
    }
}
