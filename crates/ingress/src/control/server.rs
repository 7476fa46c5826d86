//! The ingress's side: applies what control says, and acknowledges.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, broadcast, mpsc, watch},
    time::{sleep, timeout},
};

use super::{Command, Drain, Event, Handed, LINE_LIMIT, Predecessor, Sockets};
use crate::{
    endpoint::{Description, Endpoint, State},
    handover, health,
    peer::{Gate, Node, Peers},
    table::{Added, Saved, Table},
    worker,
};

/// How long a process that asked for the sockets may take until it serves.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Everything that acts on control's behalf.
pub(crate) struct Server {
    pub(crate) table: Arc<Table>,
    pub(crate) workers: Vec<mpsc::Sender<worker::Command>>,
    pub(crate) address: std::net::IpAddr,
    /// None where there are no other nodes.
    pub(crate) node: Option<Node>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) gate: Gate,
    pub(crate) saved: PathBuf,
    /// Whose turn it is to save.
    pub(crate) saving: Arc<Mutex<()>>,
    /// To whoever is connected now.
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) sockets: Mutex<Sockets>,
    /// Ports that are not listened on any more, and since when.
    pub(crate) closed: Mutex<BTreeMap<u16, Instant>>,
    /// Connections of clients, and sockets that admit them.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) predecessor: Mutex<Option<Predecessor>>,
    /// Held while what is known must not change.
    pub(crate) calm: AsyncMutex<()>,
    pub(crate) leaving: watch::Sender<Leaving>,
}

/// Whether another process goes on in place of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leaving {
    #[default]
    No,
    /// It serves; control does not reach it yet.
    Serves { within: Duration },
    /// Nobody but it speaks to this process any more.
    Reached { within: Duration },
    /// What is open here is to end now.
    Ends,
}

/// What goes to the other side of a control connection.
enum Said {
    Event(Event),
    Sockets(Vec<Arc<TcpListener>>),
}

