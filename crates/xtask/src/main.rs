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
        /// All when none is named.
        targets: Vec<String>,
    },
    /// Run all benchmarks, or the named ones; results go to target/bench.
    Bench { names: Vec<String> },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo { rude } => demo::run(rude),
        Task::Guide { write } => guide::run(write),
        Task::Fuzz { seconds, targets } => fuzz::run(seconds, &targets),
        Task::Bench { names } => bench::run(&names),
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
