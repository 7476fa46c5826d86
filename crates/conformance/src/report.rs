//! The exam's table, its report, its verdict.

use std::{collections::BTreeMap, time::Duration};

use conformance::engine::Kind;
use serde_json::{Value, json};

use crate::scenario::{KNOWN, Scenario};

/// How one scenario went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub took: Duration,
    /// Why it failed.
    pub reason: Option<String>,
    /// Why earlier tries failed.
    pub before: Vec<String>,
}

impl Outcome {
    /// Every try that failed, of so many.
    pub fn new(took: Duration, mut failures: Vec<String>, tries: usize) -> Self {
        let reason = if failures.len() == tries { failures.pop() } else { None };
        Self { took, reason, before: failures }
    }
}

pub type Outcomes = BTreeMap<(Kind, &'static str), Outcome>;

fn known(kind: Kind, id: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(k, known, _)| *k == kind && *known == id).map(|(_, _, why)| *why)
}

/// How many of one table an engine passed and failed.
fn count(scenarios: &[Scenario], kind: Kind, outcomes: &Outcomes, defects: bool) -> (usize, usize) {
    let of_table = scenarios.iter().filter(|scenario| scenario.is_defect() == defects);
    let of_table = of_table.filter_map(|scenario| outcomes.get(&(kind, scenario.id)));
    let (passed, failed): (Vec<_>, Vec<_>) = of_table.partition(|one| one.reason.is_none());
    (passed.len(), failed.len())
}

pub fn print(scenarios: &[Scenario], kinds: &[Kind], outcomes: &Outcomes) {
    for (defects, head) in [(false, "Swarm's behaviour"), (true, "Swarm's defects")] {
        let table: Vec<&Scenario> =
            scenarios.iter().filter(|scenario| scenario.is_defect() == defects).collect();
        if table.is_empty() {
            continue;
        }
        let names = kinds.iter().map(|kind| format!("{:<16}", kind.name()));
        println!("{:<52} {}", head, names.collect::<String>().trim_end());
        for scenario in table {
            row(scenario, kinds, outcomes);
        }
        for kind in kinds {
            let (passed, failed) = count(scenarios, *kind, outcomes, defects);
            let total = passed + failed;
            let what = match (defects, kind) {
                (false, _) => "behave as specified",
                (true, Kind::Embedded) => "are done better",
                (true, Kind::Dockerd) => "are reproduced",
            };
            println!("{}: {passed}/{total} {what}", kind.name());
        }
        println!();
    }
}

fn row(scenario: &Scenario, kinds: &[Kind], outcomes: &Outcomes) {
    print!("{}  {:<47}", scenario.id, scenario.title);
    let mut below = Vec::new();
    for kind in kinds {
        match (outcomes.get(&(*kind, scenario.id)), scenario.not_on_dockerd) {
            (Some(outcome), _) => {
                let word = if outcome.reason.is_none() { "passed" } else { "FAILED" };
                print!(" {word} {:>5.1} s ", outcome.took.as_secs_f64());
                for before in &outcome.before {
                    let before: String = before.chars().take(600).collect();
                    below.push(format!("     {}, at first: {before}", kind.name()));
                }
                if let Some(reason) = &outcome.reason {
                    let reason: String = reason.chars().take(600).collect();
                    let reason = known(*kind, scenario.id).map_or(reason, str::to_owned);
                    below.push(format!("     {}: {reason}", kind.name()));
                }
            }
            (None, Some(why)) => print!(" {why}"),
            (None, None) => {}
        }
    }
    println!();
    below.iter().for_each(|line| println!("{line}"));
}

/// Per engine the counts of the first table; the second has its own under `better`.
pub fn json(
    scenarios: &[Scenario],
    kinds: &[Kind],
    outcomes: &Outcomes,
    missing: Option<&str>,
) -> Value {
    let table = |kind: Kind, defects: bool| {
        let of_table = scenarios.iter().filter(|scenario| scenario.is_defect() == defects);
        let list: Vec<Value> = of_table.filter_map(|s| one(s, kind, outcomes)).collect();
        let (passed, failed) = count(scenarios, kind, outcomes, defects);
        json!({ "passed": passed, "failed": failed, "scenarios": list })
    };
    let mut report = json!({});
    for kind in kinds {
        report[kind.name()] = table(*kind, false);
        report[kind.name()]["better"] = table(*kind, true);
    }
    if let Some(missing) = missing {
        report[Kind::Dockerd.name()] = json!({ "missing": missing });
    }
    report
}

fn one(scenario: &Scenario, kind: Kind, outcomes: &Outcomes) -> Option<Value> {
    let outcome = outcomes.get(&(kind, scenario.id))?;
    Some(json!({
        "id": scenario.id, "title": scenario.title,
        "passed": outcome.reason.is_none(), "reason": outcome.reason,
        "failed_tries": outcome.before,
        "known": known(kind, scenario.id), "seconds": outcome.took.as_secs_f64(),
    }))
}

/// Everything went as it is known to go.
pub fn judge(scenarios: &[Scenario], kinds: &[Kind], outcomes: &Outcomes) -> bool {
    let mut is_good = true;
    for (kind, scenario) in kinds.iter().flat_map(|k| scenarios.iter().map(move |s| (k, s))) {
        if !scenario.is_for(*kind) {
            continue;
        }
        let passed = outcomes.get(&(*kind, scenario.id)).is_some_and(|o| o.reason.is_none());
        match (passed, known(*kind, scenario.id)) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => is_good = false,
            (true, Some(_)) => {
                eprintln!("{} no longer fails on {}: take it out", scenario.id, kind.name());
                is_good = false;
            }
        }
    }
    is_good
}
