//! The same update of the same stack under the same load on a real Docker Swarm of one node: behind
//! nginx and behind haproxy after `docker stack deploy`, and with Evenkeel. In one run, in turn.

mod contender;
mod measure;
mod proxy;
mod table;

use anyhow::{Context, Result};
use lab::{Lab, Options};
use load::postgres::Postgres;
use serde_json::{Value, json};

use super::Metric;
use crate::{build, stage::free_port};
use contender::{Contender, Front, Ground};
use measure::{Case, Sample};

/// The whole benchmark, so many rounds of it.
pub fn run(rounds: usize) -> Result<Value> {
    for tool in ["nginx", "haproxy", "python3"] {
        proxy::require(tool)?;
    }
    let folder = build::target().join("bench/swarm");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let keel = build::keel()?;
    let load = build::tool("load")?;
    let lab = Lab::up(&Options::nodes(1)).context("raise a Docker Swarm")?;
    let place = tempfile::Builder::new().prefix("keel-p").tempdir()?;
    let database =
        Postgres::start_for(&place.path().join("postgres"), free_port()?, Some(lab.gateway()))?;
    let ground = Ground { lab: &lab, keel, load, database: &database, folder };
    ground.build_images()?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for front in Front::ALL {
            samples.extend(one_round(&ground, front, round)?);
        }
    }
    lab.down().context("take the Swarm down")?;
    let rows = table::rows(&samples);
    table::print(&rows);
    Ok(json!({
        "name": "swarm", "rounds": rounds, "table": rows, "samples": samples,
        "metrics": metrics(&rows),
    }))
}

/// All cases of one contender, from an empty Swarm to an empty Swarm.
fn one_round(ground: &Ground<'_>, front: Front, round: usize) -> Result<Vec<Sample>> {
    let mut contender = Contender::start(ground, front, round)?;
    let mut samples = Vec::new();
    let mut version = 0;
    for case in Case::ALL {
        contender.set("RUDE", if case == Case::Rude { "1" } else { "" });
        contender.set("CRASH_AFTER_SECONDS", "");
        contender.release(version % contender::VERSIONS).context("prepare a case")?;
        version += 1;
        if case == Case::Crash {
            contender.set("CRASH_AFTER_SECONDS", "3");
        }
        let sample = measure::update(&contender, case, round, version % contender::VERSIONS)
            .with_context(|| format!("{} behind {}", case.name(), front.name()))?;
        eprintln!("bench: {}", sample.line());
        samples.push(sample);
        version += 1;
    }
    contender.remove()?;
    Ok(samples)
}

/// What is asked of Evenkeel: not one failed request. A WebSocket dies with the task that holds it.
fn metrics(rows: &[table::Row]) -> Vec<Metric> {
    let sum = |front: Front, value: fn(&table::Row) -> u64| {
        rows.iter().filter(|row| row.front == front.name()).map(value).sum::<u64>() as f64
    };
    let of = |front: Front| {
        let failed = format!("{}_failed", front.name());
        let failures = sum(front, |row| row.failed);
        let cut = format!("{}_websockets_cut", front.name());
        [
            match front {
                Front::Keel => Metric::at_most(&failed, failures, "", 0.0),
                Front::Nginx | Front::Haproxy => Metric::plain(&failed, failures, ""),
            },
            Metric::plain(&cut, sum(front, |row| row.websockets_cut), ""),
        ]
    };
    Front::ALL.into_iter().flat_map(of).collect()
}
