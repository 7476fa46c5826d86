//! Listening sockets: a unix socket that replaces a stale one and never a living one, and TCP with
//! a chosen backlog.

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{PermissionsExt, chown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::tls::Peer;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("listen on `{path}`: another process is listening there")]
    InUse { path: PathBuf },
    #[error("listen on `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("listen on {address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
}

/// How a TCP port is opened.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Several sockets may listen on the same port (one per worker).
    pub is_shared: bool,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { is_shared: false, backlog: 1024 }
    }
}

/// Something that gives connections.
pub trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Safe to drop between polls.
    fn accept_one(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Who is on the other side, for the requests that come from there; where it has proven it.
    fn peer(_stream: &Self::Stream) -> Option<Peer> {
        None
    }

    /// The socket of a connection, to see whether its client is still there.
    fn descriptor(stream: &Self::Stream) -> BorrowedFd<'_>;
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept_one(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }

    fn descriptor(stream: &Self::Stream) -> BorrowedFd<'_> {
        stream.as_fd()
    }
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept_one(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        // Answers are small and whole; waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn descriptor(stream: &Self::Stream) -> BorrowedFd<'_> {
        stream.as_fd()
    }
}

/// Listens on `path` with the file mode `mode`. A socket file that nobody listens on is replaced.
pub fn unix_listener(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    unix_listener_of(path, mode, None)
}

/// As [`unix_listener`], with the socket in the hands of a group as well.
pub(crate) fn unix_listener_of(
    path: &Path,
    mode: u32,
    group: Option<u32>,
) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse { path: path.to_owned() });
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Bound under another name first: nobody can connect before the mode is set.
    let beside = UnixBeside::new(path, mode)?;
    chown(&beside.hidden, None, group).map_err(failed)?;
    beside.take_place()
}

/// A unix socket that listens under a name beside its own, to take its place in one step: whoever
/// listens there is reached until then, and nobody is refused.
#[derive(Debug)]
pub struct UnixBeside {
    listener: UnixListener,
    path: PathBuf,
    hidden: PathBuf,
}

impl UnixBeside {
    pub fn new(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io { path: path.to_owned(), source };
        let hidden = hidden_name(path);
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(mode)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), hidden })
    }

    pub fn take_place(self) -> Result<UnixListener, ListenError> {
        let Self { listener, path, hidden } = self;
        match fs::rename(&hidden, &path) {
            Ok(()) => Ok(listener),
            Err(source) => Err(ListenError::Io { path, source }),
        }
    }
}

/// Short, because the path of a unix socket is limited to 107 bytes.
fn hidden_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("~");
    path.with_file_name(name)
}

/// Listens on `address`.
pub fn tcp_listener(address: SocketAddr, options: TcpOptions) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(options.is_shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(options.backlog)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| ListenError::Tcp { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_takes_the_place_of_another_refuses_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        let old = unix_listener(&path, 0o600).expect("listens");
        let beside = UnixBeside::new(&path, 0o600).expect("listens");
        let early = tokio::net::UnixStream::connect(&path).await;
        let new = beside.take_place().expect("takes the place");
        let late = tokio::net::UnixStream::connect(&path).await;
        assert!(early.is_ok() && late.is_ok());
        old.accept().await.expect("the early one");
        new.accept().await.expect("the late one");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        drop(unix_listener(&path, 0o600).expect("listens"));
        let living = unix_listener(&path, 0o600).expect("replaces the stale one");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let refused = unix_listener(&path, 0o600).expect_err("somebody listens");
        assert!(matches!(refused, ListenError::InUse { .. }));
        drop(living);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = tcp_listener(any, TcpOptions::default()).expect("a free port");
        let address = first.local_addr().expect("bound");
        let refused = tcp_listener(address, TcpOptions::default()).expect_err("in use");
        assert!(refused.to_string().contains(&address.to_string()));
    }

    #[tokio::test]
    async fn workers_share_a_port() {
        let shared = TcpOptions { is_shared: true, ..TcpOptions::default() };
        let first = tcp_listener(SocketAddr::from(([127, 0, 0, 1], 0)), shared).expect("a port");
        let address = first.local_addr().expect("bound");
        assert!(tcp_listener(address, shared).is_ok());
    }
}
