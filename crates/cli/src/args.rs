//! What can be typed: the one description that the parser, `-h`, `--help` and the completions share.

mod fleet;
mod process;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use self::{
    fleet::{Drain, Exec, Node, ReleaseControl},
    process::{Daemon, Ingress, Tls},
};

/// Under which name the binary was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invoked {
    AsKeel,
    /// As `swarm-deploy`, the script of the operations guide.
    AsScript,
}

const GLOBAL: &str = "Options of every command";

/// Release a containerised app with zero failed requests, and prove it
#[derive(Debug, Parser)]
#[command(
    name = "keel",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    before_long_help = "Example:\n  keel daemon --background\n  keel deploy -c docker-stack.yml \
                        ala\n  keel rollback",
    after_help = "Exit codes:\n  0 done  1 failed, nothing changed  2 usage  3 failed and rolled \
                  back  4 another deploy runs\n  5 verification failed  6 refused by a safety \
                  check  124 deadline  130 interrupted"
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// Engine: unix:///path, tcp://host:port, ssh://user@host [else DOCKER_HOST]
    ///
    /// Without it: DOCKER_HOST; else the docker context (--context, DOCKER_CONTEXT, the current
    /// one); else keel's own engine where there is one (or --state-dir names its folder); else
    /// Docker of this machine; else keel's own.
    #[arg(short = 'H', long, global = true, value_name = "HOST", help_heading = GLOBAL)]
    pub host: Option<String>,
    /// Docker context of the engine [else DOCKER_CONTEXT, else the current one]
    #[arg(long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    pub context: Option<String>,
    /// Folder of keel's own engine, which is used then
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "KEEL_STATE",
        hide_env_values = true,
        help_heading = GLOBAL
    )]
    pub state_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print only what a script needs
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run keel's own engine, or what keel does beside Docker Swarm
    Daemon(Daemon),
    /// Run the data plane in front of the services (started by `keel daemon`)
    Ingress(Ingress),
    /// Hold one task (started by `keel daemon`)
    #[command(hide = true)]
    Supervise { folder: PathBuf },
    /// Build the images of a stack
    Build(Build),
    /// Release a stack: build, roll out, verify; roll back when it fails
    Deploy(Deploy),
    /// Go back to an earlier release
    Rollback(Rollback),
    /// List services
    #[command(visible_alias = "services")]
    Ls(Ls),
    /// Show tasks, with those that failed and why
    Ps(Ps),
    /// Show what a service logs
    Logs(Logs),
    /// Show everything about services or tasks
    Inspect(Inspect),
    /// Change the number of replicas
    Scale(Scale),
    /// Replace every task of a service, one after the other
    Restart(Restart),
    /// Show requests, failures, latencies and resource use
    Stats(Stats),
    /// List releases
    Releases(Releases),
    /// Remove a stack
    Rm(Rm),
    /// Run a command beside a task, on whatever node that is
    Exec(Exec),
    /// List the nodes of a Swarm: roles, availability, disk, memory, versions
    Nodes,
    /// Take a node out of service, or back into it
    #[command(subcommand)]
    Node(Node),
    /// Take over a stack that `docker stack deploy` made, as it runs
    #[command(before_long_help = "Example:\n  keel adopt ala")]
    Adopt { stack: String },
    /// Give a stack back to Docker: ports, stop signals and labels as they were
    ReleaseControl(ReleaseControl),
    /// List images
    Images(Images),
    /// Show versions of keel and of its engine, and why it is this one
    Version,
    /// Join standard input and output to the engine (for `-H ssh://`)
    #[command(hide = true)]
    DialStdio,
    /// Print the completion script of a shell
    Completions { shell: clap_complete::Shell },
}

