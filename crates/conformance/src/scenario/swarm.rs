//! The swarm's end and beginning. Whoever leaves ends every service there is, so these run one after
//! the other, after all others.

use anyhow::{Context, Result, ensure};

use super::{Scenario, scenario};
use crate::exam::Exam;

pub const ALL: &[Scenario] = &[
    scenario("C11", "no swarm, and a new one", init),
    scenario("C12", "a swarm inside a swarm", again),
    scenario("C13", "leaving takes force and takes everything", leave),
];

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
                        swarm join\" to connect this node to swarm and try again.";

fn begin(exam: &Exam<'_>) -> Result<String> {
    exam.docker("swarm init --advertise-addr 127.0.0.1")?.fine()
}

fn state(exam: &Exam<'_>) -> Result<String> {
    let words = "info --format {{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}";
    Ok(exam.docker(words)?.fine()?.trim().to_owned())
}

fn init(exam: &Exam<'_>) -> Result<()> {
    exam.docker("swarm leave --force")?.fine()?;
    let without = state(exam);
    let refused = exam.docker("service ls");
    let joined =
        exam.refuses(("GET", "/v1.41/services", ""), (503, "this node is not a swarm manager."));
    let said = begin(exam)?;
    ensure!(without?.starts_with("inactive/"), "it is in a swarm all the same");
    refused?.refused(NO_SWARM)?;
    joined?;
    let first = said.lines().next().unwrap_or_default();
    let is_told = first.starts_with("Swarm initialized: current node (")
        && first.ends_with(") is now a manager.");
    ensure!(is_told, "{said}");
    ensure!(state(exam)? == "active/true", "{}", state(exam)?);
    Ok(())
}

fn again(exam: &Exam<'_>) -> Result<()> {
    let refused = exam.docker("swarm init --advertise-addr 127.0.0.1")?;
    refused.refused("This node is already part of a swarm. Use \"docker swarm leave\"")
}

fn leave(exam: &Exam<'_>) -> Result<()> {
    exam.create("c13", "--replicas 2", "sem:1")?;
    exam.until_running("c13", 2)?;
    let ids = exam.docker("ps -q --filter label=com.docker.swarm.service.name=c13")?.fine()?;
    let pids: Vec<String> = ids
        .split_whitespace()
        .map(|id| exam.docker(&format!("inspect --format {{{{.State.Pid}}}} {id}"))?.fine())
        .collect::<Result<_>>()?;
    ensure!(pids.len() == 2, "{pids:?}");
    let refused = exam.docker("swarm leave")?;
    let text = "Removing the last manager erases all current state of the swarm. Use `--force` to \
                ignore this message.";
    let said = exam.docker("swarm leave --force")?.fine()?;
    let gone = exam.until("the tasks' processes are gone", || {
        let is_there = |pid: &String| std::path::Path::new("/proc").join(pid.trim()).exists();
        Ok((!pids.iter().any(is_there)).then_some(()))
    });
    let again = exam.docker("swarm leave --force")?;
    begin(exam).context("a new swarm")?;
    let services = exam.docker("service ls -q")?.fine()?;
    refused.refused(text)?;
    ensure!(said.trim() == "Node left the swarm.", "{said}");
    gone?;
    again.refused("This node is not part of a swarm")?;
    ensure!(services.trim().is_empty(), "{services}");
    Ok(())
}
