//! The long-lived processes: control (the engine, or the follower of a Swarm), the ingress (data
//! plane), and how they are started, connected and ended.
//!
//! ```text
//! keel daemon ──spawns, in its own session──▶ keel ingress
//!      └──run/ingress.sock: commands, events──▶─┘
//! ```
//!
//! The ingress outlives the engine: a new engine connects to it before it would start another, and
//! has one of another binary replaced by its own, without a connection refused or cut.

mod background;
mod control;
mod ingress;
mod process;
mod relay;
mod stop;
mod traffic;
mod upgrade;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tracing_subscriber::filter::LevelFilter;

use self::control::Control;
pub use self::ingress::run as run_ingress;
use crate::{
    args,
    failure::{Failure, Outcome},
    output::Output,
    place,
};

/// Commands and events between engine and ingress that may wait.
const QUEUE: usize = 1024;
/// What a thread may use of stack; requests and the control loop are shallow.
const STACK_BYTES: usize = 1 << 20;

/// `keel daemon`.
pub fn run(globals: &args::Globals, daemon: &args::Daemon, output: Output) -> Outcome {
    let state = place::state(globals)?;
    if globals.context.is_some() {
        return Err(Failure::usage("`keel daemon` is an engine itself; --context names another")
            .hint("leave --context out")
            .into());
    }
    let host = globals.host.as_deref();
    if daemon.stop {
        return stop::run(&state, daemon, output);
    }
    if daemon.background {
        return background::run(&state, daemon, host, output);
    }
    if daemon.detached {
        process::detach();
    }
    log_to_stderr();
    let runtime = runtime(2)?;
    runtime.block_on(serve(&state, daemon, host, output))
}

async fn serve(state: &Path, daemon: &args::Daemon, host: Option<&str>, output: Output) -> Outcome {
    let mut signals = Signals::new()?;
    process::allow_many_descriptors();
    // Its memory has secrets: no core file, and no look at it by others of the same user.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let keel = own_binary()?;
    let relay = match host {
        Some(host) => Some(relay::listen(host, &daemon.tls, &place::engine_socket(state)).await?),
        None if daemon.tls.tls_ca.is_some() => return Err(relay::no_address().into()),
        None => None,
    };
    let (commands, to_ingress) = mpsc::channel(QUEUE);
    let (from_ingress, events) = mpsc::channel(QUEUE);
    let link = traffic::Link::default();
    let control = Control::start(state, &keel, daemon, (commands, events), &link).await?;
    let spawn = process::Ingress {
        keel,
        state: state.to_owned(),
        address: daemon.publish_address,
        certificates: control.certificates(),
    };
    let wiring = tokio::spawn(traffic::connect(spawn, to_ingress, from_ingress, link));
    signals.next().await;
    tracing::info!("ending; tasks and traffic go on");
    tokio::select! {
        () = control.shutdown() => {}
        () = signals.next() => tracing::warn!("told twice: ending at once"),
        () = tokio::time::sleep(Duration::from_secs(30)) => {
            tracing::error!("the engine did not end within 30 s; leaving it");
        }
    }
    wiring.abort();
    if let Some(relay) = relay {
        relay.abort();
    }
    output.note(
        "the engine ended; tasks and traffic go on. `keel daemon` takes them over again, \
         `keel daemon --stop --all` ends them",
    );
    Ok(())
}

fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::new("own-binary", format!("find keel's own binary: {error}")))
}

/// The signals that end a process of ours.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new("signals", format!("listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn runtime(threads: usize) -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(STACK_BYTES)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::new("threads", format!("start threads: {error}")))
}

/// `KEEL_LOG` is `error`, `warn`, `info` (the default), `debug` or `trace`.
fn log_to_stderr() {
    let level = std::env::var("KEEL_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .init();
}

/// What the log has from `offset` on, at most the last few lines.
fn last_lines(log: &Path, offset: u64) -> Vec<String> {
    const LINES: usize = 12;
    let bytes = std::fs::read(log).unwrap_or_default();
    let from = usize::try_from(offset).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// A folder that only its owner can look into.
fn private_folder(path: PathBuf) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    match made {
        Ok(()) => Ok(path),
        Err(error) => {
            Err(Failure::new("state-folder", format!("make `{}`: {error}", path.display()))
                .hint("choose another folder with --state-dir, or make this one writable"))
        }
    }
}

/// Connection to the ingress that is there now, if one is.
type Shared<T> = Arc<Mutex<Option<T>>>;
