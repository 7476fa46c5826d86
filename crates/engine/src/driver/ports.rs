//! Loopback ports for tasks: none is given to two of them.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Below the range that outgoing connections take theirs from.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeSet<u16>>);

impl Ports {
    /// A port for each target port (one when there is none) that is free now and that no other
    /// task was given.
    pub(super) fn choose(&self, targets: &[u16]) -> Option<Vec<(u16, u16)>> {
        let mut seed = [0_u8; 2];
        getrandom::fill(&mut seed).ok()?;
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let span = RANGE.end - RANGE.start;
        let first = u16::from_le_bytes(seed) % span;
        let mut free = (0..span).map(|step| RANGE.start + (first + step) % span).filter(|port| {
            !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        });
        let mut wanted: Vec<u16> = Vec::new();
        for target in targets {
            if !wanted.contains(target) {
                wanted.push(*target);
            }
        }
        if wanted.is_empty() {
            wanted.push(0);
        }
        let ports: Option<Vec<(u16, u16)>> =
            wanted.into_iter().map(|target| Some((target, free.next()?))).collect();
        drop(free);
        taken.extend(ports.iter().flatten().map(|(_, port)| *port));
        ports
    }

    /// These are in use by a task of an earlier life.
    pub(super) fn take(&self, ports: &[(u16, u16)]) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.extend(ports.iter().map(|(_, port)| *port));
    }

    pub(super) fn give_back(&self, ports: &[(u16, u16)]) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, port) in ports {
            taken.remove(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_a_target_has_one_port() {
        let ports = Ports::default();
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let chosen = ports.choose(&[80, 443, 80]).expect("free ports");
            assert_eq!(chosen.iter().map(|(target, _)| *target).collect::<Vec<_>>(), [80, 443]);
            assert!(chosen.into_iter().all(|(_, port)| seen.insert(port)));
        }
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_given() {
        let ports = Ports::default();
        let (_, port) = ports.choose(&[]).expect("a free port")[0];
        ports.give_back(&[(0, port)]);
        let _listening = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listens");
        let all: Vec<u16> = (0..12_000).collect();
        // More targets than free ports: every port is looked at, and that one refused.
        assert_eq!(ports.choose(&all), None);
    }
}
