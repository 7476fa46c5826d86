//! Between the engine and the ingress process: connects, starts one when there is none, and
//! translates what the two say.

use std::{
    path::Path,
    sync::PoisonError,
    time::{Duration, Instant},
};

use engine::traffic::{self as ours};
use ingress::control::{self as theirs, Client};
use tokio::{sync::mpsc, time::timeout};

use super::{Shared, process, upgrade};
use crate::place;

/// How often a starting ingress is tried.
const PAUSE: Duration = Duration::from_millis(5);
/// How long an ingress may take to listen before it is started anew.
const START: Duration = Duration::from_secs(10);

/// The connection that is there now, for the counters.
pub(super) type Link = Shared<Client>;

/// Keeps the engine connected to an ingress for as long as the engine runs.
pub(super) async fn connect(
    spawn: process::Ingress,
    mut commands: mpsc::Receiver<ours::Command>,
    events: mpsc::Sender<ours::Event>,
    link: Link,
) {
    let mut keeper = Keeper { spawn, child: None, failures: 0 };
    let socket = place::ingress_socket(&keeper.spawn.state);
    tokio::select! {
        () = keeper.upgrade() => {}
        _ = drop_all(&mut commands) => return,
    }
    loop {
        let Some((client, from_ingress)) = reach(&socket, &mut keeper, &mut commands).await else {
            return;
        };
        keeper.is_reached();
        tracing::info!("connected to the ingress");
        set(&link, Some(client.clone()));
        let reading = tokio::spawn(pass_events(from_ingress, events.clone()));
        let is_over = pass_commands(&client, &mut commands, reading).await;
        set(&link, None);
        if is_over || events.send(ours::Event::Disconnected).await.is_err() {
            return;
        }
        tracing::warn!("the ingress is gone");
    }
}

fn set(link: &Link, client: Option<Client>) {
    *link.lock().unwrap_or_else(PoisonError::into_inner) = client;
}

/// A connection to the ingress that runs, or to a new one. Commands said meanwhile are dropped: the
/// engine repeats everything once it is connected. `None` when the engine is gone.
async fn reach(
    socket: &Path,
    keeper: &mut Keeper,
    commands: &mut mpsc::Receiver<ours::Command>,
) -> Option<(Client, mpsc::Receiver<theirs::Event>)> {
    loop {
        if let Ok(connected) = Client::connect(socket).await {
            while commands.try_recv().is_ok() {}
            return Some(connected);
        }
        let pause = keeper.ensure();
        // A timeout is the usual outcome: nothing was said.
        if let Ok(None) = timeout(pause, drop_all(commands)).await {
            return None;
        }
    }
}

/// Ends only when the engine is gone.
async fn drop_all(commands: &mut mpsc::Receiver<ours::Command>) -> Option<()> {
    while commands.recv().await.is_some() {}
    None
}

/// True when the engine is gone, false when the ingress is.
async fn pass_commands(
    client: &Client,
    commands: &mut mpsc::Receiver<ours::Command>,
    mut reading: tokio::task::JoinHandle<()>,
) -> bool {
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = &mut reading => return false,
        };
        let Some(command) = command else {
            reading.abort();
            return true;
        };
        if let Err(error) = client.send(&said(command)).await {
            tracing::warn!(%error, "the ingress does not take commands");
            reading.abort();
            return false;
        }
    }
}

