//! The published ports of a container: those asked for, or free ones of the machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dockerapi::ApiError;

use super::{Api, container::Container, images::blocking};
use crate::container::{Port, asked::Wish};

/// How long the ingress may take to close a port that another container had.
const CLOSING: Duration = Duration::from_millis(500);

impl Api {
    /// The ports of a start: those asked for, or free ones. Another process that has one is named.
    pub(super) async fn choose_ports(
        &self,
        container: &Container,
        wishes: Vec<Wish>,
    ) -> Result<Vec<Port>, ApiError> {
        let mut ports: Vec<Port> = Vec::new();
        for wish in wishes {
            let id = container.id.clone();
            let range = wish.published;
            let held = self.control.read(move |state| {
                let all = (range.0..=range.1).filter(|port| *port > 0);
                let held = all.filter_map(|p| Some((p, state.port_holder(p, Some(&id))?)));
                held.collect::<Vec<_>>()
            });
            let held = held.await?;
            if let Some((_, holder)) = held.first().filter(|_| range.0 == range.1) {
                let port = Port { target: 0, published: range.0, host: wish.host };
                return Err(taken(&container.name, &port, &format!("by {holder}")));
            }
            let held: Vec<u16> = held.into_iter().map(|(port, _)| port).collect();
            let taken_here: Vec<u16> = ports.iter().map(|port| port.published).collect();
            let host = wish.host;
            let chosen = blocking(move || choose(host, range, &held, &taken_here)).await?;
            let published = chosen.map_err(|error| {
                let port = Port { target: 0, published: range.0, host };
                taken(&container.name, &port, &error.to_string())
            })?;
            ports.push(Port { target: wish.target, published, host: wish.host });
        }
        Ok(ports)
    }
}

/// A port of the range that can be listened on; zero is any.
fn choose(host: Option<IpAddr>, range: (u16, u16), held: &[u16], taken: &[u16]) -> io::Result<u16> {
    if range.0 == range.1 {
        return free(host, range.0, CLOSING);
    }
    let mut all = range.0..=range.1;
    let found = all.find_map(|port| {
        let is_free = !held.contains(&port) && !taken.contains(&port);
        is_free.then(|| free(host, port, Duration::ZERO).ok()).flatten()
    });
    found.ok_or_else(|| io::Error::other("all ports of the range are allocated"))
}

/// The port, when it can be listened on within a time: the ingress may be about to close it.
fn free(host: Option<IpAddr>, port: u16, patience: Duration) -> io::Result<u16> {
    let host = host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let started = std::time::Instant::now();
    loop {
        match std::net::TcpListener::bind((host, port)) {
            Ok(listener) => return listener.local_addr().map(|address| address.port()),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < patience =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Docker's words.
pub(super) fn taken(name: &str, port: &Port, why: &str) -> ApiError {
    let host = port.host.map_or_else(|| "0.0.0.0".to_owned(), |host| host.to_string());
    ApiError::internal(format!(
        "driver failed programming external connectivity on endpoint {name}: Bind for \
         {host}:{} failed: port is already allocated ({why})",
        port.published
    ))
}
