//! A worker: one thread, one runtime, its own listeners and its own kept connections.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, oneshot, watch},
    task::{LocalSet, spawn_local},
};

use crate::{
    buffer::Spare,
    client,
    door::Door,
    endpoint::{Endpoint, State},
    message::request,
    pool::Pool,
    table::{Protocol, Table},
    tcp,
};

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
    pub(crate) spare: Spare,
    suspects: mpsc::Sender<Arc<Endpoint>>,
    id_seed: u64,
    ids: Cell<u64>,
    /// Seconds since the worker began: a clock that costs nothing to read.
    seconds: Cell<u32>,
}

impl Worker {
    /// A connect to it failed: others first, until it answers again.
    pub(crate) fn suspect(&self, endpoint: &Arc<Endpoint>) {
        if endpoint.become_state(State::Suspect) {
            let _ = self.suspects.try_send(Arc::clone(endpoint));
        }
    }

    pub(crate) fn now(&self) -> u32 {
        self.seconds.get()
    }

    /// A request id: unique in this worker, unlikely elsewhere.
    pub(crate) fn next_id(&self) -> request::Id {
        let number = self.ids.get().wrapping_add(1);
        self.ids.set(number);
        let hex = |value: u64, from: usize, digits: &mut [u8]| {
            for (at, digit) in digits.iter_mut().enumerate() {
                let nibble = (value >> (4 * (from - at))) & 0xf;
                *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or(0)];
            }
        };
        let mut id = [0; 24];
        hex(self.id_seed, 15, &mut id[..16]);
        hex(number, 7, &mut id[16..]);
        id
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
            spare: Spare::default(),
            suspects,
            id_seed: u64::from_le_bytes(seed),
            ids: Cell::new(0),
            seconds: Cell::new(0),
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
    let listeners: Rc<RefCell<HashMap<u16, Listener>>> = Rc::default();
    spawn_local(sweep(Rc::clone(&worker), Rc::clone(&listeners)));
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = async { drop(ends.wait_for(|ends| *ends).await) } => None,
        };
        match command {
            Some(Command::Listen { port, protocol, listener }) => {
                let Ok(listener) = TcpListener::from_std(listener) else { continue };
                let door = Rc::new(Door::default());
                let closes = Rc::new(Notify::new());
                let open = Listener { closes: Rc::clone(&closes), door: Rc::clone(&door) };
                listeners.borrow_mut().insert(port, open);
                let worker = Rc::clone(&worker);
                spawn_local(accept(Entrance { worker, port, protocol, door }, listener, closes));
            }
            Some(Command::Unlisten { port }) => {
                if let Some(listener) = listeners.borrow_mut().remove(&port) {
                    listener.close();
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
    for (_, listener) in listeners.borrow_mut().drain() {
        listener.close();
    }
    // Open connections end after their next answer; the process's own deadline ends the rest.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// A port that is listened on, and those who came through it.
struct Listener {
    closes: Rc<Notify>,
    door: Rc<Door>,
}

impl Listener {
    fn close(&self) {
        self.closes.notify_one();
    }
}

/// Once a second: the clock, connections that were idle for too long, clients that are too late.
async fn sweep(worker: Rc<Worker>, listeners: Rc<RefCell<HashMap<u16, Listener>>>) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.seconds.set(u32::try_from(started.elapsed().as_secs()).unwrap_or(u32::MAX));
        worker.pool.sweep(worker.now());
        for listener in listeners.borrow().values() {
            listener.door.sweep(worker.now());
        }
    }
}

/// Where clients of one port come in.
struct Entrance {
    worker: Rc<Worker>,
    port: u16,
    protocol: Protocol,
    door: Rc<Door>,
}

impl Entrance {
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let worker = Rc::clone(&self.worker);
        match self.protocol {
            Protocol::Http => {
                let visitor = self.door.enter();
                spawn_local(client::serve(worker, self.port, stream, address, visitor));
            }
            Protocol::Tcp => {
                spawn_local(tcp::relay(worker, self.port, stream));
            }
        }
    }
}

/// Admits clients until the port is given up; those whom the kernel has let in by then, too.
async fn accept(entrance: Entrance, listener: TcpListener, closes: Rc<Notify>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closes.notified() => break,
        };
        match accepted {
            Ok((stream, address)) => entrance.admit(stream, address),
            // Out of descriptors: let some connections end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, address)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                entrance.admit(stream, address);
            }
        }
    }
    entrance.door.close();
}