async fn pass_events(
    mut from_ingress: mpsc::Receiver<theirs::Event>,
    events: mpsc::Sender<ours::Event>,
) {
    if events.send(ours::Event::Connected).await.is_err() {
        return;
    }
    while let Some(event) = from_ingress.recv().await {
        if let Some(event) = heard(event)
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

/// Starts an ingress when there is none.
struct Keeper {
    spawn: process::Ingress,
    child: Option<(std::process::Child, Instant)>,
    failures: u32,
}

impl Keeper {
    /// An ingress of another binary is replaced by one of this; once, so that one that cannot be
    /// replaced is left alone.
    async fn upgrade(&mut self) {
        let spawn = self.spawn.clone();
        let replaced = tokio::task::spawn_blocking(move || upgrade::replace_other(&spawn)).await;
        match replaced {
            Ok(Ok(Some(child))) => {
                tracing::info!(pid = child.id(), "the ingress of this binary serves");
                self.child = Some((child, Instant::now()));
            }
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(failure)) => tracing::warn!(failure = failure.message, "upgrade the ingress"),
        }
    }

    /// From now on it is the connection that tells of its end: when another takes over, it may stay
    /// for long.
    fn is_reached(&mut self) {
        self.failures = 0;
        let Some((mut child, _)) = self.child.take() else { return };
        let wait = move || {
            let pid = child.id();
            match child.wait() {
                Ok(status) => tracing::info!(pid, %status, "an ingress ended"),
                Err(error) => tracing::error!(pid, %error, "an ingress cannot be watched"),
            }
        };
        let thread = std::thread::Builder::new().stack_size(super::STACK_BYTES).spawn(wait);
        if let Err(error) = thread {
            tracing::warn!(%error, "nobody waits for the end of the ingress");
        }
    }

    /// Returns how long to wait before the next try to connect.
    fn ensure(&mut self) -> Duration {
        if let Some((child, since)) = &mut self.child {
            match child.try_wait() {
                Ok(None) if since.elapsed() < START => return PAUSE,
                Ok(None) => {
                    tracing::error!("the ingress does not listen; starting it anew");
                    let _ = child.kill();
                    let _ = child.wait();
                }
                Ok(Some(status)) => tracing::error!(%status, "the ingress ended"),
                Err(error) => tracing::error!(%error, "the ingress cannot be watched"),
            }
            self.child = None;
            self.failures += 1;
        }
        // At once after a death; slower when it dies again and again.
        let pause = if self.failures > 1 {
            Duration::from_millis(100) * self.failures.min(50)
        } else {
            Duration::ZERO
        };
        match self.spawn.start() {
            Ok(child) => {
                tracing::info!(pid = child.id(), "started the ingress");
                self.child = Some((child, Instant::now()));
            }
            Err(error) => {
                tracing::error!(%error, "start the ingress");
                self.failures += 1;
            }
        }
        pause + PAUSE
    }
}

fn said(command: ours::Command) -> theirs::Command {
    match command {
        ours::Command::Sync { routes, published, draining } => theirs::Command::Sync {
            routes: routes.into_iter().map(route).collect(),
            published: published.into_iter().map(endpoint).collect(),
            draining: draining.into_iter().map(drain).collect(),
        },
        ours::Command::Routes(routes) => {
            theirs::Command::Routes { routes: routes.into_iter().map(route).collect() }
        }
        ours::Command::Publish(one) => theirs::Command::Publish { endpoint: endpoint(one) },
        ours::Command::Drain(one) => theirs::Command::Drain { drain: drain(one) },
    }
}

fn route(route: ours::Route) -> ingress::table::Route {
    ingress::table::Route {
        published_port: route.published_port,
        target_port: route.target_port,
        protocol: match route.protocol {
            ours::Protocol::Http => ingress::table::Protocol::Http,
            ours::Protocol::Tcp => ingress::table::Protocol::Tcp,
            ours::Protocol::TcpProxy => ingress::table::Protocol::TcpProxy,
        },
        service: route.service,
        address: route.address,
    }
}

fn endpoint(endpoint: ours::Endpoint) -> ingress::endpoint::Description {
    ingress::endpoint::Description {
        task: endpoint.task,
        task_name: endpoint.task_name,
        service: endpoint.service,
        release: endpoint.release,
        addresses: endpoint.addresses,
        probation_ms: u64::try_from(endpoint.probation.as_millis()).unwrap_or(u64::MAX),
        peer: endpoint.peer,
        probe: endpoint.probe,
    }
}

fn drain(drain: ours::Drain) -> theirs::Drain {
    let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    theirs::Drain {
        task: drain.task,
        requests_ms: millis(drain.requests),
        upgraded_ms: millis(drain.upgraded),
    }
}

fn heard(event: theirs::Event) -> Option<ours::Event> {
    match event {
        theirs::Event::Published { task } => Some(ours::Event::Published { task }),
        theirs::Event::Drained { task, cut } => {
            if cut > 0 {
                tracing::warn!(task, cut, "connections were cut at the end of their drain time");
            }
            Some(ours::Event::Drained { task })
        }
        theirs::Event::ListenFailed { published_port, reason } => {
            tracing::error!(published_port, reason, "a published port cannot be opened");
            Some(ours::Event::ListenFailed { published_port, reason })
        }
        theirs::Event::Stats { .. } | theirs::Event::Handed { .. } | theirs::Event::Leaving => None,
    }
}
