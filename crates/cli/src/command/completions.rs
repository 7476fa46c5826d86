//! `keel completions`: what a shell needs to complete commands.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{args::Cli, command::Context, failure::Outcome};

pub fn run(context: &Context, shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keel", &mut script);
    context.output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(())
}
