//! One task that takes requests.
//!
//! ```text
//! Joining ──accepts a connection──▶ Ready ⇄ Suspect        (`health` and connects tell)
//!    └───────────────┬──────────────┘
//!                 Draining ──▶ Gone
//!
//! Joining   known, not yet tried
//! Suspect   used only when nothing is Ready; tried again and again
//! Draining  no new request; those in flight go on
//! Gone      nothing is in flight, no connection is kept
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::stats::Counters;

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Joining = 0,
    Ready = 1,
    Suspect = 2,
    Draining = 3,
    Gone = 4,
}

impl State {
    fn of(code: u8) -> Self {
        match code {
            0 => Self::Joining,
            1 => Self::Ready,
            2 => Self::Suspect,
            3 => Self::Draining,
            _ => Self::Gone,
        }
    }

    /// Whether an endpoint may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Joining | Self::Suspect, Self::Ready)
                | (Self::Ready, Self::Suspect)
                | (Self::Joining | Self::Ready | Self::Suspect, Self::Draining)
                | (Self::Draining, Self::Gone)
        )
    }
}

/// What is known of an endpoint, as control says it and as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub task: String,
    pub task_name: String,
    pub service: String,
    pub release: String,
    /// Target port → address; of a task of another node, that of the ingress there.
    pub addresses: Vec<(u16, SocketAddr)>,
    /// How long it is on probation once it is ready: until then it gets only requests that may be
    /// sent again if it dies with them, as long as another endpoint can take the others.
    #[serde(default)]
    pub probation_ms: u64,
    /// The id of the node on which it is, when that is another one.
    #[serde(default)]
    pub peer: Option<String>,
    /// The path of an HTTP request whose answer tells whether it is well.
    #[serde(default)]
    pub probe: Option<String>,
}

impl Description {
    /// The same task at the same place, looked at in the same way. What a release of its service
    /// changes beside it does not make another of it.
    pub fn is_still(&self, other: &Self) -> bool {
        let of_it = |d: &Self| Self { release: String::new(), probation_ms: 0, ..d.clone() };
        of_it(self) == of_it(other)
    }
}

/// An endpoint as one ingress process leaves it to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub about: Description,
    pub state: State,
    /// How long ago it became ready.
    pub ready_ms: Option<u64>,
}

/// What was told to end of what an endpoint has in its hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cut {
    times: u32,
    is_for_good: bool,
}

/// An endpoint with its state and counts, shared by all workers.
#[derive(Debug)]
pub struct Endpoint {
    /// No other has it, not even an earlier one of the same task; later ones have larger numbers.
    pub number: u64,
    pub about: Description,
    state: AtomicU8,
    ready_at: OnceLock<Instant>,
    in_flight: AtomicUsize,
    upgraded: AtomicUsize,
    relayed: AtomicUsize,
    /// Told when a count falls to zero.
    pub idle: Notify,
    /// Told when its health is worth a look before its time.
    pub look: Notify,
    /// Control waits to hear that it is ready.
    pub is_awaited: AtomicBool,
    cut: watch::Sender<Cut>,
    pub counters: Counters,
}

impl Endpoint {
    pub fn new(about: Description) -> Arc<Self> {
        Self::standing(Standing { about, state: State::Joining, ready_ms: None })
    }

    /// One that another process knew before.
    pub fn standing(standing: Standing) -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let ready_at = OnceLock::new();
        if let Some(millis) = standing.ready_ms {
            let now = Instant::now();
            let _ = ready_at.set(now.checked_sub(Duration::from_millis(millis)).unwrap_or(now));
        }
        Arc::new(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            about: standing.about,
            state: AtomicU8::new(standing.state as u8),
            ready_at,
            in_flight: AtomicUsize::new(0),
            upgraded: AtomicUsize::new(0),
            relayed: AtomicUsize::new(0),
            idle: Notify::new(),
            look: Notify::new(),
            is_awaited: AtomicBool::new(false),
            cut: watch::Sender::default(),
            counters: Counters::default(),
        })
    }

    pub fn state(&self) -> State {
        State::of(self.state.load(Ordering::SeqCst))
    }

    /// Goes to `next` if that is allowed; false when it is not.
    pub fn become_state(&self, next: State) -> bool {
        if next == State::Ready {
            self.ready_at.get_or_init(Instant::now);
        }
        self.state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |code| {
                State::of(code).may_become(next).then_some(next as u8)
            })
            .is_ok()
    }

    /// It has been ready for its probation.
    pub fn is_proven(&self) -> bool {
        let probation = Duration::from_millis(self.about.probation_ms);
        self.ready_at.get().is_some_and(|at| at.elapsed() >= probation)
    }

    /// As the next process is to know it.
    pub fn stands(&self) -> Standing {
        let since = |at: &Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Standing {
            about: self.about.clone(),
            state: self.state(),
            ready_ms: self.ready_at.get().map(since),
        }
    }

    /// Long-lived connections that are there now end; later ones do not.
    pub fn cut_now(&self) {
        self.cut.send_modify(|cut| cut.times += 1);
    }

    /// All long-lived connections end, those that are still to come as well.
    pub fn cut_for_good(&self) {
        self.cut.send_modify(|cut| cut.is_for_good = true);
    }

    /// Ends when a connection that is there now is to end.
    pub async fn is_cut(&self) {
        let mut cut = self.cut.subscribe();
        let then = *cut.borrow();
        // The sender is this endpoint's own: the wait cannot fail.
        let _ = cut.wait_for(|cut| cut.is_for_good || cut.times != then.times).await;
    }

    pub fn address(&self, target_port: u16) -> Option<SocketAddr> {
        let own = self.about.addresses.iter().find(|(target, _)| *target == target_port);
        own.map(|(_, address)| *address)
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub fn upgraded(&self) -> usize {
        self.upgraded.load(Ordering::SeqCst)
    }

    /// Connections that ingresses of other nodes have to it, busy or not.
    pub fn relayed(&self) -> usize {
        self.relayed.load(Ordering::SeqCst)
    }

    /// Everything that it has in its hands.
    pub fn held(&self) -> usize {
        self.in_flight() + self.upgraded() + self.relayed()
    }

    /// Counts a request in, unless the endpoint takes none any more.
    pub fn enter(self: &Arc<Self>) -> Option<InFlight> {
        self.count_in(Kind::Request)
    }

    /// As [`enter`](Self::enter), for a connection of another node.
    pub fn enter_relayed(self: &Arc<Self>) -> Option<InFlight> {
        self.count_in(Kind::Relayed)
    }

    /// The count comes first and the look at the state second, so a drain that saw zero has seen the
    /// last one.
    fn count_in(self: &Arc<Self>, kind: Kind) -> Option<InFlight> {
        self.count(kind).fetch_add(1, Ordering::SeqCst);
        let guard = InFlight { endpoint: Arc::clone(self), kind };
        (self.state() < State::Draining).then_some(guard)
    }

    fn count(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Request => &self.in_flight,
            Kind::Upgraded => &self.upgraded,
            Kind::Relayed => &self.relayed,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Request,
    Upgraded,
    Relayed,
}

/// Something that the endpoint has in its hands.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    kind: Kind,
}

