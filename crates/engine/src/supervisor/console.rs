//! Clients attached to a container: they are given its output as it comes, and what they send is its
//! input. They find the supervisor at a socket in the container's folder.
//!
//! What clients send comes in frames `[kind, length as u32 big-endian]`: [`INPUT`], [`END_OF_INPUT`],
//! [`RESIZE`] (rows and columns as u16). What they get are Docker's frames, or the terminal's bytes.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use dockerapi::frame;
use rustix::{
    fs::Mode,
    termios::{Winsize, tcsetwinsize},
};
use serde::{Deserialize, Serialize};

/// How a container talks to whoever is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    pub has_terminal: bool,
    /// Its standard input stays open.
    pub takes_input: bool,
    /// … until the first client that gave it ends.
    pub ends_with_client: bool,
}

pub const INPUT: u8 = 0;
pub const END_OF_INPUT: u8 = 1;
pub const RESIZE: u8 = 2;

/// The socket's name in the container's folder.
pub const SOCKET: &str = "console";
/// How many clients wait for the container to start.
pub const EXPECTED: &str = "expected";

/// How long the clients that wait for the start are waited for.
const EXPECT: Duration = Duration::from_secs(3);
/// Output that may wait for one client; with more of it the container waits as well.
const OUTBOX: usize = 256 << 10;
/// Input that may wait for the container.
const INBOX: usize = 64 << 10;
/// A client that takes nothing for so long is given up.
const STUCK: Duration = Duration::from_secs(30);

/// The clients, and the container's input.
pub(super) struct Clients {
    listener: UnixListener,
    clients: Vec<Client>,
    input: Option<File>,
    /// What the container has not taken yet.
    waiting: Vec<u8>,
    /// Input ends once `waiting` is empty.
    is_over: bool,
    /// The terminal, for its size.
    terminal: Option<OwnedFd>,
    console: Console,
}

struct Client {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Since when it takes nothing.
    stuck: Option<Instant>,
    has_ended: bool,
}

impl Clients {
    /// Listens in the current folder. None where that is not possible: nobody can attach then.
    pub(super) fn listen(folder: &Path, console: Console) -> Option<Self> {
        let _ = std::fs::remove_file(folder.join(SOCKET));
        // A path is short enough for a socket only when it is relative.
        std::env::set_current_dir(folder).ok()?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(SOCKET);
        rustix::process::umask(before);
        let listener = listener.ok()?;
        listener.set_nonblocking(true).ok()?;
        Some(Self {
            listener,
            clients: Vec::new(),
            input: None,
            waiting: Vec::new(),
            is_over: false,
            terminal: None,
            console,
        })
    }

    /// Waits for those who attached before the start, so that they miss nothing.
    pub(super) fn expect(&mut self, folder: &Path) {
        let file = folder.join(EXPECTED);
        let count = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let _ = std::fs::remove_file(file);
        let started = Instant::now();
        while self.clients.len() < count.unwrap_or(0) && started.elapsed() < EXPECT {
            self.accept();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where the container's input goes, and its terminal when it has one.
    pub(super) fn give(&mut self, input: Option<OwnedFd>, terminal: Option<OwnedFd>) {
        self.input = input.and_then(|input| {
            rustix::io::ioctl_fionbio(&input, true).ok()?;
            Some(File::from(input))
        });
        self.terminal = terminal;
    }

    /// The container's output has to wait for a client.
    pub(super) fn is_full(&self) -> bool {
        self.clients.iter().any(|client| client.outbox.len() > OUTBOX)
    }

    /// What to wait for: descriptor, whether to read, whether to write.
    pub(super) fn wants(&self) -> Vec<(BorrowedFd<'_>, bool, bool)> {
        let mut wants = vec![(self.listener.as_fd(), true, false)];
        let reads = self.waiting.len() < INBOX;
        for client in &self.clients {
            wants.push((
                client.stream.as_fd(),
                reads && !client.has_ended,
                !client.outbox.is_empty(),
            ));
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.waiting.is_empty()) {
            wants.push((input.as_fd(), false, true));
        }
        wants
    }

    /// Something of it is ready.
    pub(super) fn turn(&mut self) {
        self.accept();
        self.hear();
        self.feed();
        self.send();
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                let (inbox, outbox) = (Vec::new(), Vec::new());
                self.clients.push(Client { stream, inbox, outbox, stuck: None, has_ended: false });
            }
        }
    }

