//! Stopping a task only once it is drained.
//!
//! ```text
//! Swarm wants it stopped ──3 s──▶ Docker sends the quiet signal (an event of kind `kill`), which
//!                                 does nothing; its own grace period runs
//! the ingress: drained (what other nodes have of it goes through this one)
//!                            ────▶ the real signal is sent
//! its time is over           ────▶ the real signal is sent all the same
//! ```
//!
//! Which containers wait is decided here and is pure; `follow` sends the signals.

use std::collections::{BTreeMap, BTreeSet};

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
}
