//! The plan of a run: whom to ask, how often, for how long.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::entry::Left;

#[derive(Debug, Clone)]
pub struct Plan {
    /// The API's addresses, which take turns; at least one.
    pub api: Vec<Target>,
    /// Without one no pages and assets are asked for.
    pub frontend: Vec<Target>,
    /// Addresses that get nothing more.
    pub left: Left,
    /// A Postgres address; without one nothing is proven.
    pub database: Option<String>,
    pub username: String,
    pub password: String,
    /// Requests a second.
    pub rate: u32,
    /// Without one the run lasts until it is told to stop.
    pub duration: Option<Duration>,
    /// Connections kept alive to each address.
    pub clients: usize,
    /// WebSockets open at the same time, and how long each lives.
    pub websockets: usize,
    pub websocket_life: Duration,
    /// Slow requests a second, part of the rate, and how long each takes.
    pub slow_rate: f64,
    pub slow: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// Replaced every second with the report so far.
    pub snapshot: Option<PathBuf>,
    /// Whether a line a second goes to standard error.
    pub progress: bool,
}

impl Plan {
    /// A plan with the usual mix.
    pub fn new(api: Vec<Target>, rate: u32) -> Plan {
        Plan {
            api,
            frontend: Vec::new(),
            left: Left::default(),
            database: None,
            username: "test".to_owned(),
            password: "test-password".to_owned(),
            rate,
            duration: None,
            clients: 32,
            websockets: 20,
            websocket_life: Duration::from_secs(10),
            slow_rate: 3.0,
            slow: Duration::from_secs(2),
            timeout: Duration::from_secs(20),
            snapshot: None,
            progress: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not an address; expected http://host:port")]
    Address(String),
    #[error("look up `{authority}`: {source}")]
    Lookup { authority: String, source: std::io::Error },
}

/// Where requests go: `http://host:port`.
#[derive(Debug, Clone)]
pub struct Target {
    pub authority: String,
    pub address: SocketAddr,
}

impl Target {
    pub fn parse(url: &str) -> Result<Target, Error> {
        let wrong = || Error::Address(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '@', '?', ' ']) {
            return Err(wrong());
        }
        let full = if authority.rsplit(']').next().is_some_and(|tail| tail.contains(':')) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let failed = |source| Error::Lookup { authority: authority.to_owned(), source };
        let mut found = full.to_socket_addrs().map_err(failed)?.collect::<Vec<_>>();
        // `localhost` is both; servers here listen on IPv4.
        found.sort_by_key(|address| !address.is_ipv4());
        let address = found.first().copied().ok_or_else(wrong)?;
        Ok(Target { authority: authority.to_owned(), address })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_perhaps_a_port() {
        assert_eq!(Target::parse("http://127.0.0.1:5000/").unwrap().address.port(), 5000);
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(Target::parse("http://[::1]:81").unwrap().address.port(), 81);
        assert!(Target::parse("127.0.0.1:5000").is_err());
        assert!(Target::parse("http://127.0.0.1:5000/api").is_err());
    }
}
