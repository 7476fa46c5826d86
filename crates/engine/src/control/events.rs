//! What happened, for `GET /events`: the last few, and those to come.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::sync::broadcast;

/// Events that are remembered, as many as Docker does.
const RECENT: usize = 256;
/// Events that a subscriber may be behind before it is given up.
const BEHIND: usize = 1024;

/// Hands out events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    recent: Arc<Mutex<VecDeque<Arc<Value>>>>,
    sender: broadcast::Sender<Arc<Value>>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { recent: Arc::default(), sender: broadcast::channel(BEHIND).0 }
    }

    pub(super) fn tell(&self, event: Value) {
        let event = Arc::new(event);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Nobody needs to listen.
        let _ = self.sender.send(event);
    }

    /// What was, oldest first, and what comes, without a gap between.
    pub fn subscribe(&self) -> (Vec<Arc<Value>>, broadcast::Receiver<Arc<Value>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.sender.subscribe())
    }
}