    /// Reads what clients say.
    fn hear(&mut self) {
        let mut orders = Vec::new();
        for client in &mut self.clients {
            if client.has_ended || self.waiting.len() >= INBOX {
                continue;
            }
            let mut buffer = [0_u8; 8192];
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    client.has_ended = true;
                    orders.push((END_OF_INPUT, Vec::new()));
                }
                Ok(count) => client.inbox.extend(&buffer[..count]),
                Err(error) if is_later(&error) => {}
                Err(_) => client.has_ended = true,
            }
            while let Some(order) = take(&mut client.inbox) {
                orders.push(order);
            }
        }
        // Whoever is gone takes no more output either.
        self.clients.retain(|client| !client.has_ended);
        for (kind, payload) in orders {
            self.obey(kind, payload);
        }
    }

    fn obey(&mut self, kind: u8, payload: Vec<u8>) {
        match (kind, payload.as_slice()) {
            (INPUT, _) if self.input.is_some() => self.waiting.extend(payload),
            (END_OF_INPUT, _) => {
                let ends = self.console.ends_with_client && !self.console.has_terminal;
                self.is_over |= ends;
            }
            (RESIZE, [a, b, c, d]) => {
                let (rows, columns) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                if let Some(terminal) = &self.terminal {
                    let size =
                        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    let _ = tcsetwinsize(terminal, size);
                }
            }
            _ => {}
        }
    }

    /// Writes to the container's input.
    fn feed(&mut self) {
        if let Some(input) = &mut self.input
            && !self.waiting.is_empty()
        {
            match input.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if is_later(&error) => {}
                // It reads no more.
                Err(_) => {
                    self.waiting.clear();
                    self.input = None;
                }
            }
        }
        if self.is_over && self.waiting.is_empty() {
            self.input = None;
        }
    }

    /// Output of the container, for every client.
    pub(super) fn tell(&mut self, is_error: bool, bytes: &[u8]) {
        let stream = if is_error { frame::Stream::Stderr } else { frame::Stream::Stdout };
        let framed = match self.console.has_terminal {
            true => bytes.to_vec(),
            false => frame::encode(stream, bytes),
        };
        for client in &mut self.clients {
            client.outbox.extend(&framed);
        }
        self.send();
    }

    fn send(&mut self) {
        for client in &mut self.clients {
            if client.outbox.is_empty() {
                continue;
            }
            match client.stream.write(&client.outbox) {
                Ok(count) => {
                    client.outbox.drain(..count);
                    client.stuck = None;
                }
                Err(error) if is_later(&error) => {
                    let since = *client.stuck.get_or_insert_with(Instant::now);
                    client.has_ended |= since.elapsed() > STUCK;
                }
                Err(_) => client.has_ended = true,
            }
        }
        self.clients.retain(|client| !client.has_ended);
    }

    /// The container has ended: what is left goes to the clients, within a time.
    pub(super) fn finish(mut self, deadline: Instant) {
        while self.clients.iter().any(|client| !client.outbox.is_empty()) {
            self.send();
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The next whole frame of what a client said.
fn take(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let head: [u8; 5] = inbox.get(..5)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).ok()?;
    let payload = inbox.get(5..5 + length)?.to_vec();
    inbox.drain(..5 + length);
    Some((head[0], payload))
}

/// One frame from a client.
pub fn order(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut order = vec![kind];
    order.extend(length.to_be_bytes());
    order.extend(payload);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_taken_frame_by_frame_however_it_is_cut() {
        let said = [order(INPUT, b"hello"), order(RESIZE, &[0, 24, 0, 80])].concat();
        let (mut inbox, mut orders) = (Vec::new(), Vec::new());
        for byte in said {
            inbox.push(byte);
            orders.extend(take(&mut inbox));
        }
        assert_eq!(orders, [(INPUT, b"hello".to_vec()), (RESIZE, vec![0, 24, 0, 80])]);
        assert!(inbox.is_empty());
    }
}
