//! The ingress's side: applies what control says, probes, drains, acknowledges.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Command, Drain, Event, LINE_LIMIT};
use crate::{
    endpoint::{Description, Endpoint, State},
    reach,
    stats::Sum,
    table::{Route, Saved, Table},
    worker,
};

/// How long an endpoint may take to accept a connection that only asks whether it does.
const PROBE: Duration = Duration::from_secs(1);
/// How long the workers may take to close a port.
const CLOSING: Duration = Duration::from_millis(500);

/// Everything that acts on control's behalf.
pub(crate) struct Server {
    pub(crate) table: Arc<Table>,
    pub(crate) workers: Vec<mpsc::Sender<worker::Command>>,
    pub(crate) address: std::net::IpAddr,
    pub(crate) saved: PathBuf,
    /// To whoever is connected now.
    pub(crate) events: broadcast::Sender<Event>,
    /// Ports that are listened on.
    pub(crate) open: Mutex<BTreeSet<u16>>,
    /// Ports that are not listened on any more, and since when.
    pub(crate) closed: Mutex<BTreeMap<u16, Instant>>,
}

/// Takes one connection after the other; each may say everything.
pub(crate) async fn listen(server: Arc<Server>, listener: UnixListener) {
    loop {
        match listener.accept().await {
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

impl Server {
    async fn talk(self: Arc<Self>, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut events = self.events.subscribe();
        let (answers, mut answered) = mpsc::channel::<Event>(64);
        let writing = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    Ok(event) = events.recv() => event,
                    Some(event) = answered.recv() => event,
                    else => return,
                };
                let Ok(mut line) = serde_json::to_vec(&event) else { continue };
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(count) if count > 0) {
                break;
            }
            match serde_json::from_slice::<Command>(&line) {
                Ok(Command::Stats { id }) => {
                    let stats = self.stats();
                    let _ = answers.send(Event::Stats { id, stats }).await;
                }
                Ok(command) => self.apply(command).await,
                Err(error) => tracing::warn!(%error, "control said something unknown"),
            }
        }
        writing.abort();
    }

    async fn apply(self: &Arc<Self>, command: Command) {
        match command {
            Command::Sync { routes, published, draining } => {
                let named: BTreeSet<&str> = published
                    .iter()
                    .map(|endpoint| endpoint.task.as_str())
                    .chain(draining.iter().map(|drain| drain.task.as_str()))
                    .collect();
                let unknown: Vec<String> = self
                    .all()
                    .into_iter()
                    .filter(|endpoint| !named.contains(endpoint.about.task.as_str()))
                    .map(|endpoint| endpoint.about.task.clone())
                    .collect();
                for endpoint in published {
                    self.publish(endpoint);
                }
                self.set_routes(routes).await;
                let gone = unknown.into_iter().map(|task| Drain {
                    task,
                    requests_ms: 10_000,
                    upgraded_ms: 30_000,
                });
                for drain in draining.into_iter().chain(gone.collect::<Vec<_>>()) {
                    self.drain(drain);
                }
            }
            Command::Routes { routes } => self.set_routes(routes).await,
            Command::Publish { endpoint } => self.publish(endpoint),
            Command::Drain { drain } => self.drain(drain),
            Command::Stats { .. } => {}
        }
        self.save();
    }

    fn all(&self) -> Vec<Arc<Endpoint>> {
        self.table.pools().values().flat_map(|pool| pool.endpoints().to_vec()).collect()
    }

    pub(crate) fn publish(self: &Arc<Self>, about: Description) {
        let endpoint = self.table.add(about);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            if server.joins(&endpoint).await {
                server.table.pool(&endpoint.about.service).changed.notify_waiters();
                let task = endpoint.about.task.clone();
                let _ = server.events.send(Event::Published { task });
            }
        });
    }

    /// Waits until the endpoint accepts connections; false when it was drained before.
    async fn joins(&self, endpoint: &Endpoint) -> bool {
        let mut wait = Duration::from_millis(2);
        loop {
            match endpoint.state() {
                State::Ready => return true,
                State::Draining | State::Gone => return false,
                State::Joining | State::Suspect => {}
            }
            if reach::accepts(endpoint, PROBE).await {
                endpoint.become_state(State::Ready);
                continue;
            }
            sleep(wait).await;
            wait = (wait * 3 / 2).min(Duration::from_millis(250));
        }
    }

    /// Tries suspect endpoints until they answer or go.
    pub(crate) async fn watch_suspects(
        self: Arc<Self>,
        mut suspects: mpsc::Receiver<Arc<Endpoint>>,
    ) {
        while let Some(endpoint) = suspects.recv().await {
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                sleep(Duration::from_millis(20)).await;
                server.joins(&endpoint).await;
            });
        }
    }

    fn drain(self: &Arc<Self>, drain: Drain) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let cut = match server.table.endpoint(&drain.task) {
                Some(endpoint) => server.drained(&endpoint, &drain).await,
                None => 0,
            };
            let _ = server.events.send(Event::Drained { task: drain.task, cut });
        });
    }

    /// Stops sending, waits for what is in flight, closes what is kept. Returns how much was cut.
    async fn drained(&self, endpoint: &Arc<Endpoint>, drain: &Drain) -> usize {
        endpoint.become_state(State::Draining);
        let requests = idle(endpoint, drain.requests(), Endpoint::in_flight);
        let upgraded = idle(endpoint, drain.upgraded(), Endpoint::upgraded);
        tokio::join!(requests, upgraded);
        let cut = endpoint.in_flight() + endpoint.upgraded();
        let _ = endpoint.cut.send(true);
        let addresses: Vec<SocketAddr> =
            endpoint.about.addresses.iter().map(|(_, address)| *address).collect();
        for worker in &self.workers {
            let (done, flushed) = oneshot::channel();
            let addresses = addresses.clone();
            if worker.send(worker::Command::Flush { addresses, done }).await.is_ok() {
                let _ = timeout(Duration::from_secs(1), flushed).await;
            }
        }
        endpoint.become_state(State::Gone);
        self.table.pool(&endpoint.about.service).keep_counts(endpoint);
        self.table.remove(endpoint);
        cut
    }

    pub(crate) async fn set_routes(self: &Arc<Self>, routes: Vec<Route>) {
        let wanted: BTreeSet<u16> = routes.iter().map(|route| route.published_port).collect();
        let map = routes.iter().map(|r| (r.published_port, Arc::new(r.clone()))).collect();
        self.table.routes.store(Arc::new(map));
        let open = self.open_ports();
        for port in open.difference(&wanted) {
            for worker in &self.workers {
                let _ = worker.send(worker::Command::Unlisten { port: *port }).await;
            }
            self.change_open(|open| open.remove(port));
            self.closed().insert(*port, Instant::now());
        }
        for route in routes.into_iter().filter(|route| !open.contains(&route.published_port)) {
            if let Err(error) = self.reopen(&route).await {
                let reason = reason(&error);
                let published_port = route.published_port;
                let _ = self.events.send(Event::ListenFailed { published_port, reason });
                self.retry(route);
            }
        }
    }

    /// Tries again each second, as long as the route is wanted.
    fn retry(self: &Arc<Self>, route: Route) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                let port = route.published_port;
                let is_wanted = server.table.route(port).as_deref() == Some(&route);
                if !is_wanted || server.open_ports().contains(&port) {
                    return;
                }
                match server.open(&route).await {
                    Ok(()) => return,
                    Err(error) => {
                        let reason = reason(&error);
                        let event = Event::ListenFailed { published_port: port, reason };
                        let _ = server.events.send(event);
                    }
                }
            }
        });
    }

    fn open_ports(&self) -> BTreeSet<u16> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_open(&self, change: impl FnOnce(&mut BTreeSet<u16>) -> bool) {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn closed(&self) -> MutexGuard<'_, BTreeMap<u16, Instant>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it; a port that the workers are just closing is waited for.
    async fn reopen(&self, route: &Route) -> io::Result<()> {
        let closed = self.closed().remove(&route.published_port);
        loop {
            let opened = self.open(route).await;
            let is_closing = closed.is_some_and(|at| at.elapsed() < CLOSING);
            if opened.is_ok() || !is_closing {
                return opened;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// One listening socket per worker on the same port.
    async fn open(&self, route: &Route) -> io::Result<()> {
        let host = route.address.unwrap_or(self.address);
        let address = SocketAddr::new(host, route.published_port);
        // A socket that does not share the port finds out whether another process has it.
        drop(bind(address, false)?);
        let mut sockets = Vec::new();
        for _ in &self.workers {
            sockets.push(bind(address, true)?);
        }
        for (worker, listener) in self.workers.iter().zip(sockets) {
            let (port, protocol) = (route.published_port, route.protocol);
            let _ = worker.send(worker::Command::Listen { port, protocol, listener }).await;
        }
        self.change_open(|open| open.insert(route.published_port));
        Ok(())
    }

    /// The table on disk, for a start without control.
    fn save(&self) {
        let saved = self.table.saved();
        let path = self.saved.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &saved) {
                tracing::warn!(path = %path.display(), %error, "the table was not saved");
            }
        });
    }

    fn stats(&self) -> Value {
        let pools = self.table.pools();
        let services: Vec<Value> = pools
            .iter()
            .map(|(service, pool)| {
                let mut sum = Sum::default();
                pool.counters.add_to(&mut sum);
                let mut endpoints = Vec::new();
                for endpoint in pool.endpoints().iter() {
                    let mut own = Sum::default();
                    endpoint.counters.add_to(&mut own);
                    endpoint.counters.add_to(&mut sum);
                    let mut shown = own.json();
                    shown["task"] = json!(endpoint.about.task);
                    shown["name"] = json!(endpoint.about.task_name);
                    shown["release"] = json!(endpoint.about.release);
                    shown["state"] = json!(endpoint.state());
                    shown["in_flight"] = json!(endpoint.in_flight());
                    shown["upgraded"] = json!(endpoint.upgraded());
                    endpoints.push(shown);
                }
                let mut shown = sum.json();
                shown["service"] = json!(service);
                shown["endpoints"] = json!(endpoints);
                shown
            })
            .collect();
        json!({ "services": services })
    }
}

async fn idle(endpoint: &Endpoint, within: Duration, count: impl Fn(&Endpoint) -> usize) {
    let _ = timeout(within, async {
        while count(endpoint) > 0 {
            let changed = endpoint.idle.notified();
            if count(endpoint) == 0 {
                return;
            }
            // A notice may come between the look and the wait: look again soon.
            let _ = timeout(Duration::from_millis(20), changed).await;
        }
    })
    .await;
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<std::net::TcpListener> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn write(path: &std::path::Path, saved: &Saved) -> io::Result<()> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}
