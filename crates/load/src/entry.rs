//! Where requests come in. Several addresses share them, as those of a name do; one that is left
//! gets nothing more, as from a client or a balancer that noticed that nobody answers there.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::client::Client;
use crate::plan::Target;

/// 2^64 divided by the golden ratio: multiples of it spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The addresses that get nothing more. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Left(Arc<Mutex<BTreeSet<IpAddr>>>);

impl Left {
    /// What is due from now on goes to the others.
    pub fn leave(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
    }

    /// Who gets the request of this number; all share them again when all were left.
    pub fn choose<'a, T>(
        &self,
        all: &'a [T],
        number: u64,
        address: impl Fn(&T) -> IpAddr,
    ) -> Option<&'a T> {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let staying: Vec<&T> = all.iter().filter(|one| !left.contains(&address(one))).collect();
        let staying = if staying.is_empty() { all.iter().collect() } else { staying };
        // Even among them, and not in step with the order in which kinds of requests come.
        let spread = number.wrapping_mul(GOLDEN) >> 32;
        let at = spread.checked_rem(staying.len() as u64)?;
        staying.get(usize::try_from(at).ok()?).copied()
    }
}

/// A client for each address of one service.
pub struct Entries {
    clients: Vec<Client>,
    left: Left,
}

impl Entries {
    /// `most` is how many connections are kept alive to each.
    pub fn new(targets: &[Target], most: usize, left: &Left) -> Entries {
        let clients = targets.iter().map(|target| Client::new(target.clone(), most)).collect();
        Entries { clients, left: left.clone() }
    }

    /// None when there is no address at all.
    pub fn client(&self, number: u64) -> Option<&Client> {
        self.left.choose(&self.clients, number, |client| client.target().address.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_share_requests_evenly_and_one_that_is_left_gets_nothing_more() {
        let all = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let left = Left::default();
        let count = |wanted: &IpAddr, step: usize| {
            let chosen = (0..3000).step_by(step).filter_map(|n| left.choose(&all, n, |a| *a));
            chosen.filter(|address| *address == wanted).count()
        };
        // Every request, and every twentieth: a kind comes back that often.
        assert!(all.iter().all(|address| (950..1050).contains(&count(address, 1))));
        assert!(all.iter().all(|address| (40..60).contains(&count(address, 20))));
        left.clone().leave(all[1]);
        assert_eq!((count(&all[1], 1), count(&all[0], 1) + count(&all[2], 1)), (0, 3000));
        all.iter().for_each(|address| left.leave(*address));
        assert!(count(&all[1], 1) > 0, "somebody is asked all the same");
        assert_eq!(left.choose(&[], 0, |address: &IpAddr| *address), None);
    }
}
