//! A raw TCP connection: bytes both ways, counted as a long-lived connection of its endpoint.

use std::rc::Rc;

use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use crate::{
    preface::proxy_v2,
    reach,
    table::{Protocol, Route},
    worker::Worker,
};

pub(crate) async fn relay(worker: Rc<Worker>, route: &Route, mut client: TcpStream) {
    let pool = worker.table.pool(&route.service);
    let preface = match route.protocol {
        Protocol::Http | Protocol::Tcp => Vec::new(),
        Protocol::TcpProxy => match (client.peer_addr(), client.local_addr()) {
            (Ok(peer), Ok(ours)) => proxy_v2(peer, ours),
            // It has gone already.
            _ => return,
        },
    };
    let mut tried = Vec::new();
    while let Some(endpoint) = pool.pick(&tried, true) {
        tried.push(endpoint.number);
        let Some(in_flight) = endpoint.enter() else { continue };
        let Ok(mut backend) = reach::connect(&worker.peers, &endpoint, route.target_port).await
        else {
            worker.suspect(&endpoint);
            continue;
        };
        let in_flight = in_flight.upgrade();
        let both = async {
            backend.stream.write_all(&preface).await?;
            copy_bidirectional(&mut client, &mut backend.stream).await
        };
        tokio::select! {
            both = both => {
                if both.is_err() {
                    // What broke off must not look like the end.
                    let _ = client.set_zero_linger();
                }
            }
            () = endpoint.is_cut() => {}
        }
        drop(in_flight);
        return;
    }
}
