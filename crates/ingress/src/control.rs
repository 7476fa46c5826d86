//! What control says and what it is told: one JSON object per line over a unix socket.

mod client;
mod server;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{endpoint::Description, table::Route};
pub use client::{Client, ClientError};
pub(crate) use server::{Server, listen};

/// The longest line that is read: a table of thousands of endpoints.
pub(crate) const LINE_LIMIT: u64 = 16 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// The whole wanted state; what is not named goes.
    Sync {
        routes: Vec<Route>,
        published: Vec<Description>,
        draining: Vec<Drain>,
    },
    Routes {
        routes: Vec<Route>,
    },
    Publish {
        endpoint: Description,
    },
    Drain {
        drain: Drain,
    },
    /// Asks for the counters.
    Stats {
        id: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub task: String,
    pub requests_ms: u64,
    pub upgraded_ms: u64,
}

impl Drain {
    pub fn requests(&self) -> Duration {
        Duration::from_millis(self.requests_ms)
    }

    pub fn upgraded(&self) -> Duration {
        Duration::from_millis(self.upgraded_ms)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Event {
    /// The endpoint takes requests.
    Published {
        task: String,
    },
    /// It takes none any more, and has none; `cut` were ended by a deadline.
    Drained {
        task: String,
        cut: usize,
    },
    ListenFailed {
        published_port: u16,
        reason: String,
    },
    Stats {
        id: u64,
        stats: Value,
    },
}
