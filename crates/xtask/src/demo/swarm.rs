//! The same steps on a real Docker Swarm, in a lab on this machine: one node, or several, which
//! have steps of their own.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use lab::{Lab, Options};
use load::postgres::Postgres;

use super::{
    Ports, RATE, environment,
    fleet::{self, Fleet},
    report::{self, Both, Report},
    say,
    step::{self, Script},
    traffic::Traffic,
};
use crate::{
    build,
    stage::{Stage, SwarmNode, free_port},
};

/// What is needed for one run after the other.
struct Ready {
    nodes: usize,
    keel: PathBuf,
    load: PathBuf,
    reports: PathBuf,
}

/// Runs it all on a Swarm of so many nodes: with both applications, or with the rude one only.
pub fn run(is_rude_only: bool, nodes: usize) -> Result<bool> {
    if nodes == 2 {
        bail!("two managers cannot lose one; --swarm takes 1, or 3 and more");
    }
    Lab::check().context("the demo on a Swarm runs in a lab")?;
    say("building keel and the load generator (at first about ten minutes on two cores)");
    let reports = build::target().join("demo");
    let (keel, load) = (build::keel()?, build::static_binary("load", "load")?);
    let ready = Ready { nodes, keel, load, reports };
    if is_rude_only {
        return Ok(ready.perform(true)?.is_good());
    }
    let both = Both::new(ready.perform(false)?, ready.perform(true)?);
    let path = ready.report("");
    report::write(&both, &path)?;
    both.print(&path);
    Ok(both.is_good())
}

impl Ready {
    /// `report-swarm.json`, with the number of nodes and an ending where it has them.
    fn report(&self, ending: &str) -> PathBuf {
        self.reports.join(format!("{}{ending}.json", self.named("report-swarm")))
    }

    fn named(&self, what: &str) -> String {
        if self.nodes == 1 { what.to_owned() } else { format!("{what}-{}", self.nodes) }
    }

    /// One run, on a Swarm of its own.
    fn perform(&self, rude: bool) -> Result<Report> {
        let kind = if rude { "rude" } else { "graceful" };
        let folder = self.reports.join(format!("{}-{kind}", self.named("swarm")));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;

        let started = Instant::now();
        let nodes = if self.nodes == 1 { "one node" } else { "several nodes" };
        say(&format!("a Docker Swarm of {nodes} in a lab of its own; the {kind} application"));
        let lab = Lab::up(&Options::nodes(self.nodes)).context("raise the lab")?;
        let ports = Ports::choose()?;
        let mut stages = stages(&lab, &self.keel, &folder)?;
        say("starting Postgres, a throw-away cluster on the lab's gateway");
        let postgres = stages[0].state.path().join("postgres");
        let database = Postgres::start_for(&postgres, free_port()?, Some(lab.gateway()))?;
        for stage in &mut stages {
            settings(stage, &ports, database.url_at(lab.gateway()), rude);
            say("starting keel daemon --swarm --background on a node");
            stage.start()?;
        }
        let mut script = Script::default();
        script.first(step::first_release(&stages[0])?)?;

        let entries: Vec<IpAddr> = lab.nodes().iter().map(|node| node.address.into()).collect();
        let traffic = Traffic::start(&self.load, &entries, &ports, database.url(), RATE, &folder)?;
        say(&format!("load: {RATE} requests/s from now on, never retried"));
        let mut outcome = step::under_load(&stages[0], &traffic, &mut script);
        if outcome.is_ok() && self.nodes > 1 {
            let fleet = Fleet { lab: &lab, stages: &stages, traffic: &traffic };
            outcome = fleet::under_load(&fleet, &mut script);
        }
        script.end(outcome);
        let load = traffic.finish()?;

        let took = started.elapsed();
        let report = Report::new(&load, script, rude, Some(self.nodes))?;
        let path = self.report(&format!("-{kind}"));
        report::write(&report, &path)?;
        for stage in &stages {
            stage.stop().context("end a daemon of the demo")?;
        }
        lab.down().context("take the lab down")?;
        report.print(took, &path);
        Ok(report)
    }
}

/// One `keel` for each node, in its network.
fn stages(lab: &Lab, keel: &Path, folder: &Path) -> Result<Vec<Stage>> {
    let one = |node: &lab::Node| {
        let logs = folder.join("logs").join(&node.name);
        let mut stage = Stage::new(keel.to_owned(), build::root().join("examples/ala"), logs)?;
        let (namespace, socket) = (node.namespace_path(), node.socket.clone());
        stage.node = Some(SwarmNode { namespace, socket });
        Ok(stage)
    };
    lab.nodes().iter().map(one).collect()
}

/// As for the embedded engine, with the names that hold inside a container. The kernel of a plain
/// machine may lack IPVS, without which Docker's service addresses carry nothing: the ERP is
/// reached by its tasks' name.
pub fn settings(stage: &mut Stage, ports: &Ports, database: String, rude: bool) {
    environment(stage, ports, database, rude);
    stage.set("PRIORITY_URL", "http://tasks.ala_priority:5900");
    // Images without a distribution in them need static programs.
    stage.set("CARGO_BUILD_TARGET", build::TARGET);
    stage.set("RUSTFLAGS", "-C target-feature=+crt-static");
}
