//! What the demo found, as a table for people and as JSON.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::{
    human,
    step::{Killed, Step},
};

#[derive(Debug, Serialize)]
pub struct Report {
    pub requests: u64,
    pub failed: u64,
    pub cut_by_kill: u64,
    /// The requests that the killed process had in its hands, each by name.
    pub cut: Vec<Value>,
    pub lost_writes: u64,
    pub duplicated_writes: u64,
    pub websockets: u64,
    pub websockets_cut: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub rate: f64,
    pub rude: bool,
    pub steps: Vec<Step>,
    pub failures: Vec<Value>,
}

impl Report {
    /// Joins what the load saw with what was done. Requests cut by the death of the task that was
    /// killed on purpose are told apart; cut by any other death they count as failed.
    pub fn new(load: &Value, steps: Vec<Step>, killed: &[Killed], rude: bool) -> Result<Self> {
        let count = |key: &str| {
            load.get(key).and_then(Value::as_u64).with_context(|| format!("load report: no {key}"))
        };
        let number = |key: &str| load.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let list = |key: &str| load.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let (mut cut, wrongly_cut): (Vec<Value>, Vec<Value>) =
            list("cut").into_iter().partition(|c| {
                let task = c.get("task").and_then(Value::as_str).unwrap_or("");
                killed.iter().any(|killed| killed.task == task)
            });
        // WebSockets that were open to the killed process are named by the replica that answered.
        let (sockets, sockets_wrongly): (Vec<Value>, Vec<Value>) =
            list("websocket_cuts").into_iter().partition(|c| {
                let instance = c.get("instance").and_then(Value::as_str).unwrap_or("");
                killed.iter().any(|killed| killed.is_named(instance))
            });
        let sockets_cut = count("websockets_cut")?.saturating_sub(sockets.len() as u64);
        cut.extend(sockets);
        let mut failures = list("failures");
        failures.extend(wrongly_cut.iter().cloned());
        failures.extend(sockets_wrongly);
        Ok(Self {
            requests: count("requests")?,
            failed: count("failed")? + wrongly_cut.len() as u64,
            cut_by_kill: cut.len() as u64,
            cut,
            lost_writes: count("lost_writes")?,
            duplicated_writes: count("duplicated_writes")?,
            websockets: count("websockets")?,
            websockets_cut: sockets_cut,
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
            max_ms: number("max_ms"),
            rate: number("rate_achieved"),
            rude,
            steps,
            failures,
        })
    }

    /// Everything held.
    pub fn is_good(&self) -> bool {
        self.failed == 0
            && self.lost_writes == 0
            && self.duplicated_writes == 0
            && self.websockets_cut == 0
            && self.rate >= 300.0
            && self.steps.len() >= STEPS
            && self.steps.iter().all(|step| step.is_good)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    pub fn print(&self, took: Duration, path: &Path) {
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(4);
        println!("\n{:width$}  {:>9}  {:>4}  verdict", "step", "time", "exit");
        for step in &self.steps {
            let time = human(Duration::from_secs_f64(step.seconds));
            let (name, exit, verdict) = (&step.name, step.exit_code, &step.verdict);
            let mark = if step.is_good { "" } else { "  ✗ not as expected" };
            println!("{name:width$}  {time:>9}  {exit:>4}  {verdict}{mark}");
        }
        println!();
        let rows = [
            ("requests", self.requests.to_string()),
            ("failed", self.failed.to_string()),
            ("cut by the killed process", self.cut_by_kill.to_string()),
            ("lost writes", self.lost_writes.to_string()),
            ("duplicated writes", self.duplicated_writes.to_string()),
            ("WebSockets", format!("{}, cut {}", self.websockets, self.websockets_cut)),
            (
                "latency",
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms",
                    self.p50_ms, self.p99_ms, self.max_ms
                ),
            ),
        ];
        for (name, value) in rows {
            println!("{name:27} {value}");
        }
        for failure in self.failures.iter().take(10) {
            println!("  failed: {failure}");
        }
        let verdict = if self.is_good() { "all of it held" } else { "NOT all of it held" };
        println!("\n{verdict}, in {}; report: {}", human(took), path.display());
    }
}

/// How many steps a whole demo has.
const STEPS: usize = 9;
