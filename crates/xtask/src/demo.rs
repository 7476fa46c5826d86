//! The demo: the example application is released, updated, broken, rolled back and scaled on the
//! embedded engine, under load, and every request is accounted for.

mod fleet;
mod report;
mod step;
pub mod swarm;
pub mod traffic;

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    build,
    stage::{Stage, free_port},
};
use report::Report;
use step::Script;
use traffic::Traffic;

/// Requests per second while the releases go on.
const RATE: u32 = 350;

/// Runs it all. True when every step went as it should and no request was lost. With `nodes` it is
/// a Docker Swarm of so many nodes that runs the application.
pub fn run(rude: bool, nodes: Option<usize>) -> Result<bool> {
    match nodes {
        Some(nodes) => swarm::run(rude, nodes),
        None => embedded(rude),
    }
}

fn embedded(rude: bool) -> Result<bool> {
    let report_folder = build::target().join("demo");
    let folder = report_folder.join(if rude { "rude" } else { "graceful" });
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&report_folder)?;

    say("building keel and the load generator (at first about ten minutes on two cores)");
    let keel = build::keel()?;
    let load = build::tool("load")?;

    let started = Instant::now();
    say("starting Postgres, a throw-away cluster on the loopback");
    let mut stage = Stage::new(keel, build::root().join("examples/ala"), folder.join("logs"))?;
    let database = traffic::database(stage.state.path())?;
    let ports = Ports::choose()?;
    environment(&mut stage, &ports, database.url(), rude);
    say("starting the engine: keel daemon --background");
    stage.start()?;

    let mut script = Script::default();
    script.first(step::first_release(&stage)?)?;
    let at = [Ipv4Addr::LOCALHOST.into()];
    let traffic = Traffic::start(&load, &at, &ports, database.url(), RATE, &folder)?;
    say(&format!("load: {RATE} requests/s from now on, never retried"));
    let outcome = step::under_load(&stage, &traffic, &mut script);
    script.end(outcome);
    let load_report = traffic.finish()?;

    let took = started.elapsed();
    let report = Report::new(&load_report, script, rude, None)?;
    let path = report_folder.join("report.json");
    report::write(&report, &path)?;
    if rude {
        report::write(&report, &report_folder.join("report-rude.json"))?;
    }
    stage.stop().context("end the demo's engine")?;
    report.print(took, &path);
    Ok(report.is_good())
}

/// Ports of the published services.
#[derive(Clone, Copy)]
pub struct Ports {
    pub api: u16,
    pub frontend: u16,
    pub priority: u16,
}

impl Ports {
    pub fn choose() -> Result<Self> {
        Ok(Self { api: free_port()?, frontend: free_port()?, priority: free_port()? })
    }
}

/// What the operator would write into `.env`, with waiting times fit for a demo.
pub fn environment(stage: &mut Stage, ports: &Ports, database: String, rude: bool) {
    stage.set("API_PORT", ports.api.to_string());
    stage.set("HTTP_PORT", ports.frontend.to_string());
    stage.set("PRIORITY_PORT", ports.priority.to_string());
    stage.set("PRIORITY_URL", format!("http://127.0.0.1:{}", ports.priority));
    stage.set("API_URL", format!("http://127.0.0.1:{}", ports.api));
    stage.set("DATABASE_URL", database);
    stage.set("UPDATE_DELAY", "1s");
    stage.set("UPDATE_MONITOR", "4s");
    stage.set("ROLLBACK_DELAY", "0s");
    stage.set("HEALTH_INTERVAL", "1s");
    stage.set("HEALTH_TIMEOUT", "2s");
    stage.set("HEALTH_START_PERIOD", "2s");
    if rude {
        stage.set("RUDE", "1");
    }
}

/// A line of progress, on standard error.
pub fn say(text: &str) {
    eprintln!("demo: {text}");
}

/// `1.4 s`, `2 min 05 s`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}
