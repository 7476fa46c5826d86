//! The client connections of one listener: who waits for a next request, for how long, and how they
//! are told to end. A waiting connection costs no timer.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::Waker,
};

/// Seconds that a client may take from one answer to the end of its next request's head.
const PATIENCE: u32 = 30;

/// When a client's connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Now,
    /// With its next answer, or when it has waited for too long: a client that is told of the end
    /// never loses a request to it.
    AfterAnswer,
}

/// One client connection, as its listener sees it.
#[derive(Debug, Default)]
pub(crate) struct Visitor {
    /// Since when it has waited for a head, in seconds of the worker's clock.
    waits_since: Cell<Option<u32>>,
    ends: Cell<Option<End>>,
    is_late: Cell<bool>,
    /// The number of the endpoint that has its request; none has number 0.
    talks_with: Cell<u64>,
    /// That endpoint is gone without a word.
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Visitor {
    pub(crate) fn waits(&self, now: u32) {
        self.waits_since.set(Some(now));
    }

    pub(crate) fn is_served(&self) {
        self.waits_since.set(None);
    }

    /// No request after its next answer is taken from it.
    pub(crate) fn ends(&self) -> bool {
        self.ends.get().is_some()
    }

    /// It need not wait for a next request.
    pub(crate) fn ends_now(&self) -> bool {
        self.ends.get() == Some(End::Now)
    }

    pub(crate) fn talks_with(&self, endpoint: u64) {
        self.talks_with.set(endpoint);
        self.is_cut.set(false);
    }

    /// Whom it talks with will not answer any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
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
    ends: Cell<Option<End>>,
}

impl Door {
    pub(crate) fn enter(&self) -> Rc<Visitor> {
        let visitor = Rc::new(Visitor::default());
        visitor.ends.set(self.ends.get());
        self.visitors.borrow_mut().push(Rc::downgrade(&visitor));
        visitor
    }

    /// Those who wait end now, the others after their next answer.
    pub(crate) fn close(&self) {
        self.end(End::Now);
    }

    /// Each may have one more answer, and is told that it is the last.
    pub(crate) fn leave(&self) {
        self.end(End::AfterAnswer);
    }

    fn end(&self, end: End) {
        self.ends.set(Some(end));
        for visitor in self.visitors.borrow().iter().filter_map(Weak::upgrade) {
            visitor.ends.set(Some(end));
            if end == End::Now {
                visitor.wake();
            }
        }
    }

    /// Nobody comes in any more, and everybody has left.
    pub(crate) fn is_done(&self) -> bool {
        self.ends.get().is_some() && self.visitors.borrow().is_empty()
    }

    /// An endpoint is gone without a word: nobody waits for it any longer.
    pub(crate) fn cut(&self, endpoint: u64) {
        for visitor in self.visitors.borrow().iter().filter_map(Weak::upgrade) {
            if visitor.talks_with.get() == endpoint {
                visitor.is_cut.set(true);
                visitor.wake();
            }
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

    #[test]
    fn who_waits_when_the_door_is_left_may_ask_once_more() {
        let door = Door::default();
        let visitor = door.enter();
        door.leave();
        assert!(visitor.ends() && !visitor.ends_now());
        assert!(!door.is_done());
        door.close();
        assert!(visitor.ends_now());
        drop(visitor);
        door.sweep(0);
        assert!(door.is_done());
    }

    #[test]
    fn only_those_who_talk_with_a_lost_endpoint_are_cut() {
        let door = Door::default();
        let (one, other) = (door.enter(), door.enter());
        one.talks_with(7);
        other.talks_with(8);
        door.cut(7);
        assert!(one.is_cut() && !other.is_cut());
        one.talks_with(8);
        assert!(!one.is_cut(), "it asks somebody else");
    }
}
