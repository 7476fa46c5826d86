//! Plays seeds: `sim --seed 17 --trace` replays one, `sim --seeds 0..5000` looks for one that fails.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Simulator of the orchestrator: seeded faults in virtual time")]
struct Arguments {
    /// Play this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Play these seeds, `FROM..TO`.
    #[arg(long, default_value = "0..3000", value_parser = range)]
    seeds: (u64, u64),
    /// Print every event and action.
    #[arg(long)]
    trace: bool,
    /// Measure the cost of one event at 10, 1,000 and 100,000 tasks; prints JSON.
    #[arg(long)]
    bench: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("a range looks like 0..3000")?;
    let number = |t: &str| t.parse::<u64>().map_err(|error| format!("`{t}`: {error}"));
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.bench {
        println!("{}", sim::bench::run());
        return ExitCode::SUCCESS;
    }
    let (from, to) = arguments.seed.map_or(arguments.seeds, |seed| (seed, seed + 1));
    let (mut steps, mut crashes) = (0, 0);
    for seed in from..to {
        let outcome = sim::play(seed, arguments.trace);
        for line in &outcome.trace {
            println!("{line}");
        }
        if !outcome.broken.is_empty() {
            for line in &outcome.broken {
                println!("broken: {line}");
            }
            println!("seed {seed} fails; see it with `cargo run -p sim -- --seed {seed} --trace`");
            return ExitCode::FAILURE;
        }
        steps += outcome.steps;
        crashes += outcome.crashes;
    }
    println!("{} seeds, {steps} steps, {crashes} engine crashes: all invariants held", to - from);
    ExitCode::SUCCESS
}
