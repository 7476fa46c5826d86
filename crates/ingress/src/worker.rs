//! A worker: one thread, one runtime, its own listeners and its own kept connections.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{LocalSet, spawn_local},
};

use crate::{
    endpoint::{Endpoint, State},
    pool::Pool,
    proxy,
    table::{Protocol, Table},
    tcp,
};

const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a worker is told.
pub(crate) enum Command {
    Listen {
        port: u16,
        protocol: Protocol,
        listener: std::net::TcpListener,
    },
    Unlisten {
        port: u16,
    },
    /// Close kept connections to these addresses, and say so.
    Flush {
        addresses: Vec<SocketAddr>,
        done: oneshot::Sender<()>,
    },
}

/// What the requests of one worker share.
pub(crate) struct Worker {
    pub(crate) table: Arc<Table>,
    pub(crate) pool: Pool,
    suspects: mpsc::Sender<Arc<Endpoint>>,
    id_seed: u64,
    ids: Cell<u64>,
}

impl Worker {
    /// A connect to it failed: others first, until it answers again.
    pub(crate) fn suspect(&self, endpoint: &Arc<Endpoint>) {
        if endpoint.become_state(State::Suspect) {
            let _ = self.suspects.try_send(Arc::clone(endpoint));
        }
    }

    /// A request id: unique in this worker, unlikely elsewhere.
    pub(crate) fn next_id(&self) -> String {
        let number = self.ids.get() + 1;
        self.ids.set(number);
        format!("{:016x}{:08x}", self.id_seed, number)
    }
}

/// Starts a worker's thread.
pub(crate) fn spawn(
    number: usize,
    table: Arc<Table>,
    suspects: mpsc::Sender<Arc<Endpoint>>,
    commands: mpsc::Receiver<Command>,
    ends: watch::Receiver<bool>,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            return;
        };
        let mut seed = [0_u8; 8];
        let _ = getrandom::fill(&mut seed);
        let worker = Rc::new(Worker {
            table,
            pool: Pool::default(),
            suspects,
            id_seed: u64::from_le_bytes(seed),
            ids: Cell::new(0),
        });
        let local = LocalSet::new();
        runtime.block_on(local.run_until(run(worker, commands, ends)));
    })
}

async fn run(
    worker: Rc<Worker>,
    mut commands: mpsc::Receiver<Command>,
    mut ends: watch::Receiver<bool>,
) {
    let listeners: RefCell<HashMap<u16, watch::Sender<bool>>> = RefCell::default();
    let pool = worker.pool.clone();
    spawn_local(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pool.sweep();
        }
    });
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = async { drop(ends.wait_for(|ends| *ends).await) } => None,
        };
        match command {
            Some(Command::Listen { port, protocol, listener }) => {
                let Ok(listener) = TcpListener::from_std(listener) else { continue };
                let (stop, stopped) = watch::channel(false);
                listeners.borrow_mut().insert(port, stop);
                spawn_local(accept(Rc::clone(&worker), port, protocol, listener, stopped));
            }
            Some(Command::Unlisten { port }) => {
                if let Some(stop) = listeners.borrow_mut().remove(&port) {
                    let _ = stop.send(true);
                }
            }
            Some(Command::Flush { addresses, done }) => {
                for address in addresses {
                    worker.pool.flush(address);
                }
                let _ = done.send(());
            }
            None => break,
        }
    }
    for (_, stop) in listeners.borrow_mut().drain() {
        let _ = stop.send(true);
    }
    // Open connections end after their next answer; the process's own deadline ends the rest.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

async fn accept(
    worker: Rc<Worker>,
    port: u16,
    protocol: Protocol,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = async { drop(stopped.wait_for(|stops| *stops).await) } => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let _ = stream.set_nodelay(true);
                let worker = Rc::clone(&worker);
                match protocol {
                    Protocol::Http => {
                        spawn_local(serve(worker, port, stream, client, stopped.clone()));
                    }
                    Protocol::Tcp => {
                        spawn_local(tcp::relay(worker, port, stream));
                    }
                }
            }
            // Out of descriptors: let some connections end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(
    worker: Rc<Worker>,
    port: u16,
    stream: TcpStream,
    client: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let answer = proxy::answer(Rc::clone(&worker), port, client.ip(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let is_stopping = tokio::select! {
        _ = connection.as_mut() => false,
        () = async { drop(stopped.wait_for(|stops| *stops).await) } => true,
    };
    if is_stopping {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
