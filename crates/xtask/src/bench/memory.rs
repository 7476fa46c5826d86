//! Memory of everything of ours with four idle tasks: control, ingress and supervisors, as PSS.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Metric, release, result};

pub fn run() -> Result<Value> {
    let stage = release::probe_stage("memory")?;
    release::deploy(&stage, "0")?;
    let binary = fs::canonicalize(&stage.keel)?;
    let mut kinds: Vec<(String, f64)> = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        if fs::read_link(path.join("exe")).ok().as_deref() != Some(binary.as_path()) {
            continue;
        }
        let Ok(command) = fs::read(path.join("cmdline")) else { continue };
        let kind = String::from_utf8_lossy(&command);
        let kind = kind.split('\0').nth(1).unwrap_or("").to_owned();
        if let Some(pss) = pss_mib(&path.join("smaps_rollup")) {
            kinds.push((kind, pss));
        }
    }
    stage.stop()?;
    let of = |kind: &str| kinds.iter().filter(|(k, _)| k == kind).map(|(_, mib)| mib).sum::<f64>();
    let supervisors = kinds.iter().filter(|(kind, _)| kind == "supervise").count();
    ensure!(supervisors == 4, "4 supervisors expected, {supervisors} found: {kinds:?}");
    result(
        "memory",
        &[
            Metric::at_most(
                "pss_in_all",
                of("daemon") + of("ingress") + of("supervise"),
                "MiB",
                30.0,
            ),
            Metric::plain("pss_control", of("daemon"), "MiB"),
            Metric::plain("pss_ingress", of("ingress"), "MiB"),
            Metric::plain("pss_4_supervisors", of("supervise"), "MiB"),
        ],
    )
}

/// A process's proportional share of memory.
pub fn pss_mib(path: &std::path::Path) -> Option<f64> {
    let text = fs::read_to_string(path).context("gone").ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
