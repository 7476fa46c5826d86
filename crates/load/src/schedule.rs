//! What is sent when: pure, the same for every run of the same plan.
//!
//! The schedule is open-loop: shot `n` is due at `n / rate`, whether or not earlier ones are
//! answered, and latency counts from that moment, so that a server which stalls cannot hide it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `GET /api/health`
    Health,
    /// `GET` of a page of the frontend
    Page,
    /// `GET` of an asset the last page named
    Asset,
    /// `GET /api/treatments`
    List,
    /// `GET` of a treatment that was acknowledged a moment ago
    Read,
    /// `POST` of a treatment with an id of its own
    Create,
    /// `GET /api/slow`
    Slow,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Health => "health",
            Kind::Page => "page",
            Kind::Asset => "asset",
            Kind::List => "list",
            Kind::Read => "read",
            Kind::Create => "create",
            Kind::Slow => "slow",
        }
    }
}

/// How a request gets its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// One that has served requests before, when there is one.
    Kept,
    /// One of its own, closed afterwards.
    Fresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    pub number: u64,
    /// Since the start of the run.
    pub due: Duration,
    pub kind: Kind,
    pub connection: Connection,
}

/// The mix, in twentieths.
const PATTERN: [Kind; 20] = {
    use Kind::{Asset, Create, Health, List, Page, Read};
    [
        Create, Health, Asset, Read, List, Create, Health, Page, Asset, Create, Read, Health,
        Create, List, Health, Asset, Create, Page, Read, Health,
    ]
};

/// An endless list of shots.
pub struct Schedule {
    rate: u32,
    slow_rate: f64,
    pages: bool,
    number: u64,
    fast: usize,
    seen: BTreeMap<Kind, u64>,
}

impl Schedule {
    /// `rate` requests a second, `slow_rate` of them slow ones; `pages` is whether there is a
    /// frontend to ask.
    pub fn new(rate: u32, slow_rate: f64, pages: bool) -> Schedule {
        let slow_rate = slow_rate.clamp(0.0, f64::from(rate));
        Schedule { rate: rate.max(1), slow_rate, pages, number: 0, fast: 0, seen: BTreeMap::new() }
    }

    fn kind(&mut self, number: u64) -> Kind {
        let slow_before = |n: u64| (n as f64 * self.slow_rate / f64::from(self.rate)).floor();
        if slow_before(number + 1) > slow_before(number) {
            return Kind::Slow;
        }
        let kind = PATTERN[self.fast % PATTERN.len()];
        self.fast += 1;
        match kind {
            Kind::Page | Kind::Asset if !self.pages => Kind::Health,
            kind => kind,
        }
    }
}

impl Iterator for Schedule {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        let number = self.number;
        self.number += 1;
        let kind = self.kind(number);
        let seen = self.seen.entry(kind).or_default();
        *seen += 1;
        let connection = if *seen % 2 == 1 { Connection::Kept } else { Connection::Fresh };
        let due = Duration::from_secs(number / u64::from(self.rate))
            + Duration::from_secs(number % u64::from(self.rate)) / self.rate;
        Some(Shot { number, due, kind, connection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(shots: &[Shot], wanted: impl Fn(&Shot) -> bool) -> usize {
        shots.iter().filter(|shot| wanted(shot)).count()
    }

    #[test]
    fn shots_are_due_evenly_at_the_rate() {
        let shots: Vec<Shot> = Schedule::new(400, 3.0, true).take(4001).collect();
        assert_eq!(shots[1].due, Duration::from_micros(2500));
        assert_eq!(shots[400].due, Duration::from_secs(1));
        assert_eq!(shots[4000].due, Duration::from_secs(10));
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let shots: Vec<Shot> = Schedule::new(333, 0.0, true).take(333 * 60 + 1).collect();
        assert_eq!(shots[333 * 60].due, Duration::from_secs(60));
    }

    #[test]
    fn the_mix_holds_slow_requests_included() {
        let shots: Vec<Shot> = Schedule::new(400, 3.0, true).take(40_000).collect();
        assert_eq!(count(&shots, |shot| shot.kind == Kind::Slow), 300);
        let creates = count(&shots, |shot| shot.kind == Kind::Create);
        assert_eq!(creates, 39_700 / 4);
        assert_eq!(count(&shots, |shot| shot.kind == Kind::Page), 39_700 / 10);
    }

    #[test]
    fn every_kind_is_half_on_kept_and_half_on_fresh_connections() {
        let shots: Vec<Shot> = Schedule::new(400, 3.0, true).take(40_000).collect();
        for kind in PATTERN.into_iter().chain([Kind::Slow]) {
            let of_kind = count(&shots, |shot| shot.kind == kind);
            let kept = count(&shots, |s| s.kind == kind && s.connection == Connection::Kept);
            assert_eq!(kept, of_kind.div_ceil(2), "{kind:?}");
        }
    }

    #[test]
    fn without_a_frontend_nothing_asks_for_pages() {
        let mut shots = Schedule::new(100, 1.0, false).take(1000);
        assert!(!shots.any(|shot| matches!(shot.kind, Kind::Page | Kind::Asset)));
    }
}