impl InFlight {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The request became a long-lived connection, which has a deadline of its own.
    pub fn upgrade(mut self) -> Self {
        self.endpoint.count(Kind::Upgraded).fetch_add(1, Ordering::SeqCst);
        self.leave();
        self.kind = Kind::Upgraded;
        self
    }

    fn leave(&self) {
        if self.endpoint.count(self.kind).fetch_sub(1, Ordering::SeqCst) == 1 {
            self.endpoint.idle.notify_waiters();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<Endpoint> {
        Endpoint::new(Description {
            task: "t".into(),
            task_name: "s.1.t".into(),
            service: "s".into(),
            release: String::new(),
            addresses: vec![(80, ([127, 0, 0, 1], 1).into())],
            probation_ms: 0,
            peer: None,
            probe: None,
        })
    }

    #[test]
    fn a_draining_endpoint_takes_no_request_and_never_comes_back() {
        let endpoint = endpoint();
        assert!(endpoint.become_state(State::Ready));
        let request = endpoint.enter();
        assert!(endpoint.become_state(State::Draining));
        assert!(endpoint.enter().is_none());
        assert_eq!(endpoint.in_flight(), 1);
        assert!(!endpoint.become_state(State::Ready));
        drop(request);
        assert_eq!(endpoint.in_flight(), 0);
        assert!(endpoint.become_state(State::Gone));
    }

    #[test]
    fn an_upgraded_connection_is_counted_apart() {
        let endpoint = endpoint();
        endpoint.become_state(State::Ready);
        let socket = endpoint.enter().expect("taken").upgrade();
        assert_eq!((endpoint.in_flight(), endpoint.upgraded()), (0, 1));
        drop(socket);
        assert_eq!((endpoint.in_flight(), endpoint.upgraded()), (0, 0));
    }

    #[test]
    fn a_draining_endpoint_lets_no_other_node_in_and_holds_what_is_there() {
        let endpoint = endpoint();
        let relayed = endpoint.enter_relayed().expect("taken");
        assert_eq!((endpoint.in_flight(), endpoint.relayed(), endpoint.held()), (0, 1, 1));
        assert!(endpoint.become_state(State::Draining));
        assert!(endpoint.enter_relayed().is_none());
        assert_eq!(endpoint.held(), 1);
        drop(relayed);
        assert_eq!(endpoint.held(), 0);
    }

    #[test]
    fn the_next_process_knows_an_endpoint_as_it_was() {
        let mut about = endpoint().about.clone();
        about.probation_ms = 1000;
        let standing = Standing { about, state: State::Ready, ready_ms: Some(900) };
        let endpoint = Endpoint::standing(standing.clone());
        assert_eq!(endpoint.state(), State::Ready);
        assert!(!endpoint.is_proven(), "it has 100 ms to go");
        let proven = Endpoint::standing(Standing { ready_ms: Some(1000), ..standing });
        assert!(proven.is_proven());
        assert!(proven.stands().ready_ms.is_some_and(|millis| millis >= 1000));
    }

    #[test]
    fn what_an_earlier_version_kept_is_understood() {
        let kept = r#"{"task": "t", "task_name": "s.1.t", "service": "s", "release": "",
            "addresses": [[80, "127.0.0.1:1"]], "namespace": null}"#;
        let about: Description = serde_json::from_str(kept).expect("understood");
        assert_eq!(about, endpoint().about);
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_there_and_one_for_good_what_comes_as_well() {
        let endpoint = endpoint();
        let mut early = std::pin::pin!(endpoint.is_cut());
        let is_over = std::future::poll_fn(|context| {
            std::task::Poll::Ready(early.as_mut().poll(context).is_ready())
        });
        assert!(!is_over.await);
        endpoint.cut_now();
        early.await;
        let late = tokio::time::timeout(Duration::ZERO, endpoint.is_cut()).await;
        assert!(late.is_err(), "it came after the cut");
        endpoint.cut_for_good();
        endpoint.is_cut().await;
    }
}
