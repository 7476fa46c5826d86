//! The demo's steps: what is done, what must come of it, and what did.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;

use super::{human, say, traffic::Traffic};
use crate::stage::{Ran, Stage, await_state, code};

/// One step and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub name: String,
    pub verdict: String,
    pub exit_code: i32,
    pub seconds: f64,
    /// It ended as it should have.
    #[serde(skip)]
    pub is_good: bool,
    /// What it said, for the case it was not.
    #[serde(skip)]
    pub text: String,
}

/// All steps under load, and the task that was killed on purpose.
pub struct Scripted {
    pub steps: Vec<Step>,
    pub killed: Vec<Killed>,
}

/// The replica that was killed on purpose.
#[derive(Clone, Debug)]
pub struct Killed {
    pub task: String,
    pub pid: i64,
    /// Docker's id of the container, which names the host in it.
    pub container: String,
}

impl Killed {
    /// What the application calls itself: the process's host and its number there. In a container
    /// the host is named after it.
    pub fn is_named(&self, instance: &str) -> bool {
        let host: String = self.container.chars().take(12).collect();
        instance.ends_with(&format!("-{}", self.pid))
            || (!host.is_empty() && instance.starts_with(&host))
    }
}

/// Version 1, before there is any traffic.
pub fn first_release(stage: &Stage) -> Result<Step> {
    keel(stage, "deploy version 1", 0, &["deploy", "ala", "--version", "v1"], &[])
}

/// Everything that happens while requests come in.
pub fn all_under_load(
    stage: &Stage,
    traffic: &Traffic,
    more: impl FnOnce(&mut dyn FnMut(Step) -> Result<()>) -> Result<Vec<Killed>>,
) -> Result<Scripted> {
    let mut steps = Vec::new();
    let mut done = |step: Step| {
        show(&step);
        let is_good = step.is_good;
        let name = step.name.clone();
        let text = step.text.clone();
        steps.push(step);
        if is_good { Ok(()) } else { bail!("step `{name}` did not end as it should:\n{text}") }
    };
    let failed = (|| -> Result<Vec<Killed>> {
        traffic.await_flow()?;
        done(keel(stage, "deploy version 2", 0, &["deploy", "ala", "--version", "v2"], &[])?)?;
        done(broken(stage, "deploy a version that is never healthy", "v3", "NEVER_HEALTHY", "1")?)?;
        done(broken(
            stage,
            "deploy one that crashes when live",
            "v4",
            "CRASH_AFTER_SECONDS",
            "3",
        )?)?;
        done(keel(stage, "scale the API 2 to 4", 0, &["scale", "ala_api=4"], &[])?)?;
        done(keel(stage, "scale the API 4 to 2", 0, &["scale", "ala_api=2"], &[])?)?;
        done(keel(stage, "roll back to version 1", 0, &["rollback", "v1"], &[])?)?;
        done(control_killed_mid_release(stage)?)?;
        let (step, killed) = replica_killed(stage)?;
        done(step)?;
        let mut all = more(&mut done)?;
        all.push(killed);
        Ok(all)
    })();
    match failed {
        Ok(killed) => Ok(Scripted { steps, killed }),
        Err(error) => {
            say(&format!("{error:#}"));
            Ok(Scripted { steps, killed: Vec::new() })
        }
    }
}

/// One line per step as it ends.
pub fn show(step: &Step) {
    let mark = if step.is_good { "ok " } else { "NOT AS EXPECTED" };
    let took = human(Duration::from_secs_f64(step.seconds));
    say(&format!("{mark} {}: {} (exit code {}, {took})", step.name, step.verdict, step.exit_code));
}

/// A `keel` command that must end with `wanted`.
pub fn keel(
    stage: &Stage,
    name: &str,
    wanted: i32,
    arguments: &[&str],
    env: &[(&str, &str)],
) -> Result<Step> {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    let ran = stage.run_with(&name.replace(' ', "-"), &arguments, env)?;
    Ok(judge(name, wanted, &ran))
}

fn judge(name: &str, wanted: i32, ran: &Ran) -> Step {
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or(Value::Null);
    let verdict = match ran.exit_code {
        0 => "done".to_owned(),
        3 => format!("rolled back: {}", cause(&answer).unwrap_or("no cause given")),
        other => format!("exit code {other}"),
    };
    Step {
        name: name.to_owned(),
        verdict,
        exit_code: ran.exit_code,
        seconds: ran.took.as_secs_f64(),
        is_good: ran.exit_code == wanted && (wanted != 3 || cause(&answer).is_some()),
        text: ran.text.clone(),
    }
}

