//! Which endpoints are well: each is looked at about once a second, by a connect and, where there is
//! a probe, by an HTTP request now and then.
//!
//! ```text
//!           accepts (and its probe is answered)
//! Joining ────────────────▶ Ready ──refuses, or is silent, or two bad answers──▶ Suspect
//!                             ▲────────────────────accepts───────────────────────┘
//!                                                            silent for 5 s: what it has is cut
//! ```
//!
//! Silence is what a node leaves that vanished: no word, no reset. A process of this node that ends
//! is noticed by its requests at once; the looks are for those that nobody asks anything.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    endpoint::{Endpoint, State},
    peer::Peers,
    reach,
};

/// Between two looks at an endpoint that is well, give or take a tenth.
const EVERY: Duration = Duration::from_secs(1);
/// One that is not yet, or not any more, is looked at sooner: first after this, then more slowly.
const FIRST: Duration = Duration::from_millis(2);
const SLOWEST: Duration = Duration::from_millis(250);
/// After a connect of a request has failed, others have their turn for this long.
const OTHERS_FIRST: Duration = Duration::from_millis(20);
/// How long a connection may take to be accepted.
const ACCEPT: Duration = Duration::from_secs(1);
/// How long the answer to a probe may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Looks at an endpoint that is well, to one probe.
const PROBE_EACH: u32 = 3;
/// Bad answers in a row that make an endpoint suspect.
const BAD_ANSWERS: u32 = 2;
/// An endpoint that is silent for this long does not come back to what it has in its hands.
const LOST: Duration = Duration::from_secs(5);
/// What is read of a probe's answer, at most.
const ANSWER_BYTES: u64 = 64 * 1024;

/// What one look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It accepts connections, and its probe (if it was due) was answered well.
    Well,
    Refuses,
    /// No word at all.
    Silent,
    /// It accepts connections, and answers the probe badly or not at all.
    Unwell,
    /// The look failed for a reason of our own.
    Unclear,
}

/// What that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ready,
    Suspect,
    /// Suspect, and what it has in its hands is lost.
    Lost,
    AsItWas,
}

/// What earlier looks showed.
#[derive(Debug, Default)]
struct Health {
    silent_since: Option<Instant>,
    bad_answers: u32,
    looks: u32,
}

impl Health {
    /// The next look asks the probe as well.
    fn is_probe_due(&self, state: State) -> bool {
        state != State::Ready || self.bad_answers > 0 || self.looks.is_multiple_of(PROBE_EACH)
    }

    /// `began` is when the look began.
    fn hears(&mut self, seen: Seen, began: Instant, now: Instant) -> Verdict {
        self.looks = self.looks.wrapping_add(1);
        if seen != Seen::Silent && seen != Seen::Unclear {
            self.silent_since = None;
        }
        match seen {
            Seen::Well => {
                self.bad_answers = 0;
                Verdict::Ready
            }
            Seen::Refuses => Verdict::Suspect,
            Seen::Silent => {
                let since = *self.silent_since.get_or_insert(began);
                if now.duration_since(since) >= LOST { Verdict::Lost } else { Verdict::Suspect }
            }
            Seen::Unwell => {
                self.bad_answers += 1;
                if self.bad_answers >= BAD_ANSWERS { Verdict::Suspect } else { Verdict::AsItWas }
            }
            Seen::Unclear => Verdict::AsItWas,
        }
    }
}

/// Who wants to know how endpoints are.
pub(crate) trait Listener: Send + Sync + 'static {
    fn became_ready(self: &Arc<Self>, endpoint: &Arc<Endpoint>);
    /// Nothing will come of what it has in its hands.
    fn is_lost(&self, endpoint: &Arc<Endpoint>) -> impl Future<Output = ()> + Send;
}

/// Looks at an endpoint until it is drained.
pub(crate) async fn watch(
    endpoint: Arc<Endpoint>,
    peers: Arc<Peers>,
    listener: Arc<impl Listener>,
) {
    let mut health = Health::default();
    let mut pause = FIRST;
    loop {
        let state = endpoint.state();
        if state >= State::Draining {
            return;
        }
        let began = Instant::now();
        let seen = look(&endpoint, &peers, health.is_probe_due(state)).await;
        match health.hears(seen, began, Instant::now()) {
            Verdict::Ready => {
                if endpoint.become_state(State::Ready) {
                    say(&endpoint, state, seen);
                    listener.became_ready(&endpoint);
                }
            }
            Verdict::Suspect => suspect(&endpoint, seen),
            Verdict::Lost => {
                suspect(&endpoint, seen);
                listener.is_lost(&endpoint).await;
            }
            Verdict::AsItWas => {}
        }
        let wait = match endpoint.state() {
            State::Ready => {
                pause = FIRST;
                give_or_take(EVERY)
            }
            State::Joining | State::Suspect => {
                pause = (pause * 3 / 2).min(SLOWEST);
                pause
            }
            State::Draining | State::Gone => return,
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = endpoint.look.notified() => sleep(OTHERS_FIRST).await,
        }
    }
}

fn suspect(endpoint: &Endpoint, seen: Seen) {
    if endpoint.become_state(State::Suspect) {
        say(endpoint, State::Ready, seen);
    }
}

fn say(endpoint: &Endpoint, was: State, seen: Seen) {
    let task = &endpoint.about.task_name;
    match endpoint.state() {
        State::Suspect => tracing::warn!(task, ?seen, "requests go to others first"),
        State::Ready if was == State::Suspect => tracing::info!(task, "takes requests again"),
        State::Joining | State::Ready | State::Draining | State::Gone => {}
    }
}

