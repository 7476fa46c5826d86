//! The demo's steps: what is done, what must come of it, and what did.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;

use super::{human, say, traffic::Traffic};
use crate::stage::{Ran, Stage, await_state, code};

/// One step and its outcome.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Step {
    pub name: String,
    pub verdict: String,
    pub exit_code: i32,
    pub seconds: f64,
    /// Answered between the end of the step before and its own.
    pub requests: u64,
    /// It ended as it should have.
    #[serde(skip)]
    pub is_good: bool,
    /// What it said, for the case it was not.
    #[serde(skip)]
    pub text: String,
}

/// What was done, step by step, and what was killed on purpose.
#[derive(Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
    pub killed: Killed,
    /// Everything was done and ended as it should.
    pub is_complete: bool,
    /// Answered until the end of the last step.
    pub requests: u64,
}

/// What was killed on purpose.
#[derive(Debug, Default)]
pub struct Killed {
    pub replicas: Vec<Replica>,
    pub entries: Vec<Entry>,
}

/// The address of a node that was killed. Clients lose what they had in their hands there.
#[derive(Clone, Debug)]
pub struct Entry {
    pub address: IpAddr,
    pub killed_unix_ms: u64,
    /// From then on nobody was sent there.
    pub left_unix_ms: u64,
}

/// A replica that was killed.
#[derive(Clone, Debug)]
pub struct Replica {
    pub task: String,
    pub pid: i64,
    /// Docker's id of the container, which names the host in it.
    pub container: String,
}

impl Replica {
    /// From a task as `keel ps` shows it.
    pub fn of(task: &Value) -> Result<Self> {
        Ok(Self {
            task: text(task, "id").context("a task without id")?,
            pid: task.get("pid").and_then(Value::as_i64).context("a task without pid")?,
            container: text(task, "container").unwrap_or_default(),
        })
    }

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
    say("   building the example and deploying it (the first time takes a few minutes)");
    keel(stage, "deploy version 1", 0, &["deploy", "ala", "--version", "v1"], &[])
}

impl Script {
    /// A step under load has ended. Fails when it was not as it should.
    pub fn done(&mut self, mut step: Step, traffic: &Traffic) -> Result<()> {
        let answered = traffic.requests().max(self.requests);
        step.requests = answered - self.requests;
        self.requests = answered;
        self.first(step)
    }

    /// A step without load.
    pub fn first(&mut self, step: Step) -> Result<()> {
        show(&step);
        let wrong = (!step.is_good).then(|| (step.name.clone(), step.text.clone()));
        self.steps.push(step);
        match wrong {
            None => Ok(()),
            Some((name, text)) => bail!("step `{name}` did not end as it should:\n{text}"),
        }
    }

    /// The last step has ended, or one of them was not as it should.
    pub fn end(&mut self, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.is_complete = true,
            Err(error) => say(&format!("{error:#}")),
        }
    }
}

/// What happens on every engine while requests come in.
pub fn under_load(stage: &Stage, traffic: &Traffic, script: &mut Script) -> Result<()> {
    let deploy =
        |name, version| keel(stage, name, 0, &["deploy", "ala", "--version", version], &[]);
    traffic.await_flow()?;
    script.done(deploy("deploy version 2", "v2")?, traffic)?;
    let name = "deploy a version that is never healthy";
    script.done(broken(stage, name, "v3", "NEVER_HEALTHY", "1")?, traffic)?;
    let name = "deploy one that crashes when live";
    script.done(broken(stage, name, "v4", "CRASH_AFTER_SECONDS", "3")?, traffic)?;
    for (name, wanted) in [("2 to 4", "ala_api=4"), ("4 to 2", "ala_api=2")] {
        let name = format!("scale the API {name}");
        script.done(keel(stage, &name, 0, &["scale", wanted], &[])?, traffic)?;
    }
    let back = keel(stage, "roll back to version 1", 0, &["rollback", "v1"], &[])?;
    script.done(back, traffic)?;
    script.done(control_killed_mid_release(stage)?, traffic)?;
    let (step, killed) = replica_killed(stage)?;
    script.killed.replicas.push(killed);
    script.done(step, traffic)
}

/// One line per step as it ends.
fn show(step: &Step) {
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

/// What came of a command that must end with `wanted`.
pub fn judge(name: &str, wanted: i32, ran: &Ran) -> Step {
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
        ..Step::default()
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
    await_state("the end of the control process", Duration::from_secs(20), || {
        Ok(!stage.is_controlled())
    })?;
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
fn replica_killed(stage: &Stage) -> Result<(Step, Replica)> {
    let started = Instant::now();
    let victims = running(stage, "ala_api")?;
    let victim = victims.first().context("the API has no running task")?;
    let replica = Replica::of(victim)?;
    kill(i32::try_from(replica.pid)?)?;
    await_state("two running API tasks without the killed one", Duration::from_secs(30), || {
        let now = running(stage, "ala_api")?;
        Ok(now.len() == 2
            && now.iter().all(|task| text(task, "id").as_ref() != Some(&replica.task)))
    })?;
    Ok((went_well("kill an API replica with SIGKILL", "replaced by itself", started), replica))
}

/// A step that came to its end, which is what it was about.
pub fn went_well(name: &str, verdict: &str, started: Instant) -> Step {
    Step {
        name: name.to_owned(),
        verdict: verdict.to_owned(),
        seconds: started.elapsed().as_secs_f64(),
        is_good: true,
        ..Step::default()
    }
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
