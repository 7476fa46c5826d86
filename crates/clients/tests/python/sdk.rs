//! The Python SDK's tests: `python/sdk_test.py`, run by the interpreter that `scripts/setup test`
//! prepared, with each outcome as a line of JSON.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use conformance::{
    registry::{PASSWORD, USER},
    target,
};
use serde_json::Value;

use super::{Outcome, word};

fn interpreter() -> PathBuf {
    target().join("python/bin/python")
}

/// What is missing here to run them.
pub fn missing() -> Option<String> {
    let there = Command::new(interpreter()).args(["-c", "import docker"]).output();
    let is_there = there.is_ok_and(|output| output.status.success());
    (!is_there).then(|| "the Python SDK is missing; `scripts/setup test` installs it".to_owned())
}

pub fn run(socket: &Path, registry: &str, wanted: Option<&str>) -> Result<Vec<Outcome>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/sdk_test.py");
    let output = Command::new("timeout")
        .arg("240")
        .arg(interpreter())
        .arg(script)
        .args(wanted)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("REGISTRY", registry)
        .env("REGISTRY_USER", USER)
        .env("REGISTRY_PASSWORD", PASSWORD)
        .output()
        .context("run the Python SDK's tests")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut outcomes = Vec::new();
    for line in said.lines() {
        let told: Value = serde_json::from_str(line).with_context(|| format!("{line:?}"))?;
        let name = told["name"].as_str().context("a name")?.to_owned();
        let reason = told["reason"].as_str().map(str::to_owned);
        println!("python   {name:<52} {} {} s", word(reason.is_none()), told["seconds"]);
        reason.iter().for_each(|reason| println!("         {reason}"));
        outcomes.push(Outcome { name, reason });
    }
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the tests ended with {}: {err}", output.status);
    ensure!(wanted.is_some() || !outcomes.is_empty(), "no test ran: {err}");
    Ok(outcomes)
}
