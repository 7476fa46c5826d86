//! The ingress process: workers, control's socket, the table from disk or from the process before.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    sync::{Mutex as AsyncMutex, broadcast, mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    control::{Command, Leaving, Predecessor, Server, Sockets, listen},
    endpoint::Endpoint,
    handover::{self, HandoverError, Inheritance},
    peer::{Gate, Node, Peers},
    table::{Saved, Table},
    worker,
};

/// How long open connections get when the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct Config {
    /// Control's socket.
    pub socket: PathBuf,
    /// Where the table is kept.
    pub saved: PathBuf,
    /// Address that published ports are opened on.
    pub address: IpAddr,
    pub workers: usize,
    /// Takes over from the process that listens on the socket; what is long-lived there may stay for
    /// so long at most. Its address stays as well.
    pub takes_over: Option<Duration>,
    /// As a node among others; also of the process before.
    pub node: Option<Node>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] net::ListenError),
    #[error("start the ingress: {0}")]
    Start(#[from] std::io::Error),
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

/// Runs until `shutdown` turns true, or until another process has taken over and nothing is open
/// here any more.
pub async fn run(config: Config, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let (ending, ends) = watch::channel(false);
    let Some(within) = config.takes_over else {
        let listener = net::unix_listener(&config.socket, 0o600)?;
        let server = start(&config, config.address, config.node.clone(), &ends)?;
        restore(&server).await;
        server.admit_peers(None);
        serve(&server, listener, &ending, shutdown).await;
        return Ok(());
    };
    let mut inheritance = handover::ask(&config.socket).await?;
    let beside = net::UnixBeside::new(&config.socket, 0o600)?;
    let node = config.node.clone().or(inheritance.handed.node.take());
    let server = start(&config, inheritance.handed.address, node, &ends)?;
    match inherit(&server, inheritance, within).await {
        Ok(before) => {
            let listener = beside.take_place()?;
            // Without this word it waits for the end of this process to be as sure.
            let _ = before.say(&Command::Here).await;
            tracing::info!("took over from the ingress before");
            serve(&server, listener, &ending, shutdown).await;
            Ok(())
        }
        Err(error) => {
            // The other one goes on; whoever came in here, or waits in a socket of its own, is answered.
            server.with_sockets(Sockets::clear);
            server.gate.close();
            ending.send_replace(true);
            finish(&server).await;
            Err(error)
        }
    }
}

fn start(
    config: &Config,
    address: IpAddr,
    node: Option<Node>,
    ends: &watch::Receiver<bool>,
) -> Result<Arc<Server>, Error> {
    let table = Arc::new(Table::default());
    let peers = Arc::new(Peers::new(node.as_ref()));
    let open = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for number in 0..config.workers.max(1) {
        let (sender, commands) = mpsc::channel(256);
        let shared = (Arc::clone(&table), Arc::clone(&peers));
        worker::spawn(number, shared, Arc::clone(&open), commands, ends.clone())?;
        workers.push(sender);
    }
    let (events, _) = broadcast::channel(1024);
    Ok(Arc::new(Server {
        table,
        workers,
        address,
        node,
        peers,
        gate: Gate::default(),
        saved: config.saved.clone(),
        saving: Arc::default(),
        events,
        sockets: Mutex::default(),
        closed: Mutex::default(),
        open,
        predecessor: Mutex::default(),
        calm: AsyncMutex::default(),
        leaving: watch::Sender::default(),
    }))
}

/// The last known good table.
async fn restore(server: &Arc<Server>) {
    let saved: Option<Saved> =
        fs::read(&server.saved).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(saved) = saved {
        for endpoint in saved.endpoints {
            server.publish(endpoint);
        }
        server.set_routes(saved.routes).await;
    }
}

/// Goes on with everything of the process before, and has it leave.
async fn inherit(
    server: &Arc<Server>,
    mut inheritance: Inheritance,
    within: Duration,
) -> Result<Predecessor, Error> {
    for standing in std::mem::take(&mut inheritance.handed.endpoints) {
        let endpoint = Endpoint::standing(standing);
        server.table.put(&endpoint);
        server.watch(&endpoint);
    }
    let mut sockets = BTreeMap::<SocketAddr, Vec<_>>::new();
    for socket in std::mem::take(&mut inheritance.sockets) {
        sockets.entry(socket.local_addr()?).or_default().push(Arc::new(socket));
    }
    let routes = std::mem::take(&mut inheritance.handed.routes);
    let by_port = routes.iter().map(|route| (route.published_port, Arc::new(route.clone())));
    // Nobody may come in by a port before it is known where it leads.
    server.table.routes.store(Arc::new(by_port.collect()));
    let gate = server.node.as_ref().and_then(|node| sockets.remove(&node.address));
    for (address, sockets) in sockets {
        server.listen_on(address, sockets).await?;
    }
    server.admit_peers(gate.and_then(|sockets| sockets.into_iter().find_map(Arc::into_inner)));
    let before = inheritance.serves(within).await?;
    let kept = server.predecessor.lock();
    *kept.unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before.clone());
    // Ports that the one before could not open are tried again.
    server.set_routes(routes).await;
    Ok(before)
}

async fn serve(
    server: &Arc<Server>,
    listener: UnixListener,
    ending: &watch::Sender<bool>,
    mut shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        () = listen(Arc::clone(server), listener) => {
            tokio::select! {
                () = leave(server) => {}
                () = async { drop(shutdown.wait_for(|ends| *ends).await) } => {}
            }
        }
        () = async { drop(shutdown.wait_for(|ends| *ends).await) } => {}
    }
    if let Some(before) = server.predecessor() {
        // It has ended already, or hears it.
        let _ = before.say(&Command::End).await;
    }
    // Theirs is to be the last hold on the sockets: they admit who waits in them.
    server.with_sockets(Sockets::clear);
    server.gate.close();
    ending.send_replace(true);
    finish(server).await;
    // The process that took over hears it by the end of its connection.
    server.leaving.send_replace(Leaving::Ends);
}

/// Another process serves: until nothing is open here and in the process before any more, or the
/// time is over, or that process ends.
async fn leave(server: &Server) {
    let mut leaving = server.leaving.subscribe();
    let (Leaving::Reached { within } | Leaving::Serves { within }) = *leaving.borrow() else {
        return;
    };
    let count = || server.open.load(Ordering::SeqCst);
    tracing::info!(open = count(), "another process took over; finishing what is open here");
    let empty = async {
        while count() > 0 {
            sleep(LOOK).await;
        }
        if let Some(before) = server.predecessor() {
            before.ended().await;
        }
    };
    tokio::select! {
        empty = timeout(within, empty) => match empty {
            Ok(()) => tracing::info!("nothing is open any more"),
            Err(_) => tracing::warn!(open = count(), "the time to leave is over"),
        },
        () = async { drop(leaving.wait_for(|leaving| *leaving == Leaving::Ends).await) } => {}
    }
}

/// What is in flight is answered, within bounds.
async fn finish(server: &Server) {
    let deadline = Instant::now() + DRAIN;
    let busy = || {
        let all = server.table.all();
        all.iter().map(|endpoint| endpoint.held()).sum::<usize>() > 0
    };
    while busy() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
