//! Options of the long-lived processes.

use std::path::PathBuf;

use clap::Args;

use super::duration;

#[derive(Debug, Args)]
#[command(
    before_long_help = "Example:\n  keel daemon --background\n  keel daemon --swarm --background\n  \
                        keel daemon --stop",
    after_help = "With -H the engine also listens there: on unix:///path, or on tcp://address:port \
                  for clients\nwith a certificate of --tls-ca. Without, on STATE/run/engine.sock \
                  alone."
)]
pub struct Daemon {
    /// Return as soon as engine and ingress are ready; log to STATE/daemon.log
    #[arg(long, conflicts_with = "stop")]
    pub background: bool,
    /// End the running engine; tasks and traffic go on
    #[arg(long)]
    pub stop: bool,
    /// With --stop: remove all services and end the ingress too
    #[arg(long, requires = "stop")]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Follow this node's Docker Swarm instead of running an engine: its tasks get their requests
    /// through keel's ingress [default socket: /var/run/docker.sock]
    #[arg(
        long,
        value_name = "HOST",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "unix:///var/run/docker.sock",
        conflicts_with = "stop"
    )]
    pub swarm: Option<String>,
    /// Address that published ports are opened on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub publish_address: std::net::IpAddr,
    /// Accept resource limits that this machine cannot keep, and run without them
    #[arg(long)]
    pub ignore_limits: bool,
    #[command(flatten)]
    pub tls: Tls,
    /// Do not look for images at Docker Hub: names without a registry are of this engine only
    #[arg(long, env = "KEEL_NO_HUB", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub no_hub: bool,
    /// Started by `--background`
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// Files for `-H tcp://…`; dockerd's names for them are understood too.
#[derive(Clone, Debug, Default, Args)]
pub struct Tls {
    /// With -H tcp://…: whose certificates clients must have
    #[arg(long, value_name = "FILE", alias = "tlscacert", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,
    /// With -H tcp://…: the engine's certificate
    #[arg(long, value_name = "FILE", alias = "tlscert", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// With -H tcp://…: its private key
    #[arg(long, value_name = "FILE", alias = "tlskey", requires = "tls_ca")]
    pub tls_key: Option<PathBuf>,
    /// Said anyway: there is no TCP without it
    #[arg(long, hide = true)]
    pub tlsverify: bool,
}

#[derive(Debug, Args)]
#[command(before_long_help = "Example:\n  keel ingress --upgrade")]
pub struct Ingress {
    /// Threads that carry requests [default: one per processor]
    #[arg(long)]
    pub workers: Option<usize>,
    /// Address that published ports are opened on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub publish_address: std::net::IpAddr,
    /// Replace the running ingress by this binary's; nothing is cut
    #[arg(long)]
    pub upgrade: bool,
    /// With --upgrade: how long WebSockets and raw connections of the one before may stay
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub cut_after: std::time::Duration,
    /// On a node of a Swarm: reach tasks of other nodes, and let those reach this one's, with the
    /// certificates in this folder [set by `keel daemon --swarm`]
    #[arg(long, value_name = "DIR")]
    pub node_certificates: Option<PathBuf>,
    #[arg(long, hide = true, conflicts_with = "upgrade")]
    pub takes_over: bool,
    #[arg(long, hide = true)]
    pub detached: bool,
}
