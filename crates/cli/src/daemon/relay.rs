//! `keel daemon -H`: the engine's API at one more address, byte by byte.
//!
//! Nobody is asked who they are there, as with Docker's own `-H tcp://`: whoever can connect can do
//! everything. On anything but the loopback this is said in the log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use net::{Accept, TcpOptions, tcp_listener, unix_listener};
use tokio::{
    io::copy_bidirectional,
    net::UnixStream,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use crate::failure::Failure;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 256;

/// Listens on `host` for as long as the returned task lives.
pub(super) async fn listen(host: &str, engine: &Path) -> Result<JoinHandle<()>, Failure> {
    let engine = engine.to_owned();
    let failed = |error: net::ListenError| {
        Failure::new("listen", error.to_string()).hint("choose another address with -H")
    };
    if let Some(path) = host.strip_prefix("unix://") {
        let listener = unix_listener(Path::new(path), 0o660).map_err(failed)?;
        return Ok(tokio::spawn(relay(listener, engine)));
    }
    let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) else {
        return Err(Failure::usage(format!("`{host}` is not an address to listen on"))
            .hint("write unix:///path or tcp://127.0.0.1:2375"));
    };
    let address = resolve(address).await?;
    let listener = tcp_listener(address, TcpOptions::default()).map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "everybody who reaches this address can do everything");
    }
    Ok(tokio::spawn(relay(listener, engine)))
}

async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let unusable = |why: String| {
        Failure::usage(format!("-H tcp://{address}: {why}")).hint("write tcp://127.0.0.1:2375")
    };
    let mut found =
        tokio::net::lookup_host(address).await.map_err(|error| unusable(error.to_string()))?;
    found.next().ok_or_else(|| unusable("no such address".to_owned()))
}

async fn relay<L: Accept>(listener: L, engine: PathBuf) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task: open connections end with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok(mut client) = listener.accept_one().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let engine = engine.clone();
        connections.spawn(async move {
            match UnixStream::connect(&engine).await {
                // An end of either side is the usual end.
                Ok(mut server) => drop(copy_bidirectional(&mut client, &mut server).await),
                Err(error) => tracing::warn!(%error, "the engine's socket cannot be reached"),
            }
            drop(slot);
        });
    }
}
