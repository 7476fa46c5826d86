//! A raw TCP connection: bytes both ways, counted as a long-lived connection of its endpoint.

use std::rc::Rc;

use tokio::{io::copy_bidirectional, net::TcpStream};

use crate::{reach, worker::Worker};

pub(crate) async fn relay(worker: Rc<Worker>, port: u16, mut client: TcpStream) {
    let Some(route) = worker.table.route(port) else { return };
    let pool = worker.table.pool(&route.service);
    let mut tried = Vec::new();
    while let Some(endpoint) = pool.pick(&tried, true) {
        tried.push(endpoint.about.task.clone());
        let Some(in_flight) = endpoint.enter() else { continue };
        let Some(address) = endpoint.address(route.target_port) else { return };
        let Ok(mut backend) = reach::connect(&endpoint, address).await else {
            worker.suspect(&endpoint);
            continue;
        };
        let in_flight = in_flight.upgrade();
        let mut cut = endpoint.cut.subscribe();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut backend) => {}
            () = async { drop(cut.wait_for(|is_cut| *is_cut).await) } => {}
        }
        drop(in_flight);
        return;
    }
}
