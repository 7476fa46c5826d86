//! Commands for the nodes of a Swarm, and for stacks that others deployed.

use clap::{ArgAction, Args, Subcommand};

use super::duration;

#[derive(Debug, Args)]
#[command(
    before_long_help = "Example:\n  keel exec ala_api -- ls -la /app\n  keel exec -it ala_api.2 -- sh"
)]
pub struct Exec {
    /// Give it standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// With a terminal
    #[arg(short, long = "tty")]
    pub terminal: bool,
    /// Variable for it, NAME=value; give it again for more
    #[arg(short, long, value_name = "NAME=VALUE", action = ArgAction::Append)]
    pub env: Vec<String>,
    /// User to run as
    #[arg(short, long)]
    pub user: Option<String>,
    /// Service, SERVICE.SLOT or task
    pub task: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Node {
    /// Move what runs there elsewhere, new tasks before old ones, then let nothing run there
    Drain(Drain),
    /// Let tasks run there again
    #[command(before_long_help = "Example:\n  keel node activate node2")]
    Activate { node: String },
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel node drain node2")]
pub struct Drain {
    /// Host name or id
    pub node: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel release-control ala")]
pub struct ReleaseControl {
    pub stack: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: std::time::Duration,
}
