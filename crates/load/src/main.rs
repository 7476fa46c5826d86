//! `load`: traffic with proof from the command line, and a throw-away Postgres for it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use load::{Left, Plan, Postgres, Target};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Sends traffic at a fixed rate, never retries, and proves at the end that no acknowledged write
/// was lost or carried out twice.
///
/// Example: load --api http://127.0.0.1:5000 --frontend http://127.0.0.1:8080 --rate 400
/// --duration 30 --report report.json
///
/// Exit status: 0 when nothing failed, 1 when something did, 2 for wrong arguments.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(flatten)]
    traffic: Option<Traffic>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a throw-away Postgres until interrupted; prints its address.
    Postgres {
        /// Where its files go; what an earlier run left there is replaced.
        #[arg(long, default_value = "target/throw-away-postgres")]
        folder: PathBuf,
        /// Port on 127.0.0.1; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

#[derive(Args)]
struct Traffic {
    /// The API, as http://host:port; given again, the addresses share the requests.
    #[arg(long, required = true)]
    api: Vec<String>,
    /// The frontend, as http://host:port, also several; without it no pages are asked for.
    #[arg(long)]
    frontend: Vec<String>,
    /// The database to ask at the end, as postgres://user:password@host:port/database.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
    /// Account to log in with.
    #[arg(long, env = "LOAD_USERNAME", default_value = "test")]
    username: String,
    /// Its password.
    #[arg(long, env = "LOAD_PASSWORD", hide_env_values = true, default_value = "test-password")]
    password: String,
    /// Requests a second.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds to send; SIGINT and SIGTERM end it earlier.
    #[arg(long, conflicts_with = "until_stdin_closes")]
    duration: Option<f64>,
    /// Send until standard input is closed (or a signal comes). A line `leave ADDRESS` there: what
    /// is due from then on goes to the other addresses.
    #[arg(long)]
    until_stdin_closes: bool,
    /// Send until SIGINT or SIGTERM; this is the default without a duration.
    #[arg(long, conflicts_with_all = ["duration", "until_stdin_closes"])]
    until_signal: bool,
    /// Connections kept alive to each address.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// WebSockets open at the same time.
    #[arg(long, default_value_t = 20)]
    websockets: usize,
    /// Seconds a WebSocket lives.
    #[arg(long, default_value_t = 10.0)]
    websocket_life: f64,
    /// Slow requests a second, part of the rate.
    #[arg(long, default_value_t = 3.0)]
    slow_rate: f64,
    /// Seconds a slow request takes.
    #[arg(long, default_value_t = 2.0)]
    slow_seconds: f64,
    /// Seconds after which a request counts as failed.
    #[arg(long, default_value_t = 20.0)]
    timeout: f64,
    /// Where the JSON report goes; standard output without it.
    #[arg(long)]
    report: Option<PathBuf>,
    /// A file replaced every second with the report so far.
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// A line a second on standard error.
    #[arg(long)]
    progress: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (cli.command, cli.traffic) {
        (Some(Command::Postgres { folder, port }), _) => run_postgres(&folder, port),
        (None, Some(traffic)) => run_traffic(traffic),
        (None, None) => Err(anyhow::anyhow!("give --api; see `load --help`")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_traffic(traffic: Traffic) -> anyhow::Result<bool> {
    let report_path = traffic.report.clone();
    let watch_stdin = traffic.until_stdin_closes;
    let plan = traffic.plan()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let stop = stop(watch_stdin.then(|| plan.left.clone()))?;
        anyhow::Ok(load::run(plan, stop).await?)
    })?;
    match &report_path {
        Some(path) => {
            report.write(path).with_context(|| format!("write the report `{}`", path.display()))?;
        }
        None => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    eprintln!(
        "{} requests, {} failed, {} cut; {} websockets, {} cut; {} writes acknowledged, {} lost, {} duplicated",
        report.requests,
        report.failed,
        report.cut_requests,
        report.websockets,
        report.websockets_cut,
        report.writes.acknowledged_writes,
        told(report.writes.lost_writes),
        told(report.writes.duplicated_writes),
    );
    if let Some(reason) = &report.writes.proof_error {
        eprintln!("nothing is proven: {reason}");
    }
    Ok(report.is_clean())
}

fn told(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

impl Traffic {
    fn plan(self) -> anyhow::Result<Plan> {
        let parse = |all: &[String]| all.iter().map(|one| Target::parse(one)).collect();
        let (api, frontend): (Result<Vec<Target>, _>, Result<Vec<Target>, _>) =
            (parse(&self.api), parse(&self.frontend));
        let mut plan = Plan::new(api?, self.rate);
        plan.frontend = frontend?;
        plan.database = self.database;
        plan.username = self.username;
        plan.password = self.password;
        plan.duration = self.duration.map(|s| seconds("duration", s)).transpose()?;
        plan.clients = self.clients;
        plan.websockets = self.websockets;
        plan.websocket_life = seconds("websocket-life", self.websocket_life)?;
        plan.slow_rate = self.slow_rate;
        plan.slow = seconds("slow-seconds", self.slow_seconds)?;
        plan.timeout = seconds("timeout", self.timeout)?;
        plan.snapshot = self.snapshot;
        plan.progress = self.progress;
        Ok(plan)
    }
}

fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).with_context(|| format!("--{name} {value} is not a time"))
}

/// Completes on SIGINT, on SIGTERM, and when asked to, at the end of standard input, whose lines
/// name addresses to leave.
fn stop(watch_stdin: Option<Left>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (closed, closing) = oneshot::channel::<()>();
    let mut unused = Some(closed);
    if let Some(closed) = unused.take_if(|_| watch_stdin.is_some()) {
        std::thread::spawn(move || {
            read_orders(&watch_stdin.unwrap_or_default());
            let _ = closed.send(());
        });
    }
    Ok(async move {
        // Dropping it would look like the end of standard input.
        let _unused = unused;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = closing => {}
        }
    })
}

/// Does what standard input says until its end.
fn read_orders(left: &Left) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.strip_prefix("leave ").and_then(|address| address.trim().parse().ok()) {
            Some(address) => left.leave(address),
            None => eprintln!("load: `{line}` is not `leave ADDRESS`"),
        }
    }
}

fn run_postgres(folder: &std::path::Path, port: u16) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = stop(None)?;
        let postgres = Postgres::start(folder, port)?;
        println!("{}", postgres.url());
        eprintln!("running in `{}`; Ctrl-C stops it", postgres.folder().display());
        stop.await;
        Ok(true)
    })
}
