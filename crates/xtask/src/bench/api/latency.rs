//! `docker service ls`, `ps` and `inspect` with 5 and with 500 services: the bare request, and the
//! whole client. Rounds of both engines take turns; medians are compared.

use std::time::Duration;

use anyhow::Result;
use conformance::engine::Engine;

use super::{super::median, Both, Metric, peer};

const FEW: usize = 5;
const MANY: usize = 500;
/// Rounds of bare requests, and of whole clients.
const REQUESTS: usize = 41;
const CLIENTS: usize = 9;

/// A command with the bare request that is its main part.
const COMMANDS: [(&str, &[&str], &str); 3] = [
    ("ls", &["service", "ls"], "/v1.41/services?status=true"),
    ("ps", &["service", "ps", "main"], "/v1.41/tasks?filters={%22service%22:[%22main%22]}"),
    ("inspect", &["service", "inspect", "main"], "/v1.41/services/main?insertDefaults=true"),
];

pub fn measure(both: &Both) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for engine in [&both.ours, &both.theirs] {
        peer::create(engine, "main", 3, &[])?;
        peer::wait(engine, "main", "running", 3, Duration::from_secs(60))?;
    }
    let mut there = 1;
    for total in [FEW, MANY] {
        for engine in [&both.ours, &both.theirs] {
            for number in there..total {
                peer::create(engine, &format!("other-{number}"), 0, &[])?;
            }
        }
        there = total;
        for (name, words, path) in COMMANDS {
            metrics.extend(bare(both, name, path, total)?);
            metrics.extend(whole(both, name, words, total)?);
        }
    }
    for engine in [&both.ours, &both.theirs] {
        peer::remove(engine, "main")?;
        for number in 1..there {
            peer::remove(engine, &format!("other-{number}"))?;
        }
    }
    Ok(metrics)
}

fn bare(both: &Both, name: &str, path: &str, total: usize) -> Result<Vec<Metric>> {
    let ask = |engine: &Engine| peer::ask(&engine.socket, "GET", path, "").map(|(_, took)| took);
    let (ours, theirs) = rounds(both, REQUESTS, ask)?;
    let ratio = ours.middle / theirs.middle;
    let mut goal =
        Metric::at_most(&format!("request_{name}_{total}_services"), ratio, "ratio", 0.5);
    goal.compared_with = Some(compared(&ours, &theirs));
    Ok(vec![goal])
}

fn whole(both: &Both, name: &str, words: &[&str], total: usize) -> Result<Vec<Metric>> {
    let run = |engine: &Engine| peer::client(engine, words).map(|(_, took)| took);
    let (ours, theirs) = rounds(both, CLIENTS, run)?;
    let ratio = ours.middle / theirs.middle;
    let mut metric = Metric::plain(&format!("client_{name}_{total}_services"), ratio, "ratio");
    metric.compared_with = Some(compared(&ours, &theirs));
    Ok(vec![metric])
}

/// Milliseconds: the median, and half of the rounds lie within the spread.
struct Times {
    middle: f64,
    spread: (f64, f64),
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        let middle = median(&mut times);
        let at = |share: usize| times.get(times.len() * share / 4).copied().unwrap_or(f64::NAN);
        Self { middle, spread: (at(1), at(3)) }
    }

    fn told(&self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.middle, self.spread.0, self.spread.1)
    }
}

fn compared(ours: &Times, theirs: &Times) -> String {
    format!("{} to dockerd's {} ms", ours.told(), theirs.told())
}

/// Both engines in turn; the first round warms up and does not count.
fn rounds(
    both: &Both,
    count: usize,
    once: impl Fn(&Engine) -> Result<Duration>,
) -> Result<(Times, Times)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=count {
        let took = (once(&both.ours)?, once(&both.theirs)?);
        if round > 0 {
            ours.push(took.0.as_secs_f64() * 1000.0);
            theirs.push(took.1.as_secs_f64() * 1000.0);
        }
    }
    Ok((Times::of(ours), Times::of(theirs)))
}
