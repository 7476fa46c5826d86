//! The server's life: start, serve, and on SIGTERM finish what is in flight before leaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::api::{self, App};
use crate::database::{self, Database};
use crate::health::LastCheck;
use crate::priority::Priority;
use crate::settings::Settings;
use crate::token::Tokens;
use crate::{log, migration};

/// How long an idle kept-alive connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long WebSockets get to say goodbye when the time for shutting down is over.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error("listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error(transparent)]
    Migration(#[from] migration::Error),
}

/// Where the server is in its life; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// No new connections; what is in flight is finished.
    Draining,
    /// Time is up: long conversations are closed.
    Closing,
}

/// Returns when the server's life has come that far.
pub async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    let database = Database::new(&settings.database_url, settings.database_connections)?;
    tokio::select! {
        () = tokio::time::sleep(settings.faults.slow_start) => {}
        () = told_to_stop(&mut terminate, &mut interrupt) => return Ok(()),
    }
    let address = settings.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().unwrap_or(address);
    log::info("listening", &format!("version {} on {address}", settings.version));
    settings.faults.arm_crash();

    let (phase, phases) = watch::channel(Phase::Serving);
    let (busy, idle) = mpsc::channel(1);
    let app = Arc::new(App {
        priority: Priority::new(settings.priority_url.as_deref()),
        tokens: Tokens::new(&settings.jwt_secret),
        last_check: LastCheck::default(),
        listening_since: Instant::now(),
        migrated: AtomicBool::new(false),
        phase: phases,
        database,
        settings,
        busy,
    });
    let rude = app.settings.faults.rude;
    let grace = app.settings.shutdown;
    let mut migrating = tokio::spawn(migrate(app.clone()));
    let mut accepting = tokio::spawn(accept(listener, app));
    tokio::select! {
        () = told_to_stop(&mut terminate, &mut interrupt) => {}
        Ok(Err(error)) = &mut migrating => return Err(error.into()),
        _ = &mut accepting => {}
    }
    if rude {
        log::warn("stopping", "rude: leaving at once");
        std::process::exit(143);
    }
    migrating.abort();
    drain(&phase, idle, grace).await;
    Ok(())
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Prepares the database, waiting for one that is not there yet.
async fn migrate(app: Arc<App>) -> Result<(), migration::Error> {
    let mut last = String::new();
    loop {
        match migration::run(&app.database, &app.settings).await {
            Ok(()) => {
                app.migrated.store(true, Ordering::Release);
                log::info("ready", "the database has this version's schema");
                return Ok(());
            }
            Err(error) if error.is_passing() => {
                let reason = error.to_string();
                if reason != last {
                    log::warn("database", &format!("waiting: {reason}"));
                    last = reason;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Accepts until told to drain. Connections the kernel has already taken are still served.
async fn accept(listener: TcpListener, app: Arc<App>) {
    let mut phase = app.phase.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, app.clone()))),
                Err(error) => {
                    log::error("accept", &error.to_string());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = reached(&mut phase, Phase::Draining) => break,
        }
    }
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        tokio::spawn(converse(stream, app.clone()));
    }
}

/// Serves one connection; when draining, until its current request is answered.
async fn converse(stream: TcpStream, app: Arc<App>) {
    let _busy = app.busy.clone();
    let mut phase = app.phase.clone();
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, std::convert::Infallible>(api::answer(app, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = reached(&mut phase, Phase::Draining) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Waits for everything that is busy, within the grace.
async fn drain(phase: &watch::Sender<Phase>, mut idle: mpsc::Receiver<()>, grace: Duration) {
    log::info("stopping", "finishing what is in flight");
    let started = Instant::now();
    phase.send_replace(Phase::Draining);
    let patience = grace.saturating_sub(FAREWELL);
    let mut finished = tokio::time::timeout(patience, idle.recv()).await.is_ok();
    if !finished {
        phase.send_replace(Phase::Closing);
        finished = tokio::time::timeout(FAREWELL, idle.recv()).await.is_ok();
    }
    let ms = started.elapsed().as_millis();
    if finished {
        log::info("stopped", &format!("all finished in {ms} ms"));
    } else {
        log::warn("stopped", &format!("some requests were still running after {ms} ms"));
    }
}