/// A wait that is not the same for all endpoints.
fn give_or_take(wait: Duration) -> Duration {
    let chance = getrandom::u32().unwrap_or(0) % 201;
    wait * (900 + chance) / 1000
}

async fn look(endpoint: &Endpoint, peers: &Peers, is_probe_due: bool) -> Seen {
    let mut first = None;
    for (target, address) in &endpoint.about.addresses {
        match reach::within(peers, endpoint, *target, ACCEPT).await {
            Ok(connection) => {
                // The port of another node's ingress is none of the task's.
                let port = if endpoint.about.peer.is_some() { *target } else { address.port() };
                first.get_or_insert((connection, SocketAddr::new(address.ip(), port)));
            }
            Err(error) => {
                tracing::debug!(task = endpoint.about.task_name, %error, "not reached");
                return heard(&error);
            }
        }
    }
    let Some((mut connection, address)) = first else { return Seen::Refuses };
    let stream = &mut connection.stream;
    match &endpoint.about.probe {
        Some(path) if is_probe_due => match timeout(ANSWER, ask(stream, address, path)).await {
            Ok(Ok(true)) => Seen::Well,
            Ok(Ok(false) | Err(_)) | Err(_) => Seen::Unwell,
        },
        Some(_) | None => Seen::Well,
    }
}

/// What a failed connect says.
fn heard(error: &io::Error) -> Seen {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, TimedOut};
    use rustix::io::Errno;
    let is_ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN]
        .iter()
        .any(|own| error.raw_os_error() == Some(own.raw_os_error()));
    match error.kind() {
        _ if is_ours => Seen::Unclear,
        AddrNotAvailable => Seen::Unclear,
        // A node whose hardware address is not known any more is as silent as one that is.
        TimedOut | HostUnreachable | NetworkUnreachable => Seen::Silent,
        _ => Seen::Refuses,
    }
}

/// Whether a GET is answered with 2xx or 3xx.
async fn ask(stream: &mut TcpStream, address: SocketAddr, path: &str) -> io::Result<bool> {
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: evenkeel\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    // Read on, so that the endpoint need not see a reset.
    let mut rest = stream.take(ANSWER_BYTES);
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    Ok(is_good(&start))
}

/// `HTTP/1.1 204`
fn is_good(start: &[u8; 12]) -> bool {
    start.starts_with(b"HTTP/1.")
        && start[8] == b' '
        && matches!(start[9], b'2' | b'3')
        && start[10..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(seen: &[(u64, Seen)]) -> Vec<Verdict> {
        let start = Instant::now();
        let mut health = Health::default();
        let verdict = |&(second, seen): &(u64, Seen)| {
            let at = start + Duration::from_secs(second);
            health.hears(seen, at, at)
        };
        seen.iter().map(verdict).collect()
    }

    #[test]
    fn one_bad_answer_is_forgiven_and_two_in_a_row_are_not() {
        use {Seen::*, Verdict::*};
        let seen = [(0, Unwell), (1, Well), (2, Unwell), (3, Unwell), (4, Well)];
        assert_eq!(verdicts(&seen), [AsItWas, Ready, AsItWas, Suspect, Ready]);
    }

    #[test]
    fn who_is_silent_for_five_seconds_is_lost_and_a_word_between_starts_anew() {
        use {Seen::*, Verdict::*};
        let seen = [(0, Silent), (4, Silent), (4, Refuses), (5, Silent), (9, Silent), (10, Silent)];
        let expected = [Suspect, Suspect, Suspect, Suspect, Suspect, Lost];
        assert_eq!(verdicts(&seen).len(), 6);
        assert_eq!(verdicts(&seen), expected);
    }

    #[test]
    fn a_lack_of_our_own_says_nothing_of_the_endpoint() {
        use {Seen::*, Verdict::*};
        let seen = [(0, Silent), (3, Unclear), (5, Silent)];
        assert_eq!(verdicts(&seen), [Suspect, AsItWas, Lost]);
        assert_eq!(heard(&io::Error::from(rustix::io::Errno::MFILE)), Unclear);
        assert_eq!(heard(&io::Error::from(rustix::io::Errno::HOSTUNREACH)), Silent);
        assert_eq!(heard(&io::Error::from(rustix::io::Errno::CONNREFUSED)), Refuses);
        assert_eq!(heard(&io::ErrorKind::TimedOut.into()), Silent);
    }

    #[test]
    fn a_probe_is_asked_until_it_is_well_and_then_now_and_then() {
        let mut health = Health::default();
        let now = Instant::now();
        let mut due = Vec::new();
        for _ in 0..7 {
            due.push(health.is_probe_due(State::Ready));
            health.hears(Seen::Well, now, now);
        }
        assert_eq!(due, [true, false, false, true, false, false, true]);
        assert!(health.is_probe_due(State::Joining) && health.is_probe_due(State::Suspect));
        health.hears(Seen::Unwell, now, now);
        assert!(health.is_probe_due(State::Ready), "a bad answer is looked into");
    }

    #[test]
    fn good_answers_are_2xx_and_3xx() {
        for (start, expected) in [
            (b"HTTP/1.1 200", true),
            (b"HTTP/1.0 302", true),
            (b"HTTP/1.1 404", false),
            (b"HTTP/1.1 503", false),
            (b"HTTP/2.0 200", false),
            (b"SSH-2.0-Open", false),
        ] {
            assert_eq!(is_good(start), expected, "{start:?}");
        }
    }
}
