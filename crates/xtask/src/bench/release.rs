//! How long a release takes from command to verdict: 2 services × 2 replicas, ready in 50 ms.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Metric, median, result};
use crate::{build, stage::Stage};

const ROUNDS: usize = 7;

/// A release that replaces all four tasks.
pub fn rollout() -> Result<Value> {
    let stage = probe_stage("rollout")?;
    deploy(&stage, "0")?;
    let mut seconds = Vec::new();
    for round in 1..=ROUNDS {
        seconds.push(deploy(&stage, &round.to_string())?.as_secs_f64());
    }
    stage.stop()?;
    result("rollout", &[Metric::at_most("seconds", median(&mut seconds), "s", 1.0)])
}

/// A deploy that changes nothing.
pub fn noop() -> Result<Value> {
    let stage = probe_stage("noop")?;
    deploy(&stage, "0")?;
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        seconds.push(deploy(&stage, "0")?.as_secs_f64());
    }
    stage.stop()?;
    result("noop", &[Metric::at_most("seconds", median(&mut seconds), "s", 0.3)])
}

/// A running engine and the stack of the probe application.
pub fn probe_stage(name: &str) -> Result<Stage> {
    let keel = build::keel()?;
    build::tool("probe")?;
    let folder = build::root().join("crates/xtask/probe");
    let logs = build::target().join("bench/logs").join(name);
    let mut stage = Stage::new(keel, folder, logs)?;
    stage.set("PROBE_FILE", build::target().join("release/probe").display().to_string());
    stage.set("A_PORT", crate::stage::free_port()?.to_string());
    stage.set("B_PORT", crate::stage::free_port()?.to_string());
    stage.start()?;
    Ok(stage)
}

/// One deploy; `generation` is in the environment of the tasks, so a new one replaces them.
pub fn deploy(stage: &Stage, generation: &str) -> Result<Duration> {
    let arguments = ["deploy", "-c", "stack.yml", "probe", "--version", "bench"];
    let env = [("GENERATION", generation)];
    let ran = stage.run_with(&format!("deploy-{generation}"), &arguments, &env)?;
    ensure!(ran.exit_code == 0, "deploy ended with {}:\n{}", ran.exit_code, ran.text);
    Ok(ran.took)
}
