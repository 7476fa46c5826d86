//! The other side: ingresses of other nodes come in, and are led to this node's own tasks.

use std::{
    future::pending,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use net::{Accept, TlsFiles, TlsListener};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Node, Wanted,
    carry::{Ended, carry},
    notice_silence, read_line,
};
use crate::{
    control::{Event, Server, bind},
    endpoint::{Endpoint, InFlight, State},
    table::Table,
    worker::Counted,
};

/// Connections of other nodes at a time; more are refused, and go elsewhere.
const MOST: usize = 8192;
/// How long the other side may take to say what it wants.
const HEAD: Duration = Duration::from_secs(5);
/// How long it may take until it wants something else. The other side has given it up by then.
const IDLE: Duration = Duration::from_secs(20);
/// How long a task may take to accept. The other side has given up by then.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two tries to open the port.
const AGAIN: Duration = Duration::from_secs(1);

type Stream = <TlsListener as Accept>::Stream;

/// Where ingresses of other nodes come in.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    socket: Mutex<Option<Arc<TcpListener>>>,
    is_closed: watch::Sender<bool>,
}

impl Gate {
    fn socket(&self) -> MutexGuard<'_, Option<Arc<TcpListener>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the process that takes over.
    pub(crate) fn listens_on(&self) -> Option<Arc<TcpListener>> {
        self.socket().clone()
    }

    /// Lets nobody in any more; those who are in stay.
    pub(crate) fn close(&self) {
        self.socket().take();
        self.is_closed.send_replace(true);
    }
}

impl Server {
    /// Lets other nodes in from now on, by the socket of the process before where there is one.
    pub(crate) fn admit_peers(self: &Arc<Self>, socket: Option<TcpListener>) {
        let Some(node) = self.node.clone() else { return };
        *self.gate.socket() = socket.map(Arc::new);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(listener) = server.open_gate(&node).await {
                server.admit(listener).await;
            }
        });
    }

    /// Tries again each second; none when it need not be open any more.
    async fn open_gate(&self, node: &Node) -> Option<TlsListener> {
        loop {
            {
                // A socket that is opened while others are handed over would be left behind.
                let _calm = self.calm.lock().await;
                if *self.gate.is_closed.borrow() {
                    return None;
                }
                match self.try_gate(node) {
                    Ok(listener) => return Some(listener),
                    Err(error) => {
                        let (published_port, reason) = (node.address.port(), error.to_string());
                        tracing::error!(port = published_port, reason, "other nodes stay out");
                        let _ = self.events.send(Event::ListenFailed { published_port, reason });
                    }
                }
            }
            sleep(AGAIN).await;
        }
    }

    fn try_gate(&self, node: &Node) -> io::Result<TlsListener> {
        let mut kept = self.gate.socket();
        let socket = match &*kept {
            Some(socket) => Arc::clone(socket),
            None => Arc::new(bind(node.address, false)?),
        };
        let listener = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
        let files = TlsFiles::of_swarm_node(&node.certificates);
        let listener = TlsListener::new(listener, files).map_err(io::Error::other)?;
        *kept = Some(socket);
        Ok(listener)
    }

    async fn admit(&self, listener: TlsListener) {
        let _opened = Counted::new(&self.open);
        let seats = Arc::new(Semaphore::new(MOST));
        let mut closed = self.gate.is_closed.subscribe();
        let mut is_closed = false;
        loop {
            let stream = tokio::select! {
                stream = listener.accept_one() => stream,
                () = async { drop(closed.wait_for(|is| *is).await) }, if !is_closed => {
                    is_closed = true;
                    listener.close();
                    continue;
                }
            };
            let Ok(stream) = stream else { return };
            let talk = Talk {
                table: Arc::clone(&self.table),
                seat: Arc::clone(&seats).try_acquire_owned().ok(),
                is_closed: self.gate.is_closed.subscribe(),
            };
            tokio::spawn(talk.hold(stream, Arc::clone(&self.open)));
        }
    }
}

/// One connection of another node, from its first line to its end.
struct Talk {
    table: Arc<Table>,
    seat: Option<OwnedSemaphorePermit>,
    is_closed: watch::Receiver<bool>,
}

impl Talk {
    async fn hold(mut self, mut stream: Stream, open: Arc<AtomicUsize>) {
        let _counted = Counted::new(&open);
        // Without it a node that vanished is noticed later, when its task is drained.
        let _ = notice_silence(stream.get_ref().0);
        let Ok(first) = timeout(HEAD, read_line(&mut stream)).await else { return };
        let mut next = first.ok();
        while let Some(line) = next {
            // Dropped as it is, a stream ends without TLS's last word: the other side sees a break.
            if !self.once(&mut stream, &line).await {
                return;
            }
            next = tokio::select! {
                biased;
                // Another process goes on; what was said to this one meanwhile is said again there.
                () = async { drop(self.is_closed.wait_for(|is| *is).await) } => None,
                line = timeout(IDLE, read_line(&mut stream)) => line.ok().and_then(Result::ok),
            };
        }
        let _ = timeout(HEAD, stream.shutdown()).await;
    }

    /// Leads to the task that is wanted; true when the connection is free for the next.
    async fn once(&self, stream: &mut Stream, line: &[u8]) -> bool {
        let led = match self.seat {
            Some(_) => lead(&self.table, line).await,
            None => Err("too many connections"),
        };
        match led {
            Ok((relayed, mut backend)) => {
                say(stream, "ok\n").await.is_ok()
                    && tokio::select! {
                        ended = carry(stream, &mut backend, pending()) => ended == Ended::Whole,
                        () = relayed.endpoint().is_cut() => false,
                    }
            }
            Err(why) => {
                if say(stream, &format!("no: {why}\n")).await.is_ok() {
                    let _ = timeout(HEAD, stream.shutdown()).await;
                }
                false
            }
        }
    }
}

async fn say(stream: &mut Stream, text: &str) -> io::Result<()> {
    let saying = async {
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    };
    timeout(HEAD, saying).await?
}

/// A connection to the task that is wanted, which counts it from now on.
async fn lead(table: &Table, line: &[u8]) -> Result<(InFlight, TcpStream), &'static str> {
    let wanted = Wanted::read(line).ok_or("that is no task and port")?;
    let (endpoint, address) = find(table, &wanted).ok_or("no such task takes requests here")?;
    let relayed = endpoint.enter_relayed().ok_or("the task takes no requests any more")?;
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(backend)) => {
            let _ = backend.set_nodelay(true);
            Ok((relayed, backend))
        }
        Ok(Err(_)) | Err(_) => Err("the task does not accept connections"),
    }
}

/// Only tasks of this very node: nothing is passed on twice.
fn find(table: &Table, wanted: &Wanted) -> Option<(Arc<Endpoint>, SocketAddr)> {
    let takes = |e: &Arc<Endpoint>| e.about.peer.is_none() && e.state() < State::Draining;
    let endpoint = table.of_task(&wanted.task).into_iter().rfind(takes)?;
    let address = endpoint.address(wanted.target_port)?;
    Some((endpoint, address))
}
