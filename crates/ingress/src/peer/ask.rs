//! The side that asks: a connection to a task of another node, as if it were one of this node.
//!
//! Requests want a TCP connection, and get one: to this process itself. A task of the runtime
//! carries its bytes to the other node and back. The connection between the nodes goes on to the
//! next request that wants one there.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use net::{
    TlsFiles,
    tls::{ClientStream, Renewed},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
};

use super::{
    Node, Wanted,
    carry::{Ended, Leave, carry},
    free::{Far, Free, Key},
    notice_silence, read_line,
};

/// An older one is given up after its request: the process at its other end may have been replaced,
/// or may wait for the task to be drained.
pub(super) const OLDEST: Duration = Duration::from_secs(15);

/// Handshakes with one node at a time. More would take the processors from one another until none
/// ends in time.
const HANDSHAKES: usize = 32;

/// The ingresses of other nodes, as this node's reaches them.
#[derive(Debug)]
pub(crate) struct Peers {
    files: Option<Renewed>,
    /// By node: one that hangs keeps nobody from the others.
    handshakes: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    free: Arc<Free>,
}

/// What there is beside a connection that leads to another node. When it is dropped, the other end
/// hears that nobody is here any more.
#[derive(Debug)]
pub(crate) struct Relayed {
    since: Instant,
    leaves: oneshot::Sender<Leave>,
}

impl Relayed {
    pub(crate) fn is_old(&self) -> bool {
        self.since.elapsed() >= OLDEST
    }

    /// All that was wanted has come, and the connection beside it is closed.
    pub(crate) fn done(self) {
        // When it has ended already, nobody wants to know.
        let _ = self.leaves.send(Leave::Done);
    }
}

impl Peers {
    pub(crate) fn new(node: Option<&Node>) -> Self {
        let files = node.map(|node| TlsFiles::of_swarm_node(&node.certificates));
        Self { files: files.map(Renewed::new), handshakes: Mutex::default(), free: Arc::default() }
    }

    fn turns(&self, node: &str) -> Arc<Semaphore> {
        let mut all = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = all.get(node) {
            return Arc::clone(turns);
        }
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        all.insert(node.to_owned(), Arc::clone(&turns));
        turns
    }

    /// A connection to a task of the node with this id, whose ingress listens on `address`.
    pub(crate) async fn connect(
        &self,
        node: &str,
        address: SocketAddr,
        wanted: &Wanted,
    ) -> io::Result<(TcpStream, Relayed)> {
        let key = Key::new(node, address);
        let far = loop {
            let (mut far, is_fresh) = match self.free.take(&key) {
                Some(far) => (far, false),
                None => (self.shake_hands(node, address).await?, true),
            };
            match ask(&mut far.stream, wanted).await {
                Ok(()) => break far,
                Err(error) if is_fresh || error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(error);
                }
                // What waits beside it is no better.
                Err(_) => self.free.forget(&key),
            }
        };
        let since = far.since;
        let (near, ours) = pair().await?;
        let (leaves, left) = oneshot::channel();
        tokio::spawn(lead(far, near, left, Arc::clone(&self.free), key));
        Ok((ours, Relayed { since, leaves }))
    }

    async fn shake_hands(&self, node: &str, address: SocketAddr) -> io::Result<Far> {
        let none = || io::Error::other("this ingress has no certificate of a Swarm's node");
        let files = self.files.as_ref().ok_or_else(none)?;
        let connector = files.connector().map_err(io::Error::other)?;
        let _turn = self.turns(node).acquire_owned().await.map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        notice_silence(&stream)?;
        let stream = connector.connect(node, stream).await?;
        Ok(Far { stream, since: Instant::now() })
    }
}

/// Says what is wanted. Refused: the other node has it not to give.
async fn ask(far: &mut ClientStream, wanted: &Wanted) -> io::Result<()> {
    far.write_all(wanted.line().as_bytes()).await?;
    far.flush().await?;
    let answer = read_line(far).await?;
    if answer == b"ok" {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&answer).into_owned();
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, why))
}

/// Carries everything between the other node and the request's connection.
async fn lead(
    mut far: Far,
    mut near: TcpStream,
    left: oneshot::Receiver<Leave>,
    free: Arc<Free>,
    key: Key,
) {
    let left = async { left.await.unwrap_or(Leave::Gone) };
    match carry(&mut far.stream, &mut near, left).await {
        Ended::Whole => free.put(key, far),
        Ended::Spent => {}
        Ended::Broken => _ = near.set_zero_linger(),
        Ended::Left => _ = far.stream.get_ref().0.set_zero_linger(),
    }
}

/// Both ends of a connection of this process to itself.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let one = TcpStream::connect(listener.local_addr()?).await?;
    let address = one.local_addr()?;
    loop {
        let (other, from) = listener.accept().await?;
        // Anybody of this machine may have come in between.
        if from == address {
            one.set_nodelay(true)?;
            other.set_nodelay(true)?;
            return Ok((one, other));
        }
    }
}
