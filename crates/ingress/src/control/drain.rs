//! An endpoint goes when nothing is in its hands any more: not in this process, and not in the one
//! that this one took over from.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

use super::{Client, Command, Drain, Event, Server};
use crate::{
    endpoint::{Endpoint, State},
    worker,
};

/// What an endpoint gets that control has forgotten, or that is not there any more.
const FORGOTTEN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];
/// What one gets that is still there: its task's own drain ends it.
const UNTIL_DRAINED: u64 = 365 * 24 * 3600 * 1000;
/// How long past its deadlines the process before may take to say that it drained.
const LATE: Duration = Duration::from_secs(3);

impl Drain {
    pub(super) fn forgotten(task: String) -> Self {
        let [requests, upgraded] =
            FORGOTTEN.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Self { task, requests_ms: requests, upgraded_ms: upgraded }
    }
}

impl Server {
    pub(super) fn drain(self: &Arc<Self>, drain: Drain) {
        // At once: a process that takes over now must not think that it takes requests.
        let own = self.table.of_task(&drain.task);
        for endpoint in &own {
            endpoint.become_state(State::Draining);
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let before = server.predecessor();
            let in_this = async {
                let mut cut = 0;
                // Two at most: the deadlines of the older one are over when its turn comes.
                for endpoint in own.iter().rev() {
                    cut += server.drained(endpoint, &drain).await;
                }
                cut
            };
            let in_that = async {
                match before {
                    Some(before) => before.drained(&drain).await,
                    None => 0,
                }
            };
            let (this, that) = tokio::join!(in_this, in_that);
            let _ = server.events.send(Event::Drained { task: drain.task, cut: this + that });
        });
    }

    /// Its task has a newer one: nobody is told when it is gone.
    pub(super) fn replace(self: &Arc<Self>, endpoint: Arc<Endpoint>, by: &Endpoint) {
        let (old, new) = (&endpoint.about, &by.about);
        let is_same_place = old.addresses == new.addresses && old.peer == new.peer;
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let mut drain = Drain::forgotten(endpoint.about.task.clone());
            if is_same_place {
                (drain.requests_ms, drain.upgraded_ms) = (UNTIL_DRAINED, UNTIL_DRAINED);
            }
            server.drained(&endpoint, &drain).await;
        });
    }

    /// Stops sending, waits for what is in flight, closes what is kept. Returns how much was cut.
    async fn drained(&self, endpoint: &Arc<Endpoint>, drain: &Drain) -> usize {
        endpoint.become_state(State::Draining);
        let requests = idle(endpoint, drain.requests(), Endpoint::in_flight);
        let upgraded = idle(endpoint, drain.upgraded(), Endpoint::upgraded);
        // What other nodes have of it may be either.
        let longest = drain.requests().max(drain.upgraded());
        let relayed = idle(endpoint, longest, Endpoint::relayed);
        tokio::join!(requests, upgraded, relayed);
        let cut = endpoint.held();
        endpoint.cut_for_good();
        for worker in &self.workers {
            let (done, flushed) = oneshot::channel();
            let endpoint = endpoint.number;
            if worker.send(worker::Command::Flush { endpoint, done }).await.is_ok() {
                let _ = timeout(Duration::from_secs(1), flushed).await;
            }
        }
        // Told twice, it is drained once.
        if endpoint.become_state(State::Gone) {
            self.table.pool(&endpoint.about.service).keep_counts(endpoint);
            self.table.remove(endpoint);
        }
        cut
    }
}

async fn idle(endpoint: &Endpoint, within: Duration, count: impl Fn(&Endpoint) -> usize) {
    let _ = timeout(within, async {
        while count(endpoint) > 0 {
            let changed = endpoint.idle.notified();
            if count(endpoint) == 0 {
                return;
            }
            // A notice may come between the look and the wait: look again soon.
            let _ = timeout(Duration::from_millis(20), changed).await;
        }
    })
    .await;
}

/// The process that this one took over from, as long as it has something in its hands.
#[derive(Clone, Debug)]
pub(crate) struct Predecessor {
    client: Client,
    drained: broadcast::Sender<(String, usize)>,
    is_gone: watch::Receiver<bool>,
}

impl Predecessor {
    pub(crate) fn new(client: Client, mut events: mpsc::Receiver<Event>) -> Self {
        let (drained, _) = broadcast::channel(256);
        let (gone, is_gone) = watch::channel(false);
        let heard = drained.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Drained { task, cut } = event {
                    let _ = heard.send((task, cut));
                }
            }
            gone.send_replace(true);
        });
        Self { client, drained, is_gone }
    }

    /// Waits until it has nothing of the task any more; how much it cut.
    async fn drained(&self, drain: &Drain) -> usize {
        let mut heard = self.drained.subscribe();
        if self.say(&Command::Drain { drain: drain.clone() }).await.is_err() {
            return 0;
        }
        let answer = async {
            loop {
                match heard.recv().await {
                    Ok((task, cut)) if task == drain.task => return cut,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return 0,
                }
            }
        };
        let within = drain.requests().max(drain.upgraded()) + LATE;
        tokio::select! {
            cut = timeout(within, answer) => cut.unwrap_or(0),
            () = self.ended() => 0,
        }
    }

    pub(crate) async fn say(&self, command: &Command) -> Result<(), super::ClientError> {
        self.client.send(command).await
    }

    pub(crate) async fn ended(&self) {
        let mut is_gone = self.is_gone.clone();
        let _ = is_gone.wait_for(|is_gone| *is_gone).await;
    }
}
