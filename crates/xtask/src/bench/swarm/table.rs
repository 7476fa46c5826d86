//! The rounds put together: failures added up, times and latencies as medians.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    contender::Front,
    measure::{Case, Sample},
};
use crate::bench::median;

/// One contender in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub case: &'static str,
    pub front: &'static str,
    /// Of all rounds.
    pub requests: u64,
    pub failed: u64,
    pub reasons: BTreeMap<String, u64>,
    pub websockets: u64,
    pub websockets_cut: u64,
    /// Acknowledged writes that are not there, or there more than once; null when not proven.
    pub wrong_writes: Option<u64>,
    /// Medians over the rounds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub seconds: f64,
    /// How each round ended.
    pub ended: Vec<&'static str>,
    pub client_address_kept: bool,
}

pub fn rows(samples: &[Sample]) -> Vec<Row> {
    let cases =
        Case::ALL.iter().flat_map(|case| Front::ALL.map(|front| (case.name(), front.name())));
    cases
        .map(|(case, front)| {
            let of = samples.iter().filter(|s| s.case == case && s.front == front);
            row(case, front, &of.collect::<Vec<_>>())
        })
        .collect()
}

fn row(case: &'static str, front: &'static str, samples: &[&Sample]) -> Row {
    let sum = |value: fn(&Sample) -> u64| samples.iter().map(|s| value(s)).sum();
    let middle = |value: fn(&Sample) -> f64| {
        median(&mut samples.iter().map(|s| value(s)).collect::<Vec<_>>())
    };
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in samples.iter().flat_map(|sample| &sample.reasons) {
        *reasons.entry(reason.clone()).or_default() += count;
    }
    Row {
        case,
        front,
        requests: sum(|s| s.requests),
        failed: sum(|s| s.failed),
        reasons,
        websockets: sum(|s| s.websockets),
        websockets_cut: sum(|s| s.websockets_cut),
        wrong_writes: samples.iter().map(|s| Some(s.lost_writes? + s.duplicated_writes?)).sum(),
        p50_ms: middle(|s| s.p50_ms),
        p99_ms: middle(|s| s.p99_ms),
        max_ms: middle(|s| s.max_ms),
        seconds: middle(|s| s.seconds),
        ended: samples.iter().map(|s| s.ended).collect(),
        client_address_kept: samples.iter().all(|s| s.client_address_kept),
    }
}

pub fn print(rows: &[Row]) {
    let head = "what is released               in front  failed  requests  WebSockets cut  \
                writes lost/doubled   p50 ms   p99 ms   max ms  seconds  ended        address kept";
    println!("{head}");
    for row in rows {
        println!(
            "{:30} {:8} {:>7} {:>9} {:>15} {:>20} {:>8.1} {:>8.1} {:>8.1} {:>8.1}  {:12} {}",
            row.case,
            row.front,
            row.failed,
            row.requests,
            format!("{} of {}", row.websockets_cut, row.websockets),
            row.wrong_writes.map_or_else(|| "not proven".to_owned(), |count| count.to_string()),
            row.p50_ms,
            row.p99_ms,
            row.max_ms,
            row.seconds,
            together(&row.ended),
            if row.client_address_kept { "yes, X-Forwarded-For" } else { "NO" },
        );
        if row.failed > 0 {
            println!("{:40} {:?}", "", row.reasons);
        }
    }
}

/// One word when all rounds ended alike.
fn together(ended: &[&'static str]) -> String {
    match ended.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => (*first).to_owned(),
        _ => ended.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: usize, failed: u64, seconds: f64) -> Sample {
        let reasons = (failed > 0).then(|| ("broken".to_owned(), failed)).into_iter().collect();
        Sample {
            case: Case::Rude.name(),
            front: Front::Nginx.name(),
            round,
            requests: 100,
            failed,
            reasons,
            websockets: 10,
            websockets_cut: 1,
            lost_writes: Some(0),
            duplicated_writes: (round != 3).then_some(1),
            p50_ms: 1.0,
            p99_ms: 2.0,
            max_ms: 3.0,
            seconds,
            ended: if round == 1 { "completed" } else { "paused" },
            client_address_kept: true,
        }
    }

    #[test]
    fn failures_add_up_and_times_are_medians() {
        let samples = [sample(1, 2, 9.0), sample(2, 0, 1.0), sample(3, 5, 4.0)];
        let rows = rows(&samples);
        let row = rows.iter().find(|row| row.case == Case::Rude.name() && row.front == "nginx");
        let row = row.expect("a row for each contender in each case");
        assert_eq!((row.failed, row.requests, row.websockets_cut), (7, 300, 3));
        assert_eq!(row.reasons["broken"], 7);
        assert_eq!((row.seconds, row.wrong_writes), (4.0, None));
        assert_eq!(together(&row.ended), "completed/paused/paused");
        assert_eq!(rows.len(), 9);
    }
}
