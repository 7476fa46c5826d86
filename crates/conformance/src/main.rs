//! One exam for both engines: the scenarios run by the same code against the embedded engine and
//! against a Docker daemon. `cargo run -p conformance -- --engine both`.

mod exam;
mod film;
mod report;
mod scenario;

use std::{path::PathBuf, process::ExitCode, sync::Mutex, time::Instant};

use anyhow::{Result, anyhow, bail, ensure};
use clap::{Parser, ValueEnum};

use conformance::{
    build,
    engine::{self, Engine, Kind},
    image, target,
};
use exam::Exam;
use report::{Outcome, Outcomes};
use scenario::{ALONE, LONG, Scenario};

/// Scenarios under way at the same time on one engine. They wait most of their time.
const AT_ONCE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    Embedded,
    Dockerd,
    Both,
}

#[derive(Parser)]
#[command(about = "Scenarios for the embedded engine and for a Docker daemon")]
struct Arguments {
    /// Which engine sits the exam
    #[arg(long, value_enum, default_value = "embedded")]
    engine: Choice,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// This `keel` instead of a static one built for the occasion
    #[arg(long)]
    keel: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let scenarios: Vec<Scenario> = scenario::all()
        .into_iter()
        .filter(|s| arguments.only.is_empty() || arguments.only.iter().any(|id| id == s.id))
        .collect();
    ensure!(!scenarios.is_empty(), "no such scenario");
    let mut kinds: Vec<Kind> = match arguments.engine {
        Choice::Embedded => vec![Kind::Embedded],
        Choice::Dockerd => vec![Kind::Dockerd],
        Choice::Both => vec![Kind::Embedded, Kind::Dockerd],
    };
    let missing = kinds.contains(&Kind::Dockerd).then(engine::missing_for_dockerd).flatten();
    if let Some(missing) = &missing {
        let what = format!("a Docker daemon cannot start here: {missing}");
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        if is_ci || arguments.engine == Choice::Dockerd {
            bail!("{what}");
        }
        eprintln!("conformance: {what}; only the embedded engine sits the exam");
        kinds.retain(|kind| *kind != Kind::Dockerd);
    }
    let app = build("conformance", Some("semapp"))?;
    let keel = arguments.keel.clone().map_or_else(|| build("cli", None), Ok)?;
    let archive = image::archive(&app)?;
    let started = Instant::now();
    let mut outcomes = Outcomes::new();
    // Both at the same time: most of it is waiting.
    let all: Vec<Result<Outcomes>> = std::thread::scope(|scope| {
        let sit = |kind| {
            let (scenarios, keel, archive) = (&scenarios, &keel, &archive);
            scope.spawn(move || {
                let engine = Engine::start(kind, keel)?;
                engine.load(archive)?;
                Ok(sit(&engine, scenarios))
            })
        };
        let running: Vec<_> = kinds.iter().map(|kind| sit(*kind)).collect();
        let join = |run: std::thread::ScopedJoinHandle<'_, Result<Outcomes>>| {
            run.join().unwrap_or_else(|_| Err(anyhow!("an engine's thread panicked")))
        };
        running.into_iter().map(join).collect()
    });
    for one in all {
        outcomes.extend(one?);
    }
    report::print(&scenarios, &kinds, &outcomes);
    println!("in {:.0} s", started.elapsed().as_secs_f64());
    let report = report::json(&scenarios, &kinds, &outcomes, missing.as_deref());
    // A part of the exam says nothing of the whole.
    let name = if arguments.only.is_empty() { "conformance.json" } else { "conformance.part.json" };
    std::fs::write(target().join(name), serde_json::to_vec_pretty(&report)?)?;
    Ok(report::judge(&scenarios, &kinds, &outcomes))
}

/// How often a scenario may be tried. What a Docker daemon does proves the scenario, and many of its
/// defects are races that a busy machine may hide once; the embedded engine has to do it each time.
fn tries(kind: Kind) -> usize {
    match kind {
        Kind::Embedded => 1,
        Kind::Dockerd => 3,
    }
}

/// All scenarios for this engine, a few at a time, the long ones first, and then those that must
/// be alone.
fn sit(engine: &Engine, scenarios: &[Scenario]) -> Outcomes {
    let mut scenarios: Vec<&Scenario> =
        scenarios.iter().filter(|scenario| scenario.is_for(engine.kind)).collect();
    scenarios.sort_by_key(|s| LONG.iter().position(|id| *id == s.id).unwrap_or(LONG.len()));
    let (next, outcomes) = (Mutex::new(0), Mutex::new(Outcomes::new()));
    let (alone, together): (Vec<&Scenario>, Vec<&Scenario>) =
        scenarios.into_iter().partition(|scenario| ALONE.contains(&scenario.id));
    let run = |scenario: &Scenario| {
        let started = Instant::now();
        let exam = Exam { engine };
        let mut failures = Vec::new();
        while failures.len() < tries(engine.kind) {
            let result = (scenario.run)(&exam);
            exam.clean(scenario.id);
            let Err(error) = result else { break };
            failures.push(format!("{error:#}"));
            // What is left of it would be in the way of the next try.
            let name = scenario.id.to_lowercase();
            let _ = exam.docker(&format!("stack rm {name}"));
            let left = |what: &str| -> Result<String> {
                Ok(exam.docker(&format!("{what} --filter name={name}"))?.out)
            };
            let gone = || -> Result<Option<()>> {
                let is_gone = left("ps -aq")?.is_empty() && left("network ls -q")?.is_empty();
                Ok(is_gone.then_some(()))
            };
            let _ = exam.until("it is gone", gone);
        }
        let outcome = Outcome::new(started.elapsed(), failures, tries(engine.kind));
        if let Ok(mut outcomes) = outcomes.lock() {
            outcomes.insert((engine.kind, scenario.id), outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = {
                        let Ok(mut next) = next.lock() else { return };
                        *next += 1;
                        *next - 1
                    };
                    let Some(scenario) = together.get(at) else { return };
                    run(scenario);
                }
            });
        }
    });
    // A Docker daemon gives a leave 15 s, in which everything that still stops has to stop.
    if !alone.is_empty() {
        let exam = Exam { engine };
        let left = || Ok(exam.docker("ps -q")?.out.is_empty().then_some(()));
        let _ = exam.until("nothing runs", left);
    }
    alone.into_iter().for_each(run);
    outcomes.into_inner().unwrap_or_default()
}
