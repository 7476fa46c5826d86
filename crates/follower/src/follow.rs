//! The loop: look at the Swarm, tell the ingress, send the signals that are due.
//!
//! It looks several times a second while anything is on its way, because Swarm tells nobody when it
//! wants a task stopped and signals it three seconds later; and at once when an event comes.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dockerapi::{Client, publish::Stop, stamp};
use net::TlsFiles;
use orchestrator::{
    Time,
    traffic::{Command, Event},
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    facts,
    local::Local,
    peer,
    roster::{Roster, Stage},
    stop::Stops,
    view::View,
};

/// Between two looks while something is on its way, and while nothing is.
const SOON: Duration = Duration::from_millis(150);
const LATER: Duration = Duration::from_secs(1);
/// A change by an operator is followed closely for this long.
const ATTENTION: Duration = Duration::from_secs(10);
/// Docker's `kill` event says which signal.
const QUIET: &str = "23";

/// Where a node's view of the Swarm comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nowhere: it has only just started.
    #[default]
    Unseen,
    /// This node's own Docker told it.
    Own,
    /// Another node told it.
    Told,
    /// Nobody tells: the view is what was known last.
    Blind(String),
}

impl Sight {
    /// Why the view is not of now; none when it is.
    pub(crate) fn blindness(&self) -> Option<&str> {
        match self {
            Self::Unseen | Self::Own | Self::Told => None,
            Self::Blind(why) => Some(why),
        }
    }
}

/// What the follower knows, for those who ask.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) roster: Roster,
    pub(crate) view: View,
    /// Once it is true, the view is one that somebody told. Before that the ingress hears nothing
    /// of it: it goes on with what it had from the control process before.
    has_view: bool,
    pub(crate) local: Local,
    pub(crate) is_connected: bool,
    pub(crate) listen_failures: BTreeMap<u16, String>,
    pub(crate) sight: Sight,
}

impl Known {
    /// What other nodes may be told. Only what this node's own Docker said: nodes that told one
    /// another, or a node that asked itself, would take what is long past for the present.
    pub(crate) fn for_others(&self) -> Result<&View, String> {
        match &self.sight {
            // That nothing runs would be the worst of answers.
            Sight::Unseen => Err("this node has only just started to look".to_owned()),
            Sight::Own => Ok(&self.view),
            Sight::Told => Err("this node itself was told by another what runs".to_owned()),
            Sight::Blind(why) => Err(format!("this node knows nothing of now: {why}")),
        }
    }

    /// The ingress of a blind node goes on with what it was told last.
    fn sees(&mut self, sight: Sight) {
        if let (None, Some(why)) = (self.sight.blindness(), sight.blindness()) {
            tracing::warn!(why, "no manager tells what runs; traffic goes on as it was");
        }
        self.sight = sight;
    }

