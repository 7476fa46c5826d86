//! The server's side: a TCP port on which only clients of our authority get through.
//!
//! ```text
//! accept ─▶ handshake (one of a bounded number, with a deadline) ─▶ ready queue ─▶ accept_one
//! ```
//!
//! The files are looked at before each handshake: new ones are taken as they appear, connections
//! made with the old ones go on.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Peer, TlsError, TlsFiles, latest::Latest, provider};
use crate::listen::Accept;

/// Handshakes at a time; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// How long a handshake may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections that are ready and not yet taken.
const READY: usize = 16;

/// Gives connections whose client has proven who it is.
#[derive(Debug)]
pub struct TlsListener {
    ready: Mutex<mpsc::Receiver<TlsStream<TcpStream>>>,
    address: SocketAddr,
    closes: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    /// Reads the files once, so that what is wrong with them is known at the start.
    pub fn new(listener: TcpListener, files: TlsFiles) -> Result<Self, TlsError> {
        let mut identity = Latest::new(files, config);
        identity.current()?;
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = listener.local_addr().unwrap_or(unknown);
        let (sender, ready) = mpsc::channel(READY);
        let closes = Arc::new(Notify::new());
        let accepting = tokio::spawn(accept(listener, identity, sender, Arc::clone(&closes)));
        Ok(Self { ready: Mutex::new(ready), address, closes, accepting })
    }

    /// Lets nobody in any more; who is at the handshake still comes, then `accept_one` fails.
    pub fn close(&self) {
        self.closes.notify_one();
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Accept for TlsListener {
    type Stream = TlsStream<TcpStream>;

    async fn accept_one(&self) -> io::Result<Self::Stream> {
        let next = self.ready.lock().await.recv().await;
        next.ok_or_else(|| io::Error::other("the listener ended"))
    }

    fn peer(stream: &Self::Stream) -> Option<Peer> {
        let certificates = stream.get_ref().1.peer_certificates()?;
        Some(Peer(certificates.first()?.clone().into_owned()))
    }

    fn descriptor(stream: &Self::Stream) -> BorrowedFd<'_> {
        stream.get_ref().0.as_fd()
    }
}

async fn accept(
    listener: TcpListener,
    mut identity: Latest<ServerConfig>,
    ready: mpsc::Sender<TlsStream<TcpStream>>,
    closes: Arc<Notify>,
) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    let complaints = Arc::new(Complaints::default());
    // Dropped with this task: no handshake outlives its listener.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            () = closes.notified() => break,
        };
        let config = identity.current().map_err(io::Error::other);
        match accepted.and_then(|(stream, slot)| Ok((stream, slot, config?))) {
            Ok((stream, slot, config)) => {
                let acceptor = TlsAcceptor::from(config);
                let complaints = Arc::clone(&complaints);
                handshakes.spawn(shake(acceptor, stream, slot, ready.clone(), complaints));
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while handshakes.join_next().await.is_some() {}
}

/// The next connection, once it may begin its handshake.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept_one().await?, slot))
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    ready: mpsc::Sender<TlsStream<TcpStream>>,
    complaints: Arc<Complaints>,
) {
    let peer = stream.peer_addr();
    match timeout(DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            // Whoever waits for a place in the queue is no pending handshake any more.
            drop(slot);
            let _ = ready.send(stream).await;
        }
        Ok(Err(error)) => complaints.say(peer, &error.to_string()),
        Err(_) => complaints.say(peer, "it was too slow with its handshake"),
    }
}

/// Who was turned away: one line a second, so that nobody fills the log from outside.
#[derive(Debug, Default)]
struct Complaints(std::sync::Mutex<(Option<Instant>, u64)>);

impl Complaints {
    fn say(&self, peer: io::Result<SocketAddr>, why: &str) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (last, unsaid) = &mut *known;
        if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            *unsaid += 1;
            return;
        }
        let peer = peer.map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
        tracing::warn!(peer, why, unsaid, "a TLS client was turned away");
        (*last, *unsaid) = (Some(Instant::now()), 0);
    }
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let (certificates, key) = files.identity()?;
    let roots = Arc::new(files.authorities()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().map_err(
        |error| TlsError::Authority { path: files.ca.clone(), reason: error.to_string() },
    )?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| files.unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| files.unusable(&error))?;
    // The API is HTTP/1.1: exec takes connections over.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
