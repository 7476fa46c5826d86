//! What a Swarm service is told by labels, because its own fields would mean the routing mesh.
//!
//! An ingress of ours owns the published ports of a service as a process of the host: such ports are
//! not in `EndpointSpec.Ports` but in labels of the service. A task whose stop is to wait until it
//! is drained has a stop signal that does nothing; what it really wants is in labels of the container.
//!
//! ```text
//! service    evenkeel.publish.5000 = 5000/http     published port → target port and protocol:
//!                                                  `http`, `tcp`, or `tcp+proxy` (PROXY protocol)
//! container  evenkeel.stop.signal  = SIGTERM       sent once it is drained
//!            evenkeel.stop.grace   = 10s           what it gets after that signal
//!            evenkeel.stop.within  = 37s           when the signal is sent in any case
//! ```

use std::{collections::BTreeMap, time::Duration};

use orchestrator::traffic::Protocol;

use crate::stamp::parse_duration;

/// Before the published port.
pub const PORT: &str = "evenkeel.publish.";
pub const STOP_SIGNAL: &str = "evenkeel.stop.signal";
pub const STOP_GRACE: &str = "evenkeel.stop.grace";
pub const STOP_WITHIN: &str = "evenkeel.stop.within";
/// What upgraded connections get when their task goes.
pub const DRAIN_UPGRADED: &str = "evenkeel.drain.upgraded";
/// A node whose ingress runs; the value is the version of `keel` there.
pub const NODE: &str = "evenkeel.ingress";
/// The stop signal of a task that is drained first: nothing handles it, and by default it does nothing.
pub const QUIET_SIGNAL: &str = "SIGURG";

/// A port that the ingress publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub published: u16,
    pub target: u16,
    pub protocol: Protocol,
}

impl Port {
    /// The label that says so.
    pub fn label(&self) -> (String, String) {
        let protocol = protocol_name(self.protocol);
        (format!("{PORT}{}", self.published), format!("{}/{protocol}", self.target))
    }

    fn of(key: &str, value: &str) -> Option<Self> {
        let published = key.strip_prefix(PORT)?.parse().ok()?;
        let (target, protocol) = value.split_once('/')?;
        let protocol = protocol_of(protocol)?;
        Some(Self { published, target: target.parse().ok()?, protocol })
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::TcpProxy => "tcp+proxy",
    }
}

/// What the labels `evenkeel.publish.*` and `evenkeel.port.*.protocol` call a protocol.
pub fn protocol_of(name: &str) -> Option<Protocol> {
    [Protocol::Http, Protocol::Tcp, Protocol::TcpProxy]
        .into_iter()
        .find(|protocol| protocol_name(*protocol) == name)
}

/// The ports that a service's labels publish, by number.
pub fn ports(labels: &BTreeMap<String, String>) -> Vec<Port> {
    let mut ports: Vec<Port> =
        labels.iter().filter_map(|(key, value)| Port::of(key, value)).collect();
    ports.sort_by_key(|port| port.published);
    ports
}

/// How a task whose stop waits for its drain is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What it is really sent, `SIGTERM`.
    pub signal: String,
    pub grace: Duration,
    pub within: Duration,
}

impl Stop {
    pub fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let signal = labels.get(STOP_SIGNAL)?.clone();
        let time = |key: &str| labels.get(key).and_then(|text| parse_duration(text));
        let grace = time(STOP_GRACE).unwrap_or(Duration::from_secs(10));
        Some(Self { signal, grace, within: time(STOP_WITHIN).unwrap_or(grace) })
    }

    pub fn labels(&self) -> [(&'static str, String); 3] {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        [
            (STOP_SIGNAL, self.signal.clone()),
            (STOP_GRACE, millis(self.grace)),
            (STOP_WITHIN, millis(self.within)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_back_from_its_label_and_nonsense_is_none() {
        let port = Port { published: 80, target: 8080, protocol: Protocol::Http };
        let labels = BTreeMap::from([
            port.label(),
            ("evenkeel.publish.x".to_owned(), "1/http".to_owned()),
            ("evenkeel.publish.81".to_owned(), "1/udp".to_owned()),
            ("evenkeel.publish.82".to_owned(), "70000/http".to_owned()),
        ]);
        assert_eq!(ports(&labels), [port]);
        let port = Port { published: 5432, target: 5432, protocol: Protocol::TcpProxy };
        assert_eq!(port.label().1, "5432/tcp+proxy");
        assert_eq!(ports(&BTreeMap::from([port.label()])), [port]);
    }

    #[test]
    fn a_stop_is_read_back_from_its_labels() {
        let stop = Stop {
            signal: "SIGTERM".to_owned(),
            grace: Duration::from_secs(30),
            within: Duration::from_millis(37_500),
        };
        let labels = stop.labels().map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(Stop::of(&labels), Some(stop));
    }
}
