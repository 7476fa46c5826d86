//! The seam to the ingress: what control asks of it, and what it answers. Words only.
//!
//! Control (the embedded engine, or the follower of a Swarm) sends [`Command`]s into a channel and
//! receives [`Event`]s from another; the binary connects both to an ingress process. After every
//! [`Event::Connected`] control sends a full [`Command::Sync`] first, so neither side ever relies
//! on the other's memory.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// How bytes of a published port are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Http,
    Tcp,
    /// TCP, and the task is told who the client is (PROXY protocol, version 2).
    TcpProxy,
}

/// A published port and the service behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub published_port: u16,
    pub target_port: u16,
    pub protocol: Protocol,
    /// The service's name, `ala_api`; of a container outside any service `/name`.
    pub service: String,
    /// Where the port is opened; none is the ingress's own address.
    pub address: Option<std::net::IpAddr>,
}

/// A task that takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub task: String,
    /// `ala_api.1.<task id>`, for people.
    pub task_name: String,
    pub service: String,
    /// Release label of the service, empty when there is none.
    pub release: String,
    /// Target port → address; of a task of another node, that of the ingress there. One entry per
    /// published target port.
    pub addresses: Vec<(u16, SocketAddr)>,
    /// How long it is on probation: the update's monitor time.
    pub probation: Duration,
    /// The id of the node on which it is, when that is another one.
    pub peer: Option<String>,
    /// The path of an HTTP request by which the ingress sees whether it is well.
    pub probe: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The whole wanted state: everything not named here goes. `published` are endpoints that are
    /// (or are becoming) ready, `draining` those to drain. No answer but the endpoints' own.
    Sync { routes: Vec<Route>, published: Vec<Endpoint>, draining: Vec<Drain> },
    /// The routes changed (a service came, went, or changed its ports).
    Routes(Vec<Route>),
    /// Send requests to it once it accepts connections. Answer: `Published`.
    Publish(Endpoint),
    /// Send it no more. Answer: `Drained` once nothing is in flight or the deadlines passed.
    Drain(Drain),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    pub task: String,
    /// What requests in flight get (`stop_grace_period`).
    pub requests: Duration,
    /// What upgraded connections (WebSockets) and raw TCP connections get.
    pub upgraded: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new connection to an ingress: it knows nothing yet.
    Connected,
    /// The connection is lost; commands are dropped until the next `Connected`.
    Disconnected,
    Published {
        task: String,
    },
    Drained {
        task: String,
    },
    /// A listener could not be opened; the reason names the port.
    ListenFailed {
        published_port: u16,
        reason: String,
    },
}