/// Takes one connection after the other; each may say everything. Ends when another process is
/// reached in place of this one.
pub(crate) async fn listen(server: Arc<Server>, listener: UnixListener) {
    let mut leaving = server.leaving.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = async { drop(leaving.wait_for(|leaving| leaving.is_reached()).await) } => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.talk(stream).await });
            }
            Err(error) => {
                // Mostly out of descriptors: let some connections end first.
                tracing::warn!(%error, "accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Leaving {
    fn is_reached(self) -> bool {
        matches!(self, Self::Reached { .. } | Self::Ends)
    }
}

impl Server {
    async fn talk(self: Arc<Self>, stream: UnixStream) {
        let (reader, writer) = stream.into_split();
        let (answers, answered) = mpsc::channel::<Said>(64);
        let writing = tokio::spawn(write(writer, self.events.subscribe(), answered));
        let mut reader = BufReader::new(reader);
        let mut leaving = self.leaving.subscribe();
        loop {
            let command = tokio::select! {
                command = next(&mut reader) => command,
                () = async { drop(leaving.wait_for(|leaving| leaving.is_reached()).await) } => None,
            };
            match command {
                Some(Command::Stats { id }) => {
                    let stats = self.stats();
                    let _ = answers.send(Said::Event(Event::Stats { id, stats })).await;
                }
                Some(Command::HandOver { version }) => {
                    if self.hand_over(&version, &mut reader, &answers).await {
                        self.follow_successor(&mut reader).await;
                    }
                    break;
                }
                Some(command) => self.apply(command).await,
                None => break,
            }
        }
        writing.abort();
    }

    /// Gives the sockets to another process. True when it serves; until then nothing changes here.
    async fn hand_over(
        self: &Arc<Self>,
        version: &str,
        reader: &mut BufReader<OwnedReadHalf>,
        answers: &mpsc::Sender<Said>,
    ) -> bool {
        let _calm = self.calm.lock().await;
        if self.is_leaving() {
            return false;
        }
        tracing::info!(version, "another process takes over");
        let mut sockets: Vec<_> =
            self.with_sockets(|open| open.values().flatten().cloned().collect());
        sockets.extend(self.gate.listens_on());
        let handed = Handed {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: self.address,
            routes: self.table.routes(),
            endpoints: self.table.standing(),
            sockets: sockets.len(),
            node: self.node.clone(),
        };
        let _ = answers.send(Said::Sockets(sockets)).await;
        let _ = answers.send(Said::Event(Event::Handed { handed })).await;
        let Ok(Some(Command::TakenOver { within_ms })) = timeout(TAKE_OVER, next(reader)).await
        else {
            tracing::warn!("the other process did not take over; serving on");
            return false;
        };
        self.leaving.send_replace(Leaving::Serves { within: Duration::from_millis(within_ms) });
        self.leave_ports().await;
        let _ = answers.send(Said::Event(Event::Leaving)).await;
        true
    }

    /// Listens to the process that took over, until it or this one ends.
    async fn follow_successor(self: &Arc<Self>, reader: &mut BufReader<OwnedReadHalf>) {
        let mut leaving = self.leaving.subscribe();
        loop {
            let command = tokio::select! {
                command = next(reader) => command,
                () = async { drop(leaving.wait_for(|l| *l == Leaving::Ends).await) } => None,
            };
            let Some(command) = command else { break };
            match command {
                Command::Drain { drain } => self.drain(drain),
                Command::Here => self.is_replaced(),
                Command::End => _ = self.leaving.send_replace(Leaving::Ends),
                Command::Sync { .. }
                | Command::Routes { .. }
                | Command::Publish { .. }
                | Command::Stats { .. }
                | Command::HandOver { .. }
                | Command::TakenOver { .. } => {}
            }
        }
        self.is_replaced();
    }

    fn is_replaced(&self) {
        self.leaving.send_if_modified(|leaving| match *leaving {
            Leaving::Serves { within } => {
                *leaving = Leaving::Reached { within };
                true
            }
            Leaving::No | Leaving::Reached { .. } | Leaving::Ends => false,
        });
    }

    /// Admits nobody more; those who are here may stay.
    async fn leave_ports(&self) {
        for worker in &self.workers {
            let _ = worker.send(worker::Command::Leave).await;
        }
        self.with_sockets(Sockets::clear);
        self.gate.close();
    }

    pub(crate) fn is_leaving(&self) -> bool {
        *self.leaving.borrow() != Leaving::No
    }

    pub(crate) fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn apply(self: &Arc<Self>, command: Command) {
        let _calm = self.calm.lock().await;
        // Control says everything again to the process that it reaches next.
        if self.is_leaving() {
            return;
        }
        match command {
            Command::Sync { routes, published, draining } => {
                let named: BTreeSet<&str> = published
                    .iter()
                    .map(|endpoint| endpoint.task.as_str())
                    .chain(draining.iter().map(|drain| drain.task.as_str()))
                    .collect();
                let all = self.table.all();
                let unknown: BTreeSet<String> = all
                    .iter()
                    .map(|endpoint| endpoint.about.task.clone())
                    .filter(|task| !named.contains(task.as_str()))
                    .collect();
                for endpoint in published {
                    self.publish(endpoint);
                }
                self.set_routes(routes).await;
                for drain in draining.into_iter().chain(unknown.into_iter().map(Drain::forgotten)) {
                    self.drain(drain);
                }
            }
            Command::Routes { routes } => self.set_routes(routes).await,
            Command::Publish { endpoint } => self.publish(endpoint),
            Command::Drain { drain } => self.drain(drain),
            Command::Stats { .. }
            | Command::HandOver { .. }
            | Command::TakenOver { .. }
            | Command::Here
            | Command::End => {}
        }
        self.save();
    }

    pub(crate) fn publish(self: &Arc<Self>, about: Description) {
        let endpoint = match self.table.add(about) {
            Added::Known(endpoint) => endpoint,
            Added::New(endpoint) => {
                self.watch(&endpoint);
                endpoint
            }
        };
        endpoint.is_awaited.store(true, Ordering::SeqCst);
        if endpoint.state() == State::Ready {
            self.acknowledge(&endpoint);
        }
    }

    /// Looks after an endpoint's health from now on.
    pub(crate) fn watch(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        let (endpoint, peers) = (Arc::clone(endpoint), Arc::clone(&self.peers));
        tokio::spawn(health::watch(endpoint, peers, Arc::clone(self)));
    }

    /// Says once that it takes requests.
    fn acknowledge(&self, endpoint: &Endpoint) {
        if endpoint.is_awaited.swap(false, Ordering::SeqCst) {
            let task = endpoint.about.task.clone();
            let _ = self.events.send(Event::Published { task });
        }
    }

    /// The table on disk, for a start without control.
    fn save(&self) {
        let (table, path) = (Arc::clone(&self.table), self.saved.clone());
        let saving = Arc::clone(&self.saving);
        tokio::task::spawn_blocking(move || {
            // One after the other, each with the table of its turn: the last one is the newest.
            let _turn = saving.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = write_beside(&path, &table.saved()) {
                tracing::warn!(path = %path.display(), %error, "the table was not saved");
            }
        });
    }
}

impl health::Listener for Server {
    fn became_ready(self: &Arc<Self>, endpoint: &Arc<Endpoint>) {
        self.table.pool(&endpoint.about.service).changed.notify_waiters();
        self.acknowledge(endpoint);
        let of_task = self.table.of_task(&endpoint.about.task);
        for earlier in of_task.into_iter().filter(|e| e.number < endpoint.number) {
            if earlier.state() < State::Draining {
                self.replace(earlier, endpoint);
            }
        }
    }

    async fn is_lost(&self, endpoint: &Arc<Endpoint>) {
        endpoint.cut_now();
        for worker in &self.workers {
            let endpoint = Arc::clone(endpoint);
            let _ = worker.send(worker::Command::Cut { endpoint }).await;
        }
    }
}

/// The next command; `None` when the other side is gone.
async fn next(reader: &mut BufReader<OwnedReadHalf>) -> Option<Command> {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut *reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await {
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return None,
        }
        match serde_json::from_slice(&line) {
            Ok(command) => return Some(command),
            Err(error) => tracing::warn!(%error, "control said something unknown"),
        }
    }
}

/// Writes what happens, and what was asked.
async fn write(
    mut writer: OwnedWriteHalf,
    mut events: broadcast::Receiver<Event>,
    mut answers: mpsc::Receiver<Said>,
) {
    loop {
        let said = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => Said::Event(event),
                // Something was missed: control connects anew and says everything again.
                Err(_) => return,
            },
            said = answers.recv() => match said {
                Some(said) => said,
                None => return,
            },
        };
        let written = match said {
            Said::Event(event) => {
                let Ok(mut line) = serde_json::to_vec(&event) else { continue };
                line.push(b'\n');
                writer.write_all(&line).await
            }
            Said::Sockets(sockets) => handover::send(writer.as_ref(), &sockets).await,
        };
        if written.is_err() {
            return;
        }
    }
}

fn write_beside(path: &std::path::Path, saved: &Saved) -> io::Result<()> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}