/// Which stack is meant.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// Stack file; give it again to merge several [default: docker-stack.yml]
    #[arg(short = 'c', long = "compose-file", value_name = "FILE", action = ArgAction::Append)]
    pub files: Vec<PathBuf>,
    /// Name of the stack [default: `name:` of the file, else its folder]
    pub stack: Option<String>,
    /// Version of the images [default: the time as YYYYMMDD-HHMMSS]
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    before_long_help = "Example:\n  keel build -c docker-stack.yml ala --version 20251113-140140"
)]
pub struct Build {
    #[command(flatten)]
    pub source: Source,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel deploy -c docker-stack.yml ala\n  \
                              keel deploy ala --version 20251113-140140 --skip-build")]
pub struct Deploy {
    #[command(flatten)]
    pub source: Source,
    /// Use images that are there already
    #[arg(long)]
    pub skip_build: bool,
    /// Bring images to the nodes of a Swarm without a registry
    #[arg(long)]
    pub no_push: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Give up (and go back) after this long
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: std::time::Duration,
    /// Called as `swarm-deploy`.
    #[arg(skip)]
    pub as_script: bool,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel rollback\n  keel rollback 20251113-140140\n  \
                              keel rollback --service ala_api")]
pub struct Rollback {
    /// Release to go back to [default: the one before]
    pub version: Option<String>,
    /// Only this service
    #[arg(long, value_name = "S")]
    pub service: Option<String>,
    /// Stack, when there are several
    #[arg(long, value_name = "STACK")]
    pub stack: Option<String>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel ls\n  keel ls ala --json")]
pub struct Ls {
    /// Only services of this stack
    pub stack: Option<String>,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel ps ala_api")]
pub struct Ps {
    /// Only tasks of this service
    pub service: Option<String>,
    /// Leave out tasks that ended
    #[arg(long)]
    pub running: bool,
}

#[derive(Debug, Args)]
#[command(
    before_long_help = "Example:\n  keel logs -f ala_api\n  keel logs --since 30m --tail 100 ala_api"
)]
pub struct Logs {
    /// Service or task
    pub service: String,
    /// Go on with lines to come
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the last lines of each task
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    pub tail: Option<Tail>,
    /// Only lines since then: 30m, 2025-11-13T14:00:00Z or Unix seconds
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
    /// Show times
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel inspect ala_api")]
pub struct Inspect {
    /// Services or tasks
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel scale ala_api=4 ala_frontend=2")]
pub struct Scale {
    /// Service and replicas
    #[arg(required = true, value_name = "SERVICE=N", value_parser = replicas)]
    pub wanted: Vec<(String, u32)>,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel restart ala_api")]
pub struct Restart {
    /// Service
    pub service: String,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    pub timeout: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel stats")]
pub struct Stats {
    /// Only this service
    pub service: Option<String>,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel releases ala")]
pub struct Releases {
    /// Only releases of this stack
    pub stack: Option<String>,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel rm ala")]
pub struct Rm {
    /// Stack
    pub stack: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub timeout: std::time::Duration,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel images")]
pub struct Images {
    /// Only images whose name contains this
    pub name: Option<String>,
}

/// Release the stack of this folder, as the operations guide's script does
#[derive(Debug, Parser)]
#[command(
    name = "swarm-deploy",
    version,
    disable_version_flag = true,
    max_term_width = 100,
    before_long_help = "Example:\n  swarm-deploy\n  swarm-deploy --skip-build"
)]
pub struct Script {
    /// Use images that are there already
    #[arg(long)]
    pub skip_build: bool,
    /// Version of the images [default: the time as YYYYMMDD-HHMMSS]
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
}

impl From<Script> for Cli {
    /// The script deploys what lies in the folder it is called in.
    fn from(script: Script) -> Self {
        let source = Source { files: Vec::new(), stack: None, version: script.version };
        let timeout = std::time::Duration::from_secs(15 * 60);
        let skip_build = script.skip_build;
        Self {
            globals: Globals {
                host: None,
                context: None,
                state_dir: std::env::var_os("KEEL_STATE").map(PathBuf::from),
                json: false,
                quiet: false,
            },
            command: Command::Deploy(Deploy {
                source,
                skip_build,
                no_push: false,
                dry_run: false,
                timeout,
                as_script: true,
            }),
        }
    }
}

/// How many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    All,
    Last(u64),
}

fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail::All);
    }
    text.parse().map(Tail::Last).map_err(|_| "not a number of lines, nor `all`".to_owned())
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    dockerapi::stamp::parse_duration(text).ok_or_else(|| "not a duration such as 90s or 5m".into())
}

fn replicas(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("write it as {}=3", text.split('=').next().unwrap_or("SERVICE"));
    let (service, count) = text.split_once('=').ok_or_else(wrong)?;
    if service.is_empty() {
        return Err(wrong());
    }
    Ok((service.to_owned(), count.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_description_holds_together() {
        Cli::command().debug_assert();
        Script::command().debug_assert();
    }

    #[test]
    fn replicas_are_a_service_and_a_number() {
        assert_eq!(replicas("ala_api=3"), Ok(("ala_api".to_owned(), 3)));
        assert!(replicas("ala_api").is_err() && replicas("=3").is_err());
        assert!(replicas("ala_api=-1").is_err());
    }
}
