//! The ledger of writes: which treatments were sent, and what was said about each.

use std::sync::{Mutex, PoisonError};

/// The id of a treatment, a UUID.
pub type Id = String;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// 201: it must be there, exactly once.
    Acknowledged,
    /// Cut or unclear: it may be there, once.
    Nothing,
    /// A refusal, or it never left: it should not be there; its absence is not proven.
    Refused,
}

#[derive(Debug, Default)]
pub struct Ledger(Mutex<Writes>);

#[derive(Debug, Default, Clone)]
pub struct Writes {
    pub acknowledged: Vec<Id>,
    pub unacknowledged: Vec<Id>,
    pub refused: Vec<Id>,
}

impl Ledger {
    pub fn note(&self, id: Id, said: Said) {
        let mut writes = self.lock();
        match said {
            Said::Acknowledged => writes.acknowledged.push(id),
            Said::Nothing => writes.unacknowledged.push(id),
            Said::Refused => writes.refused.push(id),
        }
    }

    /// The write acknowledged last.
    pub fn last_acknowledged(&self) -> Option<Id> {
        self.lock().acknowledged.last().cloned()
    }

    pub fn counts(&self) -> Counts {
        let writes = self.lock();
        Counts {
            acknowledged: writes.acknowledged.len() as u64,
            unacknowledged: writes.unacknowledged.len() as u64,
            refused: writes.refused.len() as u64,
        }
    }

    pub fn writes(&self) -> Writes {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub unacknowledged: u64,
    pub refused: u64,
}
