//! The ingress process: workers, control's socket, the table from disk.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    control::{Server, listen},
    table::{Saved, Table},
    worker,
};

/// How long open connections get when the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Config {
    /// Control's socket.
    pub socket: PathBuf,
    /// Where the table is kept.
    pub saved: PathBuf,
    /// Address that published ports are opened on.
    pub address: IpAddr,
    pub workers: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] net::ListenError),
    #[error("start the ingress: {0}")]
    Start(#[from] std::io::Error),
}

/// Runs until `shutdown` turns true.
pub async fn run(config: Config, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let listener = net::unix_listener(&config.socket, 0o600)?;
    let table = Arc::new(Table::default());
    let (suspects, suspected) = mpsc::channel(256);
    let mut workers = Vec::new();
    for number in 0..config.workers.max(1) {
        let (sender, commands) = mpsc::channel(256);
        let table = Arc::clone(&table);
        worker::spawn(number, table, suspects.clone(), commands, shutdown.clone())?;
        workers.push(sender);
    }
    let (events, _) = broadcast::channel(1024);
    let saved: Option<Saved> =
        fs::read(&config.saved).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let server = Arc::new(Server {
        table,
        workers,
        address: config.address,
        saved: config.saved,
        events,
        open: Mutex::default(),
        closed: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&server).watch_suspects(suspected));
    if let Some(saved) = saved {
        for endpoint in saved.endpoints {
            server.publish(endpoint);
        }
        server.set_routes(saved.routes).await;
    }
    tokio::select! {
        () = listen(Arc::clone(&server), listener) => {}
        () = async { drop(shutdown.wait_for(|ends| *ends).await) } => {}
    }
    let deadline = tokio::time::Instant::now() + DRAIN;
    let busy = || {
        let pools = server.table.pools();
        let all = pools.values().flat_map(|pool| pool.endpoints().to_vec());
        all.map(|endpoint| endpoint.in_flight() + endpoint.upgraded()).sum::<usize>() > 0
    };
    while busy() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
