//! One exam for both engines: the scenarios run by the same code against the embedded engine and
//! against a Docker daemon. `cargo run -p conformance -- --engine both`.

mod engine;
mod exam;
mod scenario;

use std::{
    collections::BTreeMap,
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;

use conformance::{build, image, target};
use engine::{Engine, Kind};
use exam::Exam;
use scenario::{ALONE, KNOWN, Scenario};

/// Scenarios under way at the same time.
const AT_ONCE: usize = 4;

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
}

/// How one scenario went.
#[derive(Clone, Debug)]
struct Outcome {
    took: Duration,
    /// Why it failed.
    reason: Option<String>,
}

type Outcomes = BTreeMap<(Kind, &'static str), Outcome>;

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
    let app = build("conformance", Some("semapp"))?;
    let keel = build("cli", None)?;
    let archive = image::archive(&app)?;
    let kinds: &[Kind] = match arguments.engine {
        Choice::Embedded => &[Kind::Embedded],
        Choice::Dockerd => &[Kind::Dockerd],
        Choice::Both => &[Kind::Embedded, Kind::Dockerd],
    };
    let mut outcomes = Outcomes::new();
    for kind in kinds {
        eprintln!("conformance: {} scenarios on {}", scenarios.len(), kind.name());
        let engine = Engine::start(*kind, &keel)?;
        load(&engine, &archive)?;
        outcomes.extend(sit(&engine, &scenarios));
    }
    print(&scenarios, kinds, &outcomes);
    write(&scenarios, kinds, &outcomes)?;
    Ok(judge(&scenarios, kinds, &outcomes))
}

fn load(engine: &Engine, archive: &[u8]) -> Result<()> {
    let mut child = Command::new("docker")
        .arg("load")
        .env("DOCKER_HOST", format!("unix://{}", engine.socket.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("run docker load")?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    std::io::Write::write_all(&mut stdin, archive)?;
    drop(stdin);
    ensure!(child.wait()?.success(), "docker load failed");
    Ok(())
}

/// All scenarios, a few at a time, and then those that must be alone.
fn sit(engine: &Engine, scenarios: &[Scenario]) -> Outcomes {
    let (next, outcomes) = (Mutex::new(0), Mutex::new(Outcomes::new()));
    let (alone, together): (Vec<&Scenario>, Vec<&Scenario>) =
        scenarios.iter().partition(|scenario| ALONE.contains(&scenario.id));
    let run = |scenario: &Scenario| {
        let started = Instant::now();
        let result = (scenario.run)(&Exam { engine });
        let reason = result.err().map(|error| format!("{error:#}"));
        let outcome = Outcome { took: started.elapsed(), reason };
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
    alone.into_iter().for_each(run);
    outcomes.into_inner().unwrap_or_default()
}

fn known(kind: Kind, id: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(k, known, _)| *k == kind && *known == id).map(|(_, _, why)| *why)
}

fn print(scenarios: &[Scenario], kinds: &[Kind], outcomes: &Outcomes) {
    for scenario in scenarios {
        print!("{}  {:<46}", scenario.id, scenario.title);
        for kind in kinds {
            let Some(outcome) = outcomes.get(&(*kind, scenario.id)) else { continue };
            let word = if outcome.reason.is_none() { "passed" } else { "FAILED" };
            print!("  {} {word} {:>5.1} s", kind.name(), outcome.took.as_secs_f64());
        }
        println!();
        for kind in kinds {
            if let Some(reason) =
                outcomes.get(&(*kind, scenario.id)).and_then(|o| o.reason.as_ref())
            {
                let reason: String = reason.chars().take(400).collect();
                println!("     {}: {}", kind.name(), known(*kind, scenario.id).unwrap_or(&reason));
            }
        }
    }
    for kind in kinds {
        let of = || outcomes.iter().filter(|((k, _), _)| k == kind);
        let passed = of().filter(|(_, outcome)| outcome.reason.is_none()).count();
        println!("{}: {passed} of {} passed", kind.name(), of().count());
    }
}

fn write(scenarios: &[Scenario], kinds: &[Kind], outcomes: &Outcomes) -> Result<()> {
    let mut report = serde_json::Map::new();
    for kind in kinds {
        let list: Vec<_> = scenarios
            .iter()
            .filter_map(|scenario| {
                let outcome = outcomes.get(&(*kind, scenario.id))?;
                Some(json!({
                    "id": scenario.id, "title": scenario.title,
                    "passed": outcome.reason.is_none(), "reason": outcome.reason,
                    "known": known(*kind, scenario.id), "seconds": outcome.took.as_secs_f64(),
                }))
            })
            .collect();
        let passed = list.iter().filter(|one| one["passed"] == true).count();
        let failed = list.len() - passed;
        let value = json!({ "passed": passed, "failed": failed, "scenarios": list });
        report.insert(kind.name().to_owned(), value);
    }
    std::fs::write(target().join("conformance.json"), serde_json::to_vec_pretty(&report)?)?;
    Ok(())
}

/// Everything went as it is known to go.
fn judge(scenarios: &[Scenario], kinds: &[Kind], outcomes: &Outcomes) -> bool {
    let mut is_good = true;
    for (kind, scenario) in kinds.iter().flat_map(|k| scenarios.iter().map(move |s| (k, s))) {
        let passed = outcomes.get(&(*kind, scenario.id)).is_some_and(|o| o.reason.is_none());
        match (passed, known(*kind, scenario.id)) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => is_good = false,
            (true, Some(_)) => {
                eprintln!("{} no longer fails on {}: take it out", scenario.id, kind.name());
                is_good = false;
            }
        }
    }
    is_good
}
