//! Routes and the sockets of their ports: opened, given up, taken from the process before.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::sleep;

use super::{Event, Server};
use crate::{table::Route, worker};

/// How long the workers may take to close a port.
const CLOSING: Duration = Duration::from_millis(500);

/// The sockets that this process listens on, by port; the workers have them as well.
pub(crate) type Sockets = BTreeMap<u16, Vec<Arc<TcpListener>>>;

impl Server {
    pub(crate) async fn set_routes(self: &Arc<Self>, routes: Vec<Route>) {
        let wanted: BTreeSet<u16> = routes.iter().map(|route| route.published_port).collect();
        let map = routes.iter().map(|r| (r.published_port, Arc::new(r.clone()))).collect();
        self.table.routes.store(Arc::new(map));
        let open = self.open_ports();
        for port in open.difference(&wanted) {
            // Theirs is to be the last hold on the socket: they admit who waits in it.
            self.with_sockets(|sockets| drop(sockets.remove(port)));
            for worker in &self.workers {
                let _ = worker.send(worker::Command::Unlisten { port: *port }).await;
            }
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
                // A socket that is opened while others are handed over would be left behind.
                let _calm = server.calm.lock().await;
                let is_wanted = server.table.route(port).as_deref() == Some(&route);
                if !is_wanted || server.is_leaving() || server.open_ports().contains(&port) {
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
        self.with_sockets(|sockets| sockets.keys().copied().collect())
    }

    pub(crate) fn with_sockets<T>(&self, change: impl FnOnce(&mut Sockets) -> T) -> T {
        change(&mut self.sockets.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.listen_on(address, Vec::new()).await
    }

    /// Listens on sockets that are there, and on new ones until each worker has one. None of those
    /// that are there is left out: it may have clients who wait in it.
    pub(crate) async fn listen_on(
        &self,
        address: SocketAddr,
        mut sockets: Vec<Arc<TcpListener>>,
    ) -> io::Result<()> {
        let port = address.port();
        let of_others = sockets.len();
        while sockets.len() < self.workers.len() {
            match bind(address, true) {
                Ok(socket) => sockets.push(Arc::new(socket)),
                Err(error) if of_others == 0 => return Err(error),
                // Fewer workers admit clients then.
                Err(error) => {
                    tracing::warn!(port, %error, "no further socket could be opened");
                    break;
                }
            }
        }
        for (worker, socket) in self.workers.iter().cycle().zip(&sockets) {
            let listener = socket.try_clone()?;
            let _ = worker.send(worker::Command::Listen { port, listener }).await;
        }
        self.with_sockets(|open| open.insert(port, sockets));
        Ok(())
    }
}

pub(crate) fn bind(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
