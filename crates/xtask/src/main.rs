//! Developer tasks: the demo, the guide, the fuzzers and the benchmarks. `cargo run -p xtask -- demo`.

mod bench;
mod build;
mod demo;
mod fuzz;
mod guide;
mod stage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Developer tasks of Evenkeel")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Release the example application under load, break it, roll it back, and count.
    Demo {
        /// The example's backend exits on SIGTERM without finishing its requests.
        #[arg(long)]
        rude: bool,
        /// On a Docker Swarm of so many nodes instead of the embedded engine; without --rude both
        /// applications, one after the other.
        #[arg(long, value_name = "NODES", num_args = 0..=1, default_missing_value = "1")]
        swarm: Option<usize>,
    },
    /// Run the operations guide's command lines; the outcome goes to target/guide.json.
    Guide {
        /// Make docs/guide-coverage.md anew.
        #[arg(long)]
        write: bool,
    },
    /// Give the parsers of outside bytes inputs that reach further and further into them.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Where chance begins: the same number tries the same inputs first; 0 is another each time.
        #[arg(long, default_value_t = 0)]
        seed: u32,
        /// All when none is named.
        targets: Vec<String>,
    },
    /// Run all benchmarks but `swarm`, or the named ones; results go to target/bench.
    Bench {
        names: Vec<String>,
        /// How often `swarm` measures each contender
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo { rude, swarm } => demo::run(rude, swarm),
        Task::Guide { write } => guide::run(write),
        Task::Fuzz { seconds, seed, targets } => fuzz::run(seconds, seed, &targets),
        Task::Bench { names, rounds } => bench::run(&names, rounds),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
