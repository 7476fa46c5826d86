//! Counters of requests, failures by cause, and latencies; read as JSON.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

/// Latency buckets: four per power of two, from 1 µs on.
const BUCKETS: usize = 128;

/// Why a request did not get its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No endpoint was there to take it.
    NoEndpoint,
    /// No connection to any endpoint could be made.
    Connect,
    /// The endpoint had it in its hands when its connection broke.
    Cut,
    /// The client went away or sent something unreadable.
    Client,
}

/// Counters of one endpoint, or of a pool for what reached no endpoint.
#[derive(Debug)]
pub struct Counters {
    requests: AtomicU64,
    by_class: [AtomicU64; 6],
    failures: [AtomicU64; 4],
    retries: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            by_class: std::array::from_fn(|_| AtomicU64::new(0)),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            retries: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Counters {
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let class = usize::from(status / 100).min(5);
        self.by_class[class].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self, why: Failure) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An answer that had begun, and was counted, broke.
    pub fn broke(&self, why: Failure) {
        self.failures[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds those of another, which counts no more.
    pub fn take_over(&self, other: &Self) {
        let add = |to: &AtomicU64, from: &AtomicU64| {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        add(&self.requests, &other.requests);
        add(&self.retries, &other.retries);
        let pairs = self.by_class.iter().zip(&other.by_class);
        let pairs = pairs.chain(self.failures.iter().zip(&other.failures));
        for (to, from) in pairs.chain(self.buckets.iter().zip(&other.buckets)) {
            add(to, from);
        }
    }

    /// Adds these to a sum.
    pub fn add_to(&self, sum: &mut Sum) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        sum.requests += load(&self.requests);
        sum.retries += load(&self.retries);
        for (to, from) in sum.by_class.iter_mut().zip(&self.by_class) {
            *to += load(from);
        }
        for (to, from) in sum.failures.iter_mut().zip(&self.failures) {
            *to += load(from);
        }
        for (to, from) in sum.buckets.iter_mut().zip(&self.buckets) {
            *to += load(from);
        }
    }
}

/// Counters added up.
#[derive(Clone, Debug)]
pub struct Sum {
    requests: u64,
    by_class: [u64; 6],
    failures: [u64; 4],
    retries: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Sum {
    fn default() -> Self {
        Self { requests: 0, by_class: [0; 6], failures: [0; 4], retries: 0, buckets: [0; BUCKETS] }
    }
}

impl Sum {
    pub fn json(&self) -> Value {
        let [no_endpoint, connect, cut, client] = self.failures;
        json!({
            "requests": self.requests,
            "retries": self.retries,
            "responses": {
                "1xx": self.by_class[1], "2xx": self.by_class[2], "3xx": self.by_class[3],
                "4xx": self.by_class[4], "5xx": self.by_class[5],
            },
            "failures": {
                "no_endpoint": no_endpoint, "connect": connect, "cut": cut, "client": client,
            },
            "p50_ms": self.percentile(0.50),
            "p90_ms": self.percentile(0.90),
            "p99_ms": self.percentile(0.99),
        })
    }

    /// Upper edge of the bucket that holds the percentile, in milliseconds.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let wanted = total as f64 * part;
        let mut seen = 0_u64;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            if seen as f64 >= wanted {
                return Some((upper_micros(at) / 10.0).round() / 100.0);
            }
        }
        None
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(4);
    let power = 63 - micros.leading_zeros() as usize;
    let quarter = usize::try_from((micros >> (power - 2)) & 3).unwrap_or(0);
    ((power - 2) * 4 + quarter).min(BUCKETS - 1)
}

fn upper_micros(bucket: usize) -> f64 {
    let power = i32::try_from(bucket / 4 + 2).unwrap_or(2);
    let quarter = f64::from(u32::try_from(bucket % 4).unwrap_or(0));
    2_f64.powi(power) * (1.0 + (quarter + 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_quarter_of_the_truth() {
        let counters = Counters::default();
        for ms in 1..=100 {
            counters.answered(200, Duration::from_millis(ms));
        }
        let mut sum = Sum::default();
        counters.add_to(&mut sum);
        let p50 = sum.percentile(0.5).expect("there are some");
        assert!((50.0..65.0).contains(&p50), "{p50}");
        let p99 = sum.percentile(0.99).expect("there are some");
        assert!((99.0..125.0).contains(&p99), "{p99}");
    }
}
