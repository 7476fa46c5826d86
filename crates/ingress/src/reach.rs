//! How an endpoint is reached: a new connection to it, or to the ingress of its node.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    endpoint::Endpoint,
    peer::{Peers, Relayed, Wanted},
};

/// A node that is there answers a connect at once; one that is gone never does.
const CONNECT: Duration = Duration::from_secs(2);

/// A connection to an endpoint, wherever that is.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    relayed: Option<Relayed>,
}

impl Connection {
    /// It may wait for another request.
    pub(crate) fn may_be_kept(&self) -> bool {
        self.relayed.as_ref().is_none_or(|relayed| !relayed.is_old())
    }

    /// Everything was said on both sides: what led to another node is free for another request.
    pub(crate) fn done(self) {
        let Self { stream, relayed } = self;
        drop(stream);
        if let Some(relayed) = relayed {
            relayed.done();
        }
    }
}

/// A new connection to a port of an endpoint. When it fails, nothing was sent.
pub(crate) async fn connect(
    peers: &Peers,
    endpoint: &Endpoint,
    target_port: u16,
) -> io::Result<Connection> {
    within(peers, endpoint, target_port, CONNECT).await
}

/// As [`connect`], with another patience.
pub(crate) async fn within(
    peers: &Peers,
    endpoint: &Endpoint,
    target_port: u16,
    patience: Duration,
) -> io::Result<Connection> {
    let address = endpoint.address(target_port).ok_or(io::ErrorKind::NotFound)?;
    let connecting = async {
        match &endpoint.about.peer {
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Connection { stream, relayed: None })
            }
            Some(node) => {
                let wanted = Wanted { task: endpoint.about.task.clone(), target_port };
                let (stream, relayed) = peers.connect(node, address, &wanted).await?;
                Ok(Connection { stream, relayed: Some(relayed) })
            }
        }
    };
    timeout(patience, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
