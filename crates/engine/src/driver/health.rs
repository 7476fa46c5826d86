//! Health decided: when the next probe is due, and what an outcome means.
//!
//! ```text
//! Starting ──success──▶ Healthy ──`retries` failures in a row──▶ Unhealthy
//!    └──no success within start_period + retries × interval────────▲
//! ```
//!
//! While starting, probes come at once and often, so readiness costs milliseconds and not an
//! interval; how long a task may take is Docker's rule all the same.

use std::time::Duration;

use dockerapi::spec::Healthcheck;
use serde::{Deserialize, Serialize};

/// Docker's defaults for what a health check leaves open.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// The longest wait between two probes of a task that starts.
const STARTING_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Test {
    Command(Vec<String>),
    Http { port: u16, path: String },
}

/// A health check with its timing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Probe {
    pub(super) test: Test,
    interval: Duration,
    pub(super) timeout: Duration,
    retries: u32,
    start_period: Duration,
}

impl Probe {
    /// Durations that are zero are Docker's defaults.
    pub(super) fn new(test: Test, timing: &Healthcheck) -> Self {
        let or = |nanos: u64, default: Duration| match nanos {
            0 => default,
            nanos => Duration::from_nanos(nanos),
        };
        let retries = match u32::try_from(timing.retries) {
            Ok(0) => RETRIES,
            Ok(retries) => retries.min(1000),
            Err(_) => 1000,
        };
        Self {
            test,
            interval: or(timing.interval, INTERVAL),
            timeout: or(timing.timeout, TIMEOUT),
            retries,
            start_period: Duration::from_nanos(timing.start_period),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// How long a task may take for its first success.
    fn patience(&self) -> Duration {
        self.start_period.saturating_add(self.interval.saturating_mul(self.retries))
    }
}

/// What a probe's outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// For the first time.
    BecameHealthy,
    Unhealthy,
    /// Nothing new.
    GoOn,
}

/// Where the health of one task stands.
#[derive(Clone, Debug)]
pub(super) struct Health {
    is_healthy: bool,
    streak: u32,
    wait: Duration,
}

impl Health {
    pub(super) fn new(probe: &Probe, is_healthy: bool) -> Self {
        // A command costs a process, a request next to nothing.
        let wait = match probe.test {
            Test::Command(_) => Duration::from_millis(25),
            Test::Http { .. } => Duration::from_millis(10),
        };
        Self { is_healthy, streak: 0, wait }
    }

    /// How long until the next probe.
    pub(super) fn next_wait(&mut self, probe: &Probe) -> Duration {
        if self.is_healthy {
            return probe.interval;
        }
        let longest = probe.interval.min(STARTING_WAIT);
        let wait = self.wait.min(longest);
        self.wait = (wait * 3 / 2).min(longest);
        wait
    }

    /// `age` is the time since the task was started.
    pub(super) fn judge(&mut self, probe: &Probe, age: Duration, is_fine: bool) -> Verdict {
        if is_fine {
            self.streak = 0;
            let is_first = !std::mem::replace(&mut self.is_healthy, true);
            return if is_first { Verdict::BecameHealthy } else { Verdict::GoOn };
        }
        if !self.is_healthy {
            return if age >= probe.patience() { Verdict::Unhealthy } else { Verdict::GoOn };
        }
        self.streak += 1;
        if self.streak >= probe.retries { Verdict::Unhealthy } else { Verdict::GoOn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn probe(test: Test) -> Probe {
        let timing = Healthcheck {
            interval: 1_000_000_000,
            retries: 2,
            start_period: 1_000_000_000,
            ..Default::default()
        };
        Probe::new(test, &timing)
    }

    fn http() -> Probe {
        probe(Test::Http { port: 1, path: "/".to_owned() })
    }

    #[test]
    fn a_task_that_never_answers_is_unhealthy_after_dockers_time_and_not_before() {
        let probe = http();
        let mut health = Health::new(&probe, false);
        let at = Duration::from_millis;
        assert_eq!(health.judge(&probe, at(10), false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, at(2900), false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, at(3000), false), Verdict::Unhealthy);
    }

    #[test]
    fn a_healthy_task_turns_unhealthy_after_enough_failures_in_a_row() {
        let probe = http();
        let mut health = Health::new(&probe, false);
        let outcomes = [true, false, true, false, false];
        let verdicts = outcomes.map(|is_fine| health.judge(&probe, 9 * SECOND, is_fine));
        let go_on = Verdict::GoOn;
        assert_eq!(verdicts, [Verdict::BecameHealthy, go_on, go_on, go_on, Verdict::Unhealthy]);
    }

    #[test]
    fn a_task_that_was_healthy_before_the_engine_ended_needs_its_failures_in_a_row() {
        let probe = http();
        let mut health = Health::new(&probe, true);
        assert_eq!(health.judge(&probe, 900 * SECOND, false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, 901 * SECOND, false), Verdict::Unhealthy);
    }

    #[test]
    fn probes_start_at_once_and_become_rarer() {
        let waits_of = |probe: &Probe| -> Vec<Duration> {
            let mut health = Health::new(probe, false);
            (0..20).map(|_| health.next_wait(probe)).collect()
        };
        let waits = waits_of(&http());
        assert_eq!(waits[0], Duration::from_millis(10));
        assert!(waits.is_sorted());
        assert_eq!(waits[19], SECOND);
        let waits = waits_of(&probe(Test::Command(vec!["true".to_owned()])));
        assert_eq!(waits[0], Duration::from_millis(25));
    }

    #[test]
    fn a_short_interval_is_never_waited_longer_than_itself() {
        let timing = Healthcheck { interval: 5_000_000, ..Default::default() };
        let probe = Probe::new(Test::Http { port: 1, path: "/".to_owned() }, &timing);
        let mut health = Health::new(&probe, false);
        assert_eq!(health.next_wait(&probe), Duration::from_millis(5));
        assert_eq!(health.next_wait(&probe), Duration::from_millis(5));
    }

    #[test]
    fn what_is_left_open_is_dockers_default() {
        let probe = Probe::new(Test::Command(Vec::new()), &Healthcheck::default());
        assert_eq!(probe.patience(), 90 * SECOND);
        assert_eq!(probe.timeout, 30 * SECOND);
    }
}
