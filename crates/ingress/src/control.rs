//! What control says and what it is told: one JSON object per line over a unix socket. A process
//! that takes over speaks the same, and gets the listening sockets beside its lines.
//!
//! Reading order: `server` (what is said), `ports` (sockets), `drain` (no endpoint goes while it has
//! something in its hands), `report` (counters).

mod client;
mod drain;
mod ports;
mod report;
mod server;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    endpoint::{Description, Standing},
    peer::Node,
    table::Route,
};
pub use client::{Client, ClientError};
pub(crate) use drain::Predecessor;
pub(crate) use ports::{Sockets, bind};
pub(crate) use server::{Leaving, Server, listen};

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
    /// Another process wants to go on in place of this one. Answer: the sockets, and `Handed`.
    HandOver {
        version: String,
    },
    /// It serves. Answer: `Leaving`, once this process admits nobody more. What is long-lived here
    /// may stay for so long.
    TakenOver {
        within_ms: u64,
    },
    /// Control reaches the other process now.
    Here,
    /// The process that took over ends, and this one with it.
    End,
}

/// What one process leaves to the next, beside the sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handed {
    pub version: String,
    /// Address that published ports are opened on.
    pub address: std::net::IpAddr,
    pub routes: Vec<Route>,
    pub endpoints: Vec<Standing>,
    /// How many sockets came.
    pub sockets: usize,
    /// As which node; one of the sockets may be for the others.
    #[serde(default)]
    pub node: Option<Node>,
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
    Handed {
        handed: Handed,
    },
    /// This process admits nobody more.
    Leaving,
}
