//! The loop: look at the Swarm, tell the ingress, send the signals that are due.
//!
//! It looks several times a second while anything is on its way, because Swarm tells nobody when it
//! wants a task stopped and signals it three seconds later; and at once when an event comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dockerapi::{Client, publish::Stop, stamp};
use net::TlsFiles;
use orchestrator::traffic::{Command, Event};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    facts::{self, LINK},
    lead,
    local::Local,
    peer,
    roster::{Roster, Stage},
    stop::{Stops, connections},
    view::View,
};

/// Between two looks while something is on its way, and while nothing is.
const SOON: Duration = Duration::from_millis(150);
const LATER: Duration = Duration::from_secs(1);
/// A change by an operator is followed closely for this long.
const ATTENTION: Duration = Duration::from_secs(10);
/// Docker's `kill` event says which signal.
const QUIET: &str = "23";

/// What the follower knows, for those who ask.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) roster: Roster,
    pub(crate) view: View,
    pub(crate) local: Local,
    pub(crate) links: BTreeMap<String, PathBuf>,
    pub(crate) is_connected: bool,
    pub(crate) listen_failures: BTreeMap<u16, String>,
    /// Why the view is not of now; none when it is.
    pub(crate) is_blind: Option<String>,
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
    /// The image of links.
    link: Option<String>,
    source: peer::Source,
    stops: Stops,
    processes: BTreeMap<String, u32>,
    attention: Option<Instant>,
}

impl Loop {
    pub(crate) fn new(
        docker: Client,
        shared: Arc<Shared>,
        (commands, events): (mpsc::Sender<Command>, mpsc::Receiver<Event>),
        identity: TlsFiles,
        link: Option<String>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let (source, stops, processes) = Default::default();
        let attention = None;
        Self {
            docker,
            shared,
            commands,
            events,
            shutdown,
            identity,
            link,
            source,
            stops,
            processes,
            attention,
        }
    }

    pub(crate) async fn run(mut self) {
        let (heard, mut hears) = mpsc::channel(256);
        let listening = tokio::spawn(listen(self.docker.clone(), heard));
        loop {
            self.look().await;
            self.signal().await;
            self.lead().await;
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
        let look = match facts::look(&self.docker, &self.processes).await {
            Ok(look) => look,
            Err(error) => return self.is_blind(&error.to_string()),
        };
        self.processes = look.processes;
        let view = match look.view {
            Ok(view) => Ok(view),
            // A worker, or a manager without a leader: another node may know.
            Err(own) => match self.source.view(&self.identity, &look.managers).await {
                Ok(view) => Ok(view),
                Err(error) => Err(format!("{own}; {error}")),
            },
        };
        if let Err(why) = &view {
            self.is_blind(why);
        }
        let commands = {
            let mut known = self.shared.known();
            match view {
                Ok(view) => (known.view, known.is_blind) = (view, None),
                Err(why) => known.is_blind = Some(why),
            }
            (known.local, known.links) = (look.local, look.links);
            let Known { roster, view, local, links, .. } = &mut *known;
            roster.look(stamp::now(), view, local, links)
        };
        for command in commands {
            self.tell(command);
        }
        let known = self.shared.known();
        let running = known.local.containers.keys().map(String::as_str).collect();
        self.stops.keep(&running);
    }

    /// What the leader does for all.
    async fn lead(&self) {
        let Some(image) = &self.link else { return };
        let todo = {
            let known = self.shared.known();
            let is_leader = known.view.nodes.get(&known.local.node).is_some_and(|n| n.is_leader);
            if !is_leader || known.is_blind.is_some() {
                return;
            }
            lead::todo(&known.view)
        };
        if let Err(error) = lead::perform(&self.docker, image, &todo).await {
            tracing::warn!(%error, "the links between the nodes cannot be kept as they should be");
        }
    }

    /// The ingress goes on with what it was told last.
    fn is_blind(&self, why: &str) {
        let mut known = self.shared.known();
        if known.is_blind.is_none() {
            tracing::warn!(why, "no manager tells what runs; traffic goes on as it was");
            known.is_blind = Some(why.to_owned());
        }
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
                let sync = known.roster.sync();
                drop(known);
                self.tell(sync);
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
            let links = links(&known.view);
            let processes = &self.processes;
            self.stops.due(stamp::now(), |container| is_idle(&known, container, processes, &links))
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

/// Nobody has a request in the container any more: neither this node's ingress nor another's.
fn is_idle(
    known: &Known,
    container: &str,
    processes: &BTreeMap<String, u32>,
    links: &BTreeSet<IpAddr>,
) -> bool {
    let Some(task) = known.view.tasks.iter().find(|task| task.container == container) else {
        return known.is_blind.is_none();
    };
    if known.roster.stage(&task.id).is_some_and(|stage| stage < Stage::Drained) {
        return false;
    }
    let service = known.view.services.get(&task.service);
    let ports: Vec<u16> =
        service.into_iter().flat_map(|s| s.ports.iter().map(|(_, target, _)| *target)).collect();
    let Some(process) = processes.get(container) else { return true };
    let open = ["tcp", "tcp6"].iter().map(|name| {
        let table = std::fs::read_to_string(format!("/proc/{process}/net/{name}"));
        connections(&table.unwrap_or_default(), &ports, links)
    });
    open.sum::<usize>() == 0
}

/// Where ingresses of other nodes come from.
fn links(view: &View) -> BTreeSet<IpAddr> {
    let links = view.tasks.iter().filter(|task| task.labels.contains_key(LINK));
    links.flat_map(|task| task.addresses.iter().map(|(_, address)| *address)).collect()
}

/// Docker's events, again and again while it is there.
async fn listen(docker: Client, heard: mpsc::Sender<Value>) {
    let wanted = [("type", "container"), ("type", "service"), ("type", "node")];
    loop {
        if let Ok(mut events) = docker.events(&wanted).await {
            let mut bytes: Vec<u8> = Vec::new();
            while let Ok(Some(more)) = events.next().await {
                bytes.extend_from_slice(&more);
                let mut items = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
                let mut read = 0;
                while let Some(Ok(event)) = items.next() {
                    read = items.byte_offset();
                    if heard.send(event).await.is_err() {
                        return;
                    }
                }
                bytes.drain(..read);
            }
        }
        if heard.is_closed() {
            return;
        }
        sleep(LATER).await;
    }
}
