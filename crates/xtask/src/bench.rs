//! The benchmarks: each measures what it names, in one run beside its peers, and writes
//! `target/bench/NAME.json`.

mod api;
mod ingress;
mod memory;
mod orchestrator;
mod release;
mod swarm;

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::build;

/// One benchmark's name and what runs it.
type Bench = (&'static str, fn() -> Result<Value>);

const ALL: [Bench; 6] = [
    ("rollout", release::rollout),
    ("noop", release::noop),
    ("memory", memory::run),
    ("ingress", ingress::run),
    ("api", api::run),
    ("orchestrator", orchestrator::run),
];

/// The one that needs a Docker daemon and much time: it runs only when it is named.
const SWARM: &str = "swarm";

/// One measured figure and the goal it is held against.
#[derive(Debug, Serialize)]
pub struct Metric {
    pub metric: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<String>,
    pub met: Option<bool>,
    pub compared_with: Option<String>,
}

impl Metric {
    /// A figure that should not exceed `goal`.
    pub fn at_most(metric: &str, value: f64, unit: &'static str, goal: f64) -> Self {
        Self {
            metric: metric.to_owned(),
            value: rounded(value),
            unit,
            goal: Some(format!("<= {goal}")),
            met: Some(value <= goal),
            compared_with: None,
        }
    }

    /// A figure that should reach `goal`.
    pub fn at_least(metric: &str, value: f64, unit: &'static str, goal: f64) -> Self {
        let met = Some(value >= goal);
        let goal = Some(format!(">= {goal}"));
        Self { goal, met, ..Self::plain(metric, value, unit) }
    }

    /// A figure without a goal, for the reader.
    pub fn plain(metric: &str, value: f64, unit: &'static str) -> Self {
        let value = rounded(value);
        Self { metric: metric.to_owned(), value, unit, goal: None, met: None, compared_with: None }
    }
}

/// Joins a benchmark's metrics under its name.
pub fn result(name: &str, metrics: &[Metric]) -> Result<Value> {
    Ok(serde_json::json!({ "name": name, "metrics": serde_json::to_value(metrics)? }))
}

/// Runs the named benchmarks, or all but the one on a Docker Swarm, which takes so many rounds of
/// eight minutes. True when every goal was met.
pub fn run(names: &[String], rounds: usize) -> Result<bool> {
    let is_named = |name: &str| names.iter().any(|wanted| wanted == name);
    let is_known = |name: &str| name == SWARM || ALL.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known = ALL.map(|(name, _)| name).join(", ");
        bail!("no benchmark `{unknown}`; there are: {known}, {SWARM}");
    }
    if is_named(SWARM) {
        ensure!(rounds > 0, "--rounds 0 measures nothing; give 1 or more");
    }
    let folder = build::target().join("bench");
    fs::create_dir_all(&folder)?;
    let mut all_met = true;
    let mut measure = |name: &str, bench: &dyn Fn() -> Result<Value>| -> Result<()> {
        eprintln!("bench: {name}");
        let value = bench().with_context(|| format!("benchmark {name}"))?;
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, serde_json::to_string_pretty(&value)? + "\n")?;
        all_met &= print(name, &value);
        Ok(())
    };
    for (name, bench) in ALL.iter().filter(|(name, _)| names.is_empty() || is_named(name)) {
        measure(name, bench)?;
    }
    if is_named(SWARM) {
        measure(SWARM, &|| swarm::run(rounds))?;
    }
    Ok(all_met)
}

fn print(name: &str, value: &Value) -> bool {
    let mut all_met = true;
    for metric in value.get("metrics").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| metric.get(key).and_then(Value::as_str).unwrap_or("");
        let number = metric.get("value").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let met = metric.get("met").and_then(Value::as_bool);
        all_met &= met != Some(false);
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "NOT met",
            None => "",
        };
        let (what, unit, goal, peer) =
            (text("metric"), text("unit"), text("goal"), text("compared_with"));
        println!("{name:13} {what:36} {number:>12.3} {unit:8} {goal:10} {verdict:8} {peer}");
    }
    all_met
}

/// The middle of the values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
