//! How an endpoint is reached: a new connection to it, if need be from another network namespace.
//!
//! A task on another node of a Swarm has an address that means something only on its overlay
//! network. A socket belongs for ever to the namespace it was made in, whoever uses it: so a thread
//! of its own steps into the namespace, makes the socket, and ends.

use std::{fs::File, io, net::SocketAddr, os::fd::AsFd, path::Path, thread, time::Duration};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::endpoint::Endpoint;

/// A node that is there answers a connect at once; one that is gone never does.
const CONNECT: Duration = Duration::from_secs(2);
/// A node that is gone sends no word of its end: a connection that hears nothing for this long,
/// not even acknowledgements, is over.
const SILENCE: Duration = Duration::from_secs(5);

/// A new connection to an address of an endpoint.
pub(crate) async fn connect(endpoint: &Endpoint, address: SocketAddr) -> io::Result<TcpStream> {
    within(endpoint, address, CONNECT).await
}

/// As [`connect`], with another patience.
pub(crate) async fn within(
    endpoint: &Endpoint,
    address: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let connecting = async {
        match &endpoint.about.namespace {
            None => TcpStream::connect(address).await,
            Some(path) => {
                let socket = socket_in(path, address)?;
                TcpSocket::from_std_stream(socket.into()).connect(address).await
            }
        }
    };
    let stream = timeout(patience, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    if endpoint.about.namespace.is_some() {
        notice_silence(&stream)?;
    }
    Ok(stream)
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

fn socket_in(namespace: &Path, address: SocketAddr) -> io::Result<Socket> {
    let namespace = File::open(namespace)?;
    let make = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let thread = thread::Builder::new().stack_size(64 * 1024).spawn(make)?;
    thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}
