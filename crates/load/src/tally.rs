//! The tally: every outcome counted, latencies kept, the first failures listed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::outcome::{Outcome, Record};
use crate::report::{ByKind, CutRequest, Failure, Latency, WebSocketCut};
use crate::schedule::Kind;

/// How many failures, and how many cuts, are listed in full; all are counted.
const LISTED: usize = 5_000;

#[derive(Default)]
pub struct Tally(Mutex<Counts>);

/// What was counted so far.
#[derive(Clone, Default)]
pub struct Counts {
    pub requests: u64,
    pub ok: u64,
    pub failed: u64,
    pub cut: u64,
    pub cuts: Vec<CutRequest>,
    pub failures: Vec<Failure>,
    pub failed_by_cause: BTreeMap<String, u64>,
    pub kinds: BTreeMap<Kind, KindCounts>,
    pub versions: BTreeMap<String, u64>,
    pub websockets: WebSockets,
}

#[derive(Clone)]
pub struct KindCounts {
    requests: u64,
    ok: u64,
    failed: u64,
    cut: u64,
    latency: Histogram<u64>,
}

#[derive(Clone, Default)]
pub struct WebSockets {
    /// Those whose life is over, well or badly.
    pub ended: u64,
    pub ok: u64,
    pub cut: u64,
    pub open: u64,
    pub messages: u64,
    pub cuts: Vec<WebSocketCut>,
}

impl WebSockets {
    /// One that was cut; all are counted, the first ones listed.
    pub fn add_cut(&mut self, cut: WebSocketCut) {
        self.cut += 1;
        if self.cuts.len() < LISTED {
            self.cuts.push(cut);
        }
    }
}

impl Default for KindCounts {
    fn default() -> KindCounts {
        // From a microsecond to five minutes at three digits, proven by the test below.
        let latency = Histogram::new_with_bounds(1, 300_000_000, 3).expect("the bounds are valid");
        KindCounts { requests: 0, ok: 0, failed: 0, cut: 0, latency }
    }
}

impl Tally {
    pub fn record(&self, record: Record) {
        self.lock().add(record);
    }

    pub fn websocket(&self, change: impl FnOnce(&mut WebSockets)) {
        change(&mut self.lock().websockets);
    }

    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// The counts without the lists and histograms, for the progress line.
    pub fn brief(&self) -> Brief {
        let counts = self.lock();
        Brief {
            requests: counts.requests,
            ok: counts.ok,
            failed: counts.failed,
            cut: counts.cut,
            websockets_open: counts.websockets.open,
            websockets_cut: counts.websockets.cut,
            latency: counts.latency(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Brief {
    pub requests: u64,
    pub ok: u64,
    pub failed: u64,
    pub cut: u64,
    pub websockets_open: u64,
    pub websockets_cut: u64,
    pub latency: Latency,
}

impl Counts {
    fn add(&mut self, record: Record) {
        self.requests += 1;
        let kind = self.kinds.entry(record.kind).or_default();
        kind.requests += 1;
        kind.latency.saturating_record(micros(record.latency));
        if let Some(version) = &record.version {
            *self.versions.entry(version.clone()).or_default() += 1;
        }
        match &record.outcome {
            Outcome::Ok => {
                self.ok += 1;
                kind.ok += 1;
            }
            Outcome::Cut { task } => {
                self.cut += 1;
                kind.cut += 1;
                let task = task.clone();
                if self.cuts.len() < LISTED {
                    self.cuts.push(CutRequest::new(task, record));
                }
            }
            Outcome::Failed(cause) => {
                self.failed += 1;
                kind.failed += 1;
                *self.failed_by_cause.entry(cause.class()).or_default() += 1;
                let (class, detail) = (cause.class(), cause.detail());
                if self.failures.len() < LISTED {
                    self.failures.push(Failure::new(class, detail, record));
                }
            }
        }
    }

    /// Of all kinds but the slow one, which takes as long as it was asked to.
    pub fn latency(&self) -> Latency {
        let mut all = KindCounts::default().latency;
        for (_, kind) in self.kinds.iter().filter(|(kind, _)| **kind != Kind::Slow) {
            // The bounds are the same.
            let _ = all.add(&kind.latency);
        }
        latency(&all)
    }

    pub fn by_kind(&self) -> BTreeMap<&'static str, ByKind> {
        let by_kind = |counts: &KindCounts| ByKind {
            requests: counts.requests,
            ok: counts.ok,
            failed: counts.failed,
            cut: counts.cut,
            latency: latency(&counts.latency),
        };
        self.kinds.iter().map(|(kind, counts)| (kind.name(), by_kind(counts))).collect()
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let ms = |micros: u64| micros as f64 / 1000.0;
    Latency {
        p50_ms: ms(histogram.value_at_quantile(0.5)),
        p99_ms: ms(histogram.value_at_quantile(0.99)),
        max_ms: ms(histogram.max()),
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Cause;
    use crate::schedule::Connection;

    fn record(kind: Kind, outcome: Outcome, ms: u64) -> Record {
        Record {
            kind,
            connection: Connection::Kept,
            outcome,
            request_id: "r".into(),
            entry: "e".into(),
            instance: None,
            version: Some("1".into()),
            unix_ms: 1,
            latency: Duration::from_millis(ms),
        }
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let tally = Tally::default();
        for n in 0..1000 {
            let outcome = match n % 10 {
                0 => Outcome::Failed(Cause::Status(500)),
                1 => Outcome::Cut { task: "t".into() },
                _ => Outcome::Ok,
            };
            tally.record(record(Kind::List, outcome, 1));
        }
        let counts = tally.counts();
        assert_eq!((counts.requests, counts.ok, counts.failed, counts.cut), (1000, 800, 100, 100));
        assert_eq!(counts.by_kind()["list"].failed, 100);
        assert_eq!(counts.failed_by_cause["status 500"], 100);
        assert_eq!(counts.versions["1"], 1000);
    }

    #[test]
    fn failures_past_the_list_are_still_counted() {
        let tally = Tally::default();
        for _ in 0..LISTED + 50 {
            tally.record(record(Kind::Page, Outcome::Failed(Cause::Timeout), 1));
        }
        let counts = tally.counts();
        assert_eq!((counts.failures.len(), counts.failed), (LISTED, LISTED as u64 + 50));
    }

    #[test]
    fn slow_requests_do_not_count_towards_the_overall_latency() {
        let tally = Tally::default();
        (0..99).for_each(|_| tally.record(record(Kind::Read, Outcome::Ok, 2)));
        (0..50).for_each(|_| tally.record(record(Kind::Slow, Outcome::Ok, 2000)));
        let counts = tally.counts();
        assert!(counts.latency().max_ms < 3.0);
        assert!(counts.by_kind()["slow"].latency.p50_ms > 1999.0);
    }
}
