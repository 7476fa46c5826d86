//! Stopping a task only once it is drained.
//!
//! ```text
//! Swarm wants it stopped ──3 s──▶ Docker sends the quiet signal (an event of kind `kill`), which
//!                                 does nothing; its own grace period runs
//! the ingress: drained, and no ingress of another node is connected any more
//!                            ────▶ the real signal is sent
//! its time is over           ────▶ the real signal is sent all the same
//! ```
//!
//! Which containers wait is decided here and is pure; `follow` sends the signals.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use dockerapi::publish::Stop;
use orchestrator::Time;

/// Containers that were sent the quiet signal and not yet the real one.
#[derive(Debug, Default)]
pub struct Stops {
    waiting: BTreeMap<String, Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    stop: Stop,
    since: Time,
    is_sent: bool,
}

impl Stops {
    /// Docker began to stop a container whose stop is ours.
    pub fn begin(&mut self, now: Time, container: &str, stop: Stop) {
        let waiting = Waiting { stop, since: now, is_sent: false };
        self.waiting.entry(container.to_owned()).or_insert(waiting);
    }

    /// The containers to send a signal to now, with the signal. `is_idle`: nobody has a request in
    /// it any more.
    pub fn due(&mut self, now: Time, is_idle: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut due = Vec::new();
        for (container, waiting) in self.waiting.iter_mut().filter(|(_, w)| !w.is_sent) {
            let is_late = now.since(waiting.since) >= waiting.stop.within;
            if is_late || is_idle(container) {
                waiting.is_sent = true;
                due.push((container.clone(), waiting.stop.signal.clone()));
            }
        }
        due
    }

    /// The signal was not taken: it is sent again.
    pub fn failed(&mut self, container: &str) {
        if let Some(waiting) = self.waiting.get_mut(container) {
            waiting.is_sent = false;
        }
    }

    /// Forgets containers that are no more.
    pub fn keep(&mut self, running: &BTreeSet<&str>) {
        self.waiting.retain(|container, _| running.contains(container.as_str()));
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.values().any(|waiting| !waiting.is_sent)
    }
}

/// How many established connections of `/proc/PID/net/tcp` or `tcp6` come from one of `peers` to
/// one of `ports`.
pub fn connections(table: &str, ports: &[u16], peers: &BTreeSet<IpAddr>) -> usize {
    const ESTABLISHED: &str = "01";
    let is_one = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (_, port) = address(fields.next()?)?;
        let (peer, _) = address(fields.next()?)?;
        let is_open = fields.next()? == ESTABLISHED;
        Some(is_open && ports.contains(&port) && peers.contains(&peer))
    };
    table.lines().skip(1).filter(|line| is_one(line) == Some(true)).count()
}

/// `0301000A:1388`: the address as the kernel keeps it, in its own byte order by words of four.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let hex = address.get(at..at + 8)?;
        Some(u32::from_str_radix(hex, 16).ok()?.to_ne_bytes())
    };
    if address.len() == 8 {
        return Some((IpAddr::V4(Ipv4Addr::from(word(0)?)), port));
    }
    let mut bytes = [0; 16];
    for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
        four.copy_from_slice(&word(at * 8)?);
    }
    let address = Ipv6Addr::from(bytes);
    Some((address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4), port))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stop() -> Stop {
        let (grace, within) = (Duration::from_secs(10), Duration::from_secs(30));
        Stop { signal: "SIGTERM".to_owned(), grace, within }
    }

    #[test]
    fn the_real_signal_comes_when_nothing_is_left_and_once() {
        let mut stops = Stops::default();
        stops.begin(Time(0), "c", stop());
        assert!(stops.due(Time(1), |_| false).is_empty());
        assert_eq!(stops.due(Time(2), |_| true), [("c".to_owned(), "SIGTERM".to_owned())]);
        assert!(stops.due(Time(3), |_| true).is_empty());
        stops.failed("c");
        assert_eq!(stops.due(Time(4), |_| true).len(), 1);
    }

    #[test]
    fn the_real_signal_comes_in_any_case_when_its_time_is_over() {
        let mut stops = Stops::default();
        stops.begin(Time(0), "c", stop());
        assert!(stops.due(Time(29_999_999_999), |_| false).is_empty());
        assert_eq!(stops.due(Time(30_000_000_000), |_| false).len(), 1);
    }

    #[test]
    fn connections_are_counted_by_port_peer_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                     0: 0301000A:1388 0701000A:C350 01 00000000:00000000\n\
                     1: 0301000A:1388 0701000A:C351 06 00000000:00000000\n\
                     2: 0301000A:1388 0801000A:C352 01 00000000:00000000\n\
                     3: 0301000A:0016 0701000A:C353 01 00000000:00000000\n\
                     4: 0000000000000000FFFF00000301000A:1388 0000000000000000FFFF00000701000A:C354 01 x\n\
                     5: nonsense\n";
        let peers = BTreeSet::from([IpAddr::from([10, 0, 1, 7])]);
        assert_eq!(connections(table, &[5000], &peers), 2);
        assert_eq!(connections("", &[5000], &peers), 0);
    }
}
