//! The same steps on a real Docker Swarm, in a lab on this machine: one node, or three.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use lab::{Lab, Options};
use load::postgres::Postgres;

use super::{Ports, RATE, environment, report::Report, say, step, traffic::Traffic};
use crate::{
    build,
    stage::{Stage, SwarmNode, free_port},
};

/// Runs it all on a Swarm of so many nodes.
pub fn run(rude: bool, nodes: usize) -> Result<bool> {
    let reports = build::target().join("demo");
    let suffix = if nodes == 1 { String::new() } else { format!("-{nodes}") };
    let ending = if rude { "-rude" } else { "" };
    let folder = reports.join(format!("swarm{suffix}{ending}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;

    say("building keel and the load generator (the first time takes a few minutes)");
    let keel = build::keel()?;
    let load = build::tool("load")?;

    let started = Instant::now();
    say(&format!("starting a Docker Swarm of {nodes} in a lab of its own"));
    let lab = Lab::up(&Options::nodes(nodes)).context("raise the lab")?;
    let ports = Ports::choose()?;
    let mut stages = stages(&lab, &keel, &folder)?;
    say("starting Postgres, a throw-away cluster on the lab's gateway");
    let postgres = stages[0].state.path().join("postgres");
    let database = Postgres::start_for(&postgres, free_port()?, Some(lab.gateway()))?;
    for stage in &mut stages {
        settings(stage, &ports, database.url_at(lab.gateway()), rude);
        stage.start()?;
    }
    let stage = &stages[0];

    let mut steps = vec![step::first_release(stage)?];
    step::show(&steps[0]);
    let entries: Vec<String> = lab.nodes().iter().map(|node| node.address.to_string()).collect();
    let at = [&*entries[0], &*entries[1 % entries.len()]];
    let traffic = Traffic::start(&load, at, &ports, database.url(), RATE, &folder)?;
    say(&format!("load: {RATE} requests/s from now on, never retried"));
    let scripted = step::all_under_load(stage, &traffic, |_| Ok(Vec::new()));
    let load_report = traffic.finish()?;
    let scripted = scripted?;
    steps.extend(scripted.steps);
    let report = Report::new(&load_report, steps, &scripted.killed, rude)?;
    let path = reports.join(format!("report-swarm{suffix}{ending}.json"));
    report.write(&path)?;
    let took = started.elapsed();
    for stage in &stages {
        stage.stop().context("end a daemon of the demo")?;
    }
    lab.down().context("take the lab down")?;
    report.print(took, &path);
    Ok(report.is_good())
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
fn settings(stage: &mut Stage, ports: &Ports, database: String, rude: bool) {
    environment(stage, ports, database, rude);
    stage.set("PRIORITY_URL", "http://tasks.ala_priority:5900");
    // Images without a distribution in them need static programs.
    stage.set("CARGO_BUILD_TARGET", build::TARGET);
    stage.set("RUSTFLAGS", "-C target-feature=+crt-static");
}
