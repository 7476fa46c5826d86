//! What a Swarm of several nodes adds to the demo: under the same load an ingress is upgraded, a
//! node drained, the leader stopped, and a node killed. Clients come in on every node.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use lab::Lab;
use serde_json::Value;

use super::{
    human, say,
    step::{self, Entry, Replica, Script, Step, keel, text, went_well},
    traffic::Traffic,
};
use crate::stage::{Stage, await_state};

/// A manager that came back is one of the majority again.
const REACHABLE: Duration = Duration::from_secs(90);
/// Swarm misses three heartbeats of a lost node, then starts its tasks elsewhere.
const WHOLE: Duration = Duration::from_secs(120);

/// The nodes, with a `keel` on each.
pub struct Fleet<'a> {
    pub lab: &'a Lab,
    pub stages: &'a [Stage],
    pub traffic: &'a Traffic,
}

/// The steps that need several nodes.
pub fn under_load(fleet: &Fleet<'_>, script: &mut Script) -> Result<()> {
    let leader = fleet.leader()?;
    let mut others = (0..fleet.stages.len()).filter(|node| *node != leader);
    let operator = others.next().context("a second node")?;
    let victim = others.next().context("a third node")?;
    let at = &fleet.stages[operator];
    let traffic = fleet.traffic;

    script.done(fleet.ingress_upgraded(operator)?, traffic)?;
    script.done(fleet.drained("drain a node", operator, victim)?, traffic)?;
    script.done(fleet.activated("activate it again", operator, victim)?, traffic)?;
    script.done(fleet.drained("drain the leader", operator, leader)?, traffic)?;
    script.done(fleet.leader_stopped(operator, leader)?, traffic)?;
    let name = "deploy version 6 with the new leader";
    script.done(keel(at, name, 0, &["deploy", "ala", "--version", "v6"], &[])?, traffic)?;
    script.done(fleet.leader_back(operator, leader)?, traffic)?;
    // Two replicas may stand on one node; of four some stand where there were none.
    let name = "scale the API and the pages 2 to 4";
    let scale = &["scale", "ala_api=4", "ala_frontend=4"];
    script.done(keel(at, name, 0, scale, &[])?, traffic)?;
    let step = fleet.killed(operator, victim, script)?;
    script.done(step, traffic)?;
    let name = "deploy version 7 on the nodes that are left";
    script.done(keel(at, name, 0, &["deploy", "ala", "--version", "v7"], &[])?, traffic)
}

impl Fleet<'_> {
    fn leader(&self) -> Result<usize> {
        let nodes = self.stages[0].json("nodes", &["nodes", "--json"])?;
        let leads = |node: &&Value| text(node, "role").as_deref() == Some("leader");
        let leader = nodes.as_array().into_iter().flatten().find(leads).context("a leader")?;
        let name = text(leader, "hostname").unwrap_or_default();
        let index = self.lab.nodes().iter().position(|node| node.name == name);
        index.with_context(|| format!("{name} is not of the lab"))
    }

    fn name(&self, node: usize) -> &str {
        &self.lab.node(node).name
    }

    /// A new process takes the sockets of the one that serves.
    fn ingress_upgraded(&self, node: usize) -> Result<Step> {
        let name = "upgrade the ingress of a node";
        let command = &["ingress", "--upgrade", "--json"];
        let ran = self.stages[node].run_on_node("upgrade-the-ingress", command)?;
        Ok(step::judge(name, 0, &ran))
    }

    fn drained(&self, name: &str, operator: usize, node: usize) -> Result<Step> {
        let command = &["node", "drain", self.name(node), "--yes"];
        keel(&self.stages[operator], name, 0, command, &[])
    }

    fn activated(&self, name: &str, operator: usize, node: usize) -> Result<Step> {
        keel(&self.stages[operator], name, 0, &["node", "activate", self.name(node)], &[])
    }

    /// Nothing runs there any more: its Docker ends, its ingress and `keel` stay.
    fn leader_stopped(&self, operator: usize, leader: usize) -> Result<Step> {
        let started = Instant::now();
        self.lab.stop_daemon(leader)?;
        say(&format!("   Docker of {} stopped", self.name(leader)));
        let mut new = String::new();
        await_state("another leader", REACHABLE, || {
            new = self.managers(operator, "Leader");
            Ok(!new.is_empty() && new != self.name(leader))
        })?;
        Ok(went_well("stop the leader's Docker", &format!("{new} leads"), started))
    }

    fn leader_back(&self, operator: usize, leader: usize) -> Result<Step> {
        let started = Instant::now();
        self.lab.start_daemon(leader)?;
        await_state("the manager that came back", REACHABLE, || {
            let reachable = self.managers(operator, "Reachable");
            Ok(reachable.split(' ').any(|name| name == self.name(leader)))
        })?;
        say(&format!("   reachable again after {}", human(started.elapsed())));
        let mut step = self.activated("start and activate it again", operator, leader)?;
        step.seconds = started.elapsed().as_secs_f64();
        Ok(step)
    }

    /// Managers that Docker calls so, while it answers.
    fn managers(&self, operator: usize, status: &str) -> String {
        let format = "{{.Hostname}} {{.Status}} {{.ManagerStatus}}";
        let listed = self.lab.node(operator).docker(&["node", "ls", "--format", format]);
        let listed = listed.unwrap_or_default();
        let ending = format!(" Ready {status}");
        let names = listed.lines().filter_map(|line| line.strip_suffix(&ending));
        names.collect::<Vec<_>>().join(" ")
    }

    /// As by power failure: Docker, its tasks, `keel` and its ingress die in the same moment, and
    /// the network there with them. Clients notice, and ask the other nodes from then on.
    fn killed(&self, operator: usize, node: usize, script: &mut Script) -> Result<Step> {
        let (at, name) = (&self.stages[operator], self.name(node));
        let started = Instant::now();
        let there = tasks_on(at, name)?;
        let killed_unix_ms = unix_ms();
        self.lab.kill_node(node)?;
        let address = self.lab.node(node).address.into();
        self.traffic.leave(address)?;
        let left_unix_ms = unix_ms();
        say(&format!("   {name} killed with {} tasks", there.len()));
        script.killed.replicas.extend(there);
        script.killed.entries.push(Entry { address, killed_unix_ms, left_unix_ms });
        await_state("all services whole on the other nodes", WHOLE, || {
            let count = |service| -> Result<usize> {
                let tasks = step::running(at, service)?;
                let elsewhere = |task: &&Value| text(task, "node").as_deref() != Some(name);
                Ok(tasks.iter().filter(elsewhere).count())
            };
            Ok(count("ala_api")? == 4 && count("ala_frontend")? == 4 && count("ala_priority")? == 1)
        })?;
        Ok(went_well("kill a node", "its tasks run elsewhere", started))
    }
}

/// Replicas that run on a node, wanted or not.
fn tasks_on(stage: &Stage, node: &str) -> Result<Vec<Replica>> {
    let tasks = stage.json("ps-all", &["ps", "--json"])?;
    let is_there = |task: &&Value| {
        text(task, "node").as_deref() == Some(node)
            && text(task, "state").as_deref() == Some("running")
    };
    tasks.as_array().into_iter().flatten().filter(is_there).map(Replica::of).collect()
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
