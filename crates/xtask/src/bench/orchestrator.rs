//! Cost of one orchestrator event with 10, 1,000 and 100,000 tasks: at most logarithmic growth.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Metric, result};
use crate::build;

pub fn run() -> Result<Value> {
    let sim = build::tool("sim")?;
    let output = Command::new(&sim).arg("--bench").output()?;
    ensure!(output.status.success(), "sim --bench ended with {}", output.status);
    let figures: Value = serde_json::from_slice(&output.stdout).context("sim --bench says JSON")?;
    let nanos = |tasks: &str| {
        figures.get(tasks).and_then(Value::as_f64).with_context(|| format!("no figure for {tasks}"))
    };
    let (small, middle, large) = (nanos("10")?, nanos("1000")?, nanos("100000")?);
    // log2(100,000) / log2(10) = 5: what logarithmic growth from 10 to 100,000 tasks allows.
    result(
        "orchestrator",
        &[
            Metric::plain("event_at_10_tasks", small, "ns"),
            Metric::plain("event_at_1000_tasks", middle, "ns"),
            Metric::plain("event_at_100000_tasks", large, "ns"),
            Metric::at_most("growth_10_to_100000", large / small, "ratio", 5.0),
        ],
    )
}
