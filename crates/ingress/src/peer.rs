//! From node to node of a Swarm: an ingress reaches a task of another node through the ingress
//! there.
//!
//! ```text
//! the ingress that asks                         the ingress of the task's node
//!    mutual TLS, with the certificates that Swarm gives its nodes ──▶
//!    TASK_ID TARGET_PORT ──────────────────────▶  finds the task among its own, connects to it
//!    ◀──────────────────────────────────── ok      (or `no` and the reason)
//!    bytes ◀─────────────────────────────────────▶ bytes
//!    both have ended: the next TASK_ID TARGET_PORT, or the end
//! ```
//!
//! What one side ends the other ends too, for one direction at a time. An end without that word is a
//! break, and reaches whoever reads as a reset: half an answer never looks like a whole one. Until
//! `ok` nothing of a request was sent, so another endpoint may be tried. On the task's node what is
//! carried is one of the things that a drain waits for.
//!
//! Reading order: this (what is said), `ask` (the side that asks), `serve` (the other), `carry`
//! (bytes both ways), `free` (connections between two requests).

mod ask;
mod carry;
mod free;
mod serve;

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

pub(crate) use ask::{Peers, Relayed};
pub(crate) use serve::Gate;

/// The longest line that either side says.
const LINE: usize = 128;
/// A node that is gone sends no word of its end: a connection that hears nothing for this long,
/// not even acknowledgements, is over.
const SILENCE: Duration = Duration::from_secs(5);

/// This machine as a node among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where the ingresses of other nodes come in.
    pub address: SocketAddr,
    /// The folder in which Docker keeps the node's certificates.
    pub certificates: PathBuf,
}

/// What one ingress asks of another: a connection to a port of a task there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) task: String,
    pub(crate) target_port: u16,
}

impl Wanted {
    fn line(&self) -> String {
        format!("{} {}\n", self.task, self.target_port)
    }

    /// From a line without its end.
    fn read(line: &[u8]) -> Option<Self> {
        let (task, port) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        let is_id = !task.is_empty() && task.bytes().all(|byte| byte.is_ascii_graphic());
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let target_port = port.parse().ok().filter(|_| is_id && is_port)?;
        Some(Self { task: task.to_owned(), target_port })
    }
}

/// A line without its end. Not a byte after it is taken: that is the task's already.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            _ if line.len() == LINE => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}

/// Another machine may vanish without a word; a process of this one cannot.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(2))
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_asked_is_understood(task in "[a-z0-9]{1,64}", target_port: u16) {
            let wanted = Wanted { task, target_port };
            let line = wanted.line();
            prop_assert_eq!(Wanted::read(line.trim_end().as_bytes()), Some(wanted));
        }

        #[test]
        fn whatever_comes_is_understood_as_it_would_be_said_or_not_at_all(line: Vec<u8>) {
            if let Some(wanted) = Wanted::read(&line) {
                prop_assert!(!wanted.task.contains([' ', '\n']));
                let said = wanted.line();
                prop_assert_eq!(Wanted::read(said.trim_end().as_bytes()), Some(wanted));
            }
        }
    }

    #[test]
    fn what_is_no_task_and_port_is_refused() {
        for line in ["", " ", "t", "t ", " 80", "t 80 x", "t 65536", "t -1", "t +80", "t\t80"] {
            assert_eq!(Wanted::read(line.as_bytes()), None, "{line:?}");
        }
    }

    #[tokio::test]
    async fn a_line_ends_where_it_ends_and_is_never_long() {
        let mut stream = &b"ok\n220 hello"[..];
        assert_eq!(read_line(&mut stream).await.expect("a line"), b"ok");
        assert_eq!(stream, b"220 hello");
        let long = [b'x'; LINE + 1];
        let error = read_line(&mut &long[..]).await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = read_line(&mut &b"half"[..]).await.expect_err("no line");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
