//! One process goes on in place of another: it gets the listening sockets themselves, so that not
//! even a connection that waits to be accepted is lost.
//!
//! ```text
//! the next one                                   the one that runs
//!    HandOver ──────────────────────────────────▶  changes nothing from here on
//!    ◀───────────────────────── sockets, Handed
//!    (accepts connections beside it)
//!    TakenOver ─────────────────────────────────▶  accepts none any more
//!    ◀────────────────────────────────── Leaving
//!    (control's socket is its own now)
//!    Here ──────────────────────────────────────▶  closes control's connections
//!    Drain … ◀────────────────────────── Drained
//!                                                  ends when nothing is open any more
//! ```
//!
//! Before `TakenOver` any failure leaves the one that runs as it was. The connection stays: what an
//! endpoint still has in the hands of the one before is drained over it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::control::{Client, Command, Event, Handed, LINE_LIMIT, Predecessor};

/// How long the one that runs may take for an answer.
const ANSWER: Duration = Duration::from_secs(8);
/// Sockets that go with one byte; the kernel takes up to 253.
const AT_ONCE: usize = 100;

/// Why a process did not take over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    #[error("no ingress listens on `{path}`: {source}")]
    Nobody { path: PathBuf, source: io::Error },
    #[error("the running ingress does not hand over its sockets (is it an older version?)")]
    NoAnswer,
    #[error("the running ingress went on by itself")]
    Refused,
    #[error("of {told} sockets {came} came")]
    Incomplete { told: usize, came: usize },
    #[error("take over from the running ingress: {0}")]
    Io(#[from] io::Error),
}

/// Sends the sockets, each some beside an empty line.
pub(crate) async fn send(stream: &UnixStream, sockets: &[Arc<TcpListener>]) -> io::Result<()> {
    for some in sockets.chunks(AT_ONCE) {
        loop {
            stream.writable().await?;
            match stream.try_io(Interest::WRITABLE, || send_some(stream, some)) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn send_some(stream: &UnixStream, sockets: &[Arc<TcpListener>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stream, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What the one that runs has given.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) handed: Handed,
    pub(crate) sockets: Vec<TcpListener>,
    link: Link,
}

/// The connection to it.
#[derive(Debug)]
struct Link {
    stream: UnixStream,
    /// What came and was not looked at.
    read: Vec<u8>,
    sockets: Vec<TcpListener>,
}

/// Asks the process that listens on `socket` for what it has.
pub(crate) async fn ask(socket: &Path) -> Result<Inheritance, HandoverError> {
    let connected = UnixStream::connect(socket).await;
    let stream =
        connected.map_err(|source| HandoverError::Nobody { path: socket.to_owned(), source })?;
    let mut link = Link { stream, read: Vec::new(), sockets: Vec::new() };
    link.say(&Command::HandOver { version: env!("CARGO_PKG_VERSION").to_owned() }).await?;
    let answer = link.await_event(|event| match event {
        Event::Handed { handed } => Some(handed),
        _ => None,
    });
    let handed = answer.await?;
    let sockets = std::mem::take(&mut link.sockets);
    if sockets.len() != handed.sockets {
        return Err(HandoverError::Incomplete { told: handed.sockets, came: sockets.len() });
    }
    Ok(Inheritance { handed, sockets, link })
}

impl Inheritance {
    /// Says that this process serves. After this, the other one admits nobody more.
    pub(crate) async fn serves(mut self, within: Duration) -> Result<Predecessor, HandoverError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let refused = |_| HandoverError::Refused;
        self.link.say(&Command::TakenOver { within_ms }).await.map_err(refused)?;
        let answer = self.link.await_event(|event| matches!(event, Event::Leaving).then_some(()));
        answer.await.map_err(refused)?;
        let (client, events) = Client::over(self.link.stream, self.link.read);
        Ok(Predecessor::new(client, events))
    }
}

impl Link {
    async fn say(&mut self, command: &Command) -> Result<(), HandoverError> {
        let mut line = serde_json::to_vec(command).map_err(io::Error::other)?;
        line.push(b'\n');
        let written = timeout(ANSWER, self.stream.write_all(&line)).await;
        Ok(written.map_err(|_| HandoverError::NoAnswer)??)
    }

    /// The first event that is wanted; others are not for this process yet.
    async fn await_event<T>(
        &mut self,
        wanted: impl Fn(Event) -> Option<T>,
    ) -> Result<T, HandoverError> {
        let waiting = async {
            loop {
                while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.read.drain(..=end).collect();
                    // Empty lines came with sockets.
                    if let Ok(event) = serde_json::from_slice(&line)
                        && let Some(found) = wanted(event)
                    {
                        return Ok(found);
                    }
                }
                self.receive().await?;
            }
        };
        timeout(ANSWER, waiting).await.map_err(|_| HandoverError::NoAnswer)?
    }

    async fn receive(&mut self) -> io::Result<()> {
        loop {
            self.stream.readable().await?;
            let Self { stream, read, sockets } = self;
            match stream.try_io(Interest::READABLE, || receive_some(stream, read, sockets)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if u64::try_from(self.read.len()).unwrap_or(u64::MAX) > LINE_LIMIT => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                received => return received.map(|_| ()),
            }
        }
    }
}

fn receive_some(
    stream: &UnixStream,
    read: &mut Vec<u8>,
    sockets: &mut Vec<TcpListener>,
) -> io::Result<usize> {
    let mut bytes = [0; 16 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors.map(TcpListener::from));
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        // More than this process may have open.
        return Err(io::Error::other("sockets were lost on their way: raise the limit of files"));
    }
    read.extend_from_slice(&bytes[..got.bytes]);
    Ok(got.bytes)
}