    /// What the ingress is to be told, with this view or, when nobody told one, with the last.
    fn look(&mut self, now: Time, view: Option<View>) -> Vec<Command> {
        let is_first = view.is_some() && !self.has_view;
        if let Some(view) = view {
            (self.view, self.has_view) = (view, true);
        }
        if !self.has_view {
            return Vec::new();
        }
        let commands = self.roster.look(now, &self.view, &self.local);
        if is_first { vec![self.roster.sync()] } else { commands }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    known: Mutex<Known>,
}

impl Shared {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ends a pause, or may.
enum Happened {
    Nothing,
    Told(Event),
    Heard(Value),
    End,
}

/// One node's follower.
pub(crate) struct Loop {
    pub(crate) docker: Client,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) shutdown: watch::Receiver<bool>,
    identity: TlsFiles,
    source: peer::Source,
    /// Where managers were last known to be.
    managers: Vec<IpAddr>,
    stops: Stops,
    attention: Option<Instant>,
}

impl Loop {
    pub(crate) fn new(
        docker: Client,
        shared: Arc<Shared>,
        (commands, events): (mpsc::Sender<Command>, mpsc::Receiver<Event>),
        identity: TlsFiles,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Self {
            docker,
            shared,
            commands,
            events,
            shutdown,
            identity,
            source: peer::Source::default(),
            managers: Vec::new(),
            stops: Stops::default(),
            attention: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let (heard, mut hears) = mpsc::channel(256);
        let listening = tokio::spawn(listen(self.docker.clone(), heard));
        loop {
            self.look().await;
            self.signal().await;
            let until = Instant::now() + self.pause();
            loop {
                let happened = tokio::select! {
                    () = sleep_until(until) => Happened::Nothing,
                    event = self.events.recv() => event.map_or(Happened::End, Happened::Told),
                    Some(event) = hears.recv() => Happened::Heard(event),
                    _ = self.shutdown.wait_for(|ends| *ends) => Happened::End,
                };
                let is_news = match happened {
                    Happened::Nothing => true,
                    Happened::Told(event) => self.told(event),
                    Happened::Heard(event) => self.heard(&event),
                    Happened::End => {
                        listening.abort();
                        return;
                    }
                };
                if is_news {
                    break;
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let known = self.shared.known();
        let is_busy = known.view.is_changing()
            || known.roster.is_waiting()
            || self.stops.is_waiting()
            || self.attention.is_some_and(|until| Instant::now() < until);
        if is_busy { SOON } else { LATER }
    }

    /// Looks at everything and tells the ingress what is new.
    async fn look(&mut self) {
        let (own, local) = match facts::look(&self.docker).await {
            Ok(look) => {
                self.managers = look.managers;
                (look.view, Some(look.local))
            }
            // What runs on other nodes goes on, and this node's ingress with it.
            Err(error) => (Err(error), None),
        };
        let (sight, view) = match own {
            Ok(view) => (Sight::Own, Some(view)),
            // A worker, or a manager without a leader: another node may know.
            Err(own) => match self.source.view(&self.identity, &self.managers).await {
                Ok(view) => (Sight::Told, Some(view)),
                Err(error) => (Sight::Blind(format!("{own}; {error}")), None),
            },
        };
        let commands = {
            let mut known = self.shared.known();
            known.sees(sight);
            if let Some(local) = local {
                known.local = local;
            }
            known.look(stamp::now(), view)
        };
        for command in commands {
            self.tell(command);
        }
        let known = self.shared.known();
        let running = known.local.containers.keys().map(String::as_str).collect();
        self.stops.keep(&running);
    }

    /// True when it is worth looking again at once.
    fn told(&mut self, event: Event) -> bool {
        let now = stamp::now();
        let shared = Arc::clone(&self.shared);
        let mut known = shared.known();
        match event {
            Event::Connected => {
                known.is_connected = true;
                known.listen_failures.clear();
                let sync = known.has_view.then(|| known.roster.sync());
                drop(known);
                if let Some(sync) = sync {
                    self.tell(sync);
                }
                true
            }
            Event::Disconnected => {
                known.is_connected = false;
                false
            }
            Event::Published { task } => {
                known.roster.published(now, &task);
                known.roster.is_waiting()
            }
            Event::Drained { task } => {
                known.roster.drained(&task);
                true
            }
            Event::ListenFailed { published_port, reason } => {
                known.listen_failures.insert(published_port, reason);
                false
            }
        }
    }

    /// Commands are dropped while there is no ingress: its next connection begins with a sync.
    fn tell(&self, command: Command) {
        let mut known = self.shared.known();
        if known.is_connected && self.commands.try_send(command).is_err() {
            tracing::warn!("the ingress does not take commands; waiting for it to connect again");
            known.is_connected = false;
        }
    }

    /// An event of Docker; true when it is worth looking at once.
    fn heard(&mut self, event: &Value) -> bool {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("");
        let (kind, action) = (text("/Type"), text("/Action"));
        if kind == "container" && action == "kill" {
            if text("/Actor/Attributes/signal") != QUIET {
                return false;
            }
            let attributes = event.pointer("/Actor/Attributes").cloned().unwrap_or_default();
            let labels: BTreeMap<String, String> =
                serde_json::from_value(attributes).unwrap_or_default();
            if let Some(stop) = Stop::of(&labels) {
                self.stops.begin(stamp::now(), text("/Actor/ID"), stop);
            }
            return true;
        }
        if matches!(kind, "service" | "node") {
            self.attention = Some(Instant::now() + ATTENTION);
        }
        matches!(kind, "service" | "node")
            || action.starts_with("health_status")
            || matches!(action, "start" | "die")
    }

    /// Sends the signals that are due.
    async fn signal(&mut self) {
        if !self.stops.is_waiting() {
            return;
        }
        let due = {
            let known = self.shared.known();
            self.stops.due(stamp::now(), |container| is_idle(&known, container))
        };
        for (container, signal) in due {
            let path = format!("/containers/{container}/kill?signal={signal}");
            match self.docker.post(&path, &Value::Null).await {
                Ok(_) => tracing::info!(container, signal, "drained; sent its stop signal"),
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(container, %error, "its stop signal cannot be sent yet");
                    self.stops.failed(&container);
                }
            }
        }
    }
}

/// Nobody has a request in the container any more. What other nodes send it comes through this
/// node's ingress too.
fn is_idle(known: &Known, container: &str) -> bool {
    let task = known.local.containers.get(container).map(|container| &*container.task);
    match task.and_then(|task| known.roster.stage(task)) {
        Some(stage) => stage == Stage::Drained,
        None => known.sight.blindness().is_none(),
    }
}

/// Docker's events, again and again while it is there.
async fn listen(docker: Client, heard: mpsc::Sender<Value>) {
    let wanted = [("type", "container"), ("type", "service"), ("type", "node")];
    loop {
        if let Ok(mut events) = docker.events(&wanted).await {
            while let Ok(Some(event)) = events.next().await {
                if heard.send(event).await.is_err() {
                    return;
                }
            }
        }
        if heard.is_closed() {
            return;
        }
        sleep(LATER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_only_what_this_node_s_own_docker_says_now() {
        let told = |sight| Known { sight, ..Known::default() }.for_others().is_ok();
        assert!(told(Sight::Own));
        assert!(!told(Sight::default()), "it knows nothing yet");
        assert!(!told(Sight::Told));
        assert!(!told(Sight::Blind("no leader".to_owned())));
    }

    #[test]
    fn the_ingress_hears_nothing_before_somebody_told_what_runs_and_then_all_of_it() {
        let mut known = Known::default();
        assert_eq!(known.look(Time(1), None), []);
        let first = known.look(Time(2), Some(View::default()));
        assert!(matches!(&first[..], [Command::Sync { .. }]), "{first:?}");
        assert_eq!(known.look(Time(3), None), []);
    }
}