fn cause(answer: &Value) -> Option<&str> {
    answer.pointer("/cause/message").or_else(|| answer.pointer("/cause"))?.as_str()
}

/// A release that must fail and be taken back by itself.
fn broken(stage: &Stage, name: &str, version: &str, key: &str, value: &str) -> Result<Step> {
    keel(stage, name, 3, &["deploy", "ala", "--version", version], &[(key, value)])
}

/// SIGKILL to the control process in the middle of a release; the same `keel deploy` goes on.
fn control_killed_mid_release(stage: &Stage) -> Result<Step> {
    let name = "deploy version 5, control killed midway";
    let started = Instant::now();
    let out = stage.logs.join("deploy-version-5.out");
    let err = stage.logs.join("deploy-version-5.err");
    let mut child = stage
        .command(&["deploy", "ala", "--version", "v5", "--json"])
        .stdout(std::fs::File::create(&out)?)
        .stderr(std::fs::File::create(&err)?)
        .spawn()?;
    await_state("a new task of version 5", Duration::from_secs(60), || {
        Ok(images(stage, "ala_api")?.iter().any(|image| image.ends_with(":v5")))
    })?;
    let before = pids(stage)?;
    kill(stage.control_pid()?)?;
    say("   control process killed with SIGKILL");
    let restarted_in = stage.start()?;
    say(&format!("   control process started again in {}", human(restarted_in)));
    let after = pids(stage)?;
    let status = child.wait()?;
    let text = format!(
        "{}{}",
        std::fs::read_to_string(&err).unwrap_or_default(),
        std::fs::read_to_string(&out).unwrap_or_default()
    );
    let stdout = std::fs::read_to_string(&out).unwrap_or_default();
    let ran = Ran { exit_code: code(status), took: started.elapsed(), stdout, text };
    let mut step = judge(name, 0, &ran);
    let kept = before.iter().filter(|pid| after.contains(pid)).count();
    if kept < 2 {
        step.is_good = false;
        step.text.push_str(&format!("\nprocesses before {before:?}, after {after:?}"));
    }
    step.verdict = format!("{}, tasks kept running", step.verdict);
    Ok(step)
}

/// SIGKILL to one of the API's processes; the service must be whole again by itself.
fn replica_killed(stage: &Stage) -> Result<(Step, Killed)> {
    let started = Instant::now();
    let victims = running(stage, "ala_api")?;
    let victim = victims.first().context("the API has no running task")?;
    let id = text(victim, "id").context("a task without id")?;
    let pid = victim.get("pid").and_then(Value::as_i64).context("a task without pid")?;
    let container = text(victim, "container").unwrap_or_default();
    kill(i32::try_from(pid)?)?;
    await_state("two running API tasks without the killed one", Duration::from_secs(30), || {
        let now = running(stage, "ala_api")?;
        Ok(now.len() == 2 && now.iter().all(|task| text(task, "id").as_ref() != Some(&id)))
    })?;
    let step = Step {
        name: "kill an API replica with SIGKILL".to_owned(),
        verdict: "replaced by itself".to_owned(),
        exit_code: 0,
        seconds: started.elapsed().as_secs_f64(),
        is_good: true,
        text: String::new(),
    };
    Ok((step, Killed { task: id, pid, container }))
}

fn kill(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("a process id above zero")?;
    kill_process(pid, Signal::KILL).with_context(|| format!("kill process {pid:?}"))
}

/// Tasks of a service as `keel ps` shows them, those that run.
pub fn running(stage: &Stage, service: &str) -> Result<Vec<Value>> {
    Ok(tasks(stage, service)?
        .into_iter()
        .filter(|task| {
            text(task, "state").as_deref() == Some("running")
                && text(task, "desired_state").as_deref() == Some("running")
        })
        .collect())
}

fn tasks(stage: &Stage, service: &str) -> Result<Vec<Value>> {
    let answer = stage.json("ps", &["ps", service, "--json"])?;
    Ok(answer.as_array().cloned().unwrap_or_default())
}

fn images(stage: &Stage, service: &str) -> Result<Vec<String>> {
    Ok(tasks(stage, service)?.iter().filter_map(|task| text(task, "image")).collect())
}

fn pids(stage: &Stage) -> Result<Vec<i64>> {
    Ok(running(stage, "ala_api")?.iter().filter_map(|t| t.get("pid")?.as_i64()).collect())
}

pub fn text(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}
