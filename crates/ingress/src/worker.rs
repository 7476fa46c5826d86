//! A worker: one thread, one runtime, its own listeners and its own kept connections.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
    peer::Peers,
    pool::Pool,
    table::{Protocol, Table},
    tcp,
};

/// What a worker is told.
pub(crate) enum Command {
    Listen {
        port: u16,
        listener: std::net::TcpListener,
    },
    Unlisten {
        port: u16,
    },
    /// Close kept connections to the endpoint of this number, and say so.
    Flush {
        endpoint: u64,
        done: oneshot::Sender<()>,
    },
    /// Nobody waits for this endpoint any longer.
    Cut {
        endpoint: Arc<Endpoint>,
    },
    /// Another process has the sockets: admit nobody more, and let those go who are here.
    Leave,
}

/// What the requests of one worker share.
pub(crate) struct Worker {
    pub(crate) table: Arc<Table>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) pool: Pool,
    pub(crate) spare: Spare,
    /// Connections of clients, and sockets that admit them, of all workers.
    open: Arc<AtomicUsize>,
    id_seed: u64,
    ids: Cell<u64>,
    /// Seconds since the worker began: a clock that costs nothing to read.
    seconds: Cell<u32>,
}

impl Worker {
    /// A connect to it failed: others first, until it answers again.
    pub(crate) fn suspect(&self, endpoint: &Arc<Endpoint>) {
        if endpoint.become_state(State::Suspect) {
            endpoint.look.notify_one();
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
    (table, peers): (Arc<Table>, Arc<Peers>),
    open: Arc<AtomicUsize>,
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
            peers,
            pool: Pool::default(),
            spare: Spare::default(),
            open,
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
    let ports: Rc<Ports> = Rc::default();
    spawn_local(sweep(Rc::clone(&worker), Rc::clone(&ports)));
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = async { drop(ends.wait_for(|ends| *ends).await) } => None,
        };
        match command {
            Some(Command::Listen { port, listener }) => {
                let Ok(listener) = TcpListener::from_std(listener) else { continue };
                let (door, stops) = ports.open(port);
                let opened = Counted::new(&worker.open);
                let worker = Rc::clone(&worker);
                let entrance = Entrance { worker, port, door, _opened: opened };
                spawn_local(accept(entrance, listener, stops));
            }
            Some(Command::Unlisten { port }) => ports.close(port),
            Some(Command::Flush { endpoint, done }) => {
                worker.pool.flush(endpoint);
                let _ = done.send(());
            }
            Some(Command::Cut { endpoint }) => {
                worker.pool.flush(endpoint.number);
                for door in ports.doors.borrow().iter() {
                    door.cut(endpoint.number);
                }
            }
            Some(Command::Leave) => ports.leave(),
            None => break,
        }
    }
    ports.close_all();
    // Open connections end after their next answer; the process's own deadline ends the rest.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// How a socket stops to admit clients.
#[derive(Debug, Default)]
struct Stops {
    notice: Notify,
    /// Another process goes on with the socket: what waits in it is not ours.
    is_left: Cell<bool>,
}

/// The sockets of a worker, and who came through them.
#[derive(Debug, Default)]
struct Ports {
    listeners: RefCell<HashMap<u16, Vec<Rc<Stops>>>>,
    doors: RefCell<Vec<Rc<Door>>>,
}

impl Ports {
    fn open(&self, port: u16) -> (Rc<Door>, Rc<Stops>) {
        let (door, stops) = (Rc::new(Door::default()), Rc::new(Stops::default()));
        self.listeners.borrow_mut().entry(port).or_default().push(Rc::clone(&stops));
        self.doors.borrow_mut().push(Rc::clone(&door));
        (door, stops)
    }

    fn close(&self, port: u16) {
        for stops in self.listeners.borrow_mut().remove(&port).unwrap_or_default() {
            stops.notice.notify_one();
        }
    }

    fn close_all(&self) {
        for (_, all) in self.listeners.borrow_mut().drain() {
            all.iter().for_each(|stops| stops.notice.notify_one());
        }
        self.doors.borrow().iter().for_each(|door| door.close());
    }

    fn leave(&self) {
        for (_, all) in self.listeners.borrow_mut().drain() {
            for stops in all {
                stops.is_left.set(true);
                stops.notice.notify_one();
            }
        }
    }
}

/// Once a second: the clock, connections that were idle for too long, clients that are too late.
async fn sweep(worker: Rc<Worker>, ports: Rc<Ports>) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.seconds.set(u32::try_from(started.elapsed().as_secs()).unwrap_or(u32::MAX));
        worker.pool.sweep(worker.now());
        ports.doors.borrow_mut().retain(|door| {
            door.sweep(worker.now());
            !door.is_done()
        });
    }
}

/// One of the connections and sockets that this process has open.
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Where clients of one port come in.
struct Entrance {
    worker: Rc<Worker>,
    port: u16,
    door: Rc<Door>,
    _opened: Counted,
}

impl Entrance {
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let (worker, port) = (Rc::clone(&self.worker), self.port);
        let counted = Counted::new(&worker.open);
        match worker.table.route(port) {
            Some(route) if route.protocol != Protocol::Http => {
                spawn_local(async move {
                    tcp::relay(worker, &route, stream).await;
                    drop(counted);
                });
            }
            // Without a route the client is told that there is nobody.
            Some(_) | None => {
                let visitor = self.door.enter();
                spawn_local(async move {
                    client::serve(worker, port, stream, address, visitor).await;
                    drop(counted);
                });
            }
        }
    }
}

/// Admits clients until the port is given up; those whom the kernel has let in by then, too.
async fn accept(entrance: Entrance, listener: TcpListener, stops: Rc<Stops>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stops.notice.notified() => break,
        };
        match accepted {
            Ok((stream, address)) => entrance.admit(stream, address),
            // Out of descriptors: let some connections end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    if stops.is_left.get() {
        entrance.door.leave();
        return;
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
