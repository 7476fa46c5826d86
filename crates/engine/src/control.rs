//! The control loop: the single writer. Everything that happens comes in here one after the other,
//! is applied to the state, saved in one transaction, and only then acted upon.

mod act;
mod asked;
pub mod auth;
mod containers;
mod events;
mod happened;
mod load;
mod name;
mod node;
mod state;
mod swarm;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use dockerapi::{ApiError, stamp};
use orchestrator::{Event, TaskId, Time, next_deadline, resume};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    container,
    driver::{Driver, Report},
    store::Store,
    traffic,
};
pub use act::hostname;
pub use asked::{convert, label, ports};
pub use containers::stop_signal;
pub use events::Events;
pub(crate) use load::found;
pub use load::{NODE_KIND, random_id};
pub use name::{container_id, find_task, name_of, task_name};
pub use node::{cpus, memory_bytes};
pub use state::{Service, State};

/// Work for the loop: changes the state and returns what to do once it is saved.
type Job = Box<dyn FnOnce(&mut State) -> Done + Send>;
type After = Box<dyn FnOnce(Result<(), ApiError>) + Send>;

/// A job that was done.
enum Done {
    /// The state is as the job left it.
    Well(After),
    /// It broke off halfway: what it changed does not count.
    Halfway(After),
}

/// Requests that may wait for the loop.
const QUEUE: usize = 256;
/// Reports and events that are saved together.
const BATCH: usize = 64;
/// How long to wait with the same reports when the disk is full.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the loop.
#[derive(Clone)]
pub struct Control {
    jobs: mpsc::Sender<Job>,
    pub events: Events,
    pub driver: Arc<dyn Driver>,
    /// Changes whenever something was saved.
    pub saved: watch::Receiver<()>,
    swarm: watch::Receiver<bool>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    /// False after `docker swarm leave`.
    pub fn is_in_swarm(&self) -> bool {
        *self.swarm.borrow()
    }

    /// Changes the state; answers when the change is on disk.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            // A defect in one call costs that call, and not the engine.
            match catch_unwind(AssertUnwindSafe(|| change(state))) {
                Ok(outcome) => Done::Well(Box::new(move |saved| {
                    let _ = answer.send(saved.and(outcome));
                })),
                Err(_) => Done::Halfway(Box::new(move |_| {
                    let text = "the engine has a defect that this call met; nothing was changed; \
                                please report it with the last lines of the daemon's log";
                    let _ = answer.send(Err(ApiError::internal(text)));
                })),
            }
        });
        let ended = || ApiError::unavailable("the engine is ending; try again");
        self.jobs.send(job).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Looks at the state.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.write(move |state| Ok(look(state))).await
    }

    /// Looks for something that may not be there.
    pub async fn find<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.write(move |state| look(state)).await
    }
}

/// What the loop listens to.
pub struct Inputs {
    pub reports: mpsc::Receiver<Report>,
    pub traffic: mpsc::Receiver<traffic::Event>,
    pub shutdown: watch::Receiver<bool>,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inputs")
    }
}

/// Builds the loop around a loaded state. Await the second to run it.
pub fn start(
    store: Store,
    driver: Arc<dyn Driver>,
    commands: mpsc::Sender<traffic::Command>,
    inputs: Inputs,
) -> Result<(Control, impl Future<Output = ()>), crate::store::StoreError> {
    let state = load::state(&store)?;
    let (jobs, queue) = mpsc::channel(QUEUE);
    let events = Events::new();
    let (saves, saved) = watch::channel(());
    let (swarms, swarm) = watch::channel(state.is_in_swarm);
    let (told, runs) = (events.clone(), Arc::clone(&driver));
    let control = Control { jobs, events: told, driver: runs, saved, swarm };
    let running = Loop {
        state,
        store,
        driver,
        commands,
        events,
        saves,
        swarms,
        drains: BTreeMap::new(),
        preparing: BTreeSet::new(),
        is_connected: false,
    };
    Ok((control, running.run(queue, inputs)))
}

struct Loop {
    state: State,
    store: Store,
    driver: Arc<dyn Driver>,
    commands: mpsc::Sender<traffic::Command>,
    events: Events,
    saves: watch::Sender<()>,
    swarms: watch::Sender<bool>,
    /// When to stop waiting for the ingress to say that a task is drained.
    drains: BTreeMap<TaskId, Instant>,
    /// Tasks whose image may still be on its way.
    preparing: BTreeSet<TaskId>,
    is_connected: bool,
}

impl Loop {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>, mut inputs: Inputs) {
        self.adopt();
        let actions = resume(&self.state.world);
        self.perform(actions);
        // The machine may not be what it was when this was saved.
        let node = self.state.world.node().clone();
        self.apply(vec![Event::NodeChanged(node)]).await;
        self.state.step_containers(&container::Event::EngineStarted);
        if let Err(error) = self.save_and_act() {
            tracing::error!(%error, "the state cannot be saved");
        }
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = ended(&mut inputs.shutdown) => return,
                Some(event) = inputs.traffic.recv() => self.traffic(event).await,
                Some(report) = inputs.reports.recv() => {
                    let mut batch = vec![report];
                    while batch.len() < BATCH {
                        let Ok(more) = inputs.reports.try_recv() else { break };
                        batch.push(more);
                    }
                    self.reports(batch).await;
                }
                Some(job) = jobs.recv() => self.job(job),
                () = sleep_until(wake) => self.tick().await,
            }
        }
    }

    /// The next thing that waits for time.
    fn wake_at(&self) -> Option<Instant> {
        let now = stamp::now();
        let due =
            next_deadline(&self.state.world).into_iter().chain(self.state.container_deadline());
        let deadline = due.min().map(|at| Instant::now() + at.since(now));
        deadline.into_iter().chain(self.drains.values().copied()).min()
    }

    fn job(&mut self, job: Job) {
        let after = match job(&mut self.state) {
            Done::Well(after) => after,
            Done::Halfway(after) => {
                self.reload();
                return after(Ok(()));
            }
        };
        let saved = self.save_and_act();
        after(saved.map_err(|error| {
            ApiError::internal(format!("{error}; nothing was changed; free space and try again"))
        }));
    }

    async fn reports(&mut self, batch: Vec<Report>) {
        let events = batch
            .into_iter()
            .map(|report| Event::Observed { task: report.task, what: report.what })
            .collect();
        self.apply(events).await;
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        let late: Vec<TaskId> =
            self.drains.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        let mut events = vec![Event::Tick];
        for task in late {
            tracing::warn!(%task, "the ingress did not say in time that it is drained; going on");
            self.drains.remove(&task);
            events.push(Event::Drained { task });
        }
        self.apply(events).await;
    }

    async fn traffic(&mut self, event: traffic::Event) {
        match event {
            traffic::Event::Connected => {
                self.is_connected = true;
                self.sync();
            }
            traffic::Event::Disconnected => self.is_connected = false,
            traffic::Event::Published { task } => {
                self.apply(vec![Event::Published { task: TaskId(task) }]).await;
            }
            traffic::Event::Drained { task } => {
                let task = TaskId(task);
                self.drains.remove(&task);
                self.apply(vec![Event::Drained { task }]).await;
            }
            traffic::Event::ListenFailed { published_port, reason } => {
                self.state.listen_failures.insert(published_port, reason);
            }
        }
        self.state.is_ingress_connected = self.is_connected;
    }

    /// Applies what happened; it cannot be refused, so a full disk is waited for.
    async fn apply(&mut self, events: Vec<Event>) {
        loop {
            for event in events.clone() {
                match &event {
                    Event::Observed { task, what } if self.state.containers.contains_key(task) => {
                        let seen = container::Event::Seen(what.clone());
                        self.state.step_container(task, seen);
                        continue;
                    }
                    Event::Tick => self.state.step_containers(&container::Event::Tick),
                    _ => {}
                }
                self.state.step(event);
            }
            match self.save_and_act() {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(%error, "the state cannot be saved; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Saves what changed and then acts. When it cannot be saved, the state is as it was before.
    fn save_and_act(&mut self) -> Result<(), crate::store::StoreError> {
        let writes = self.state.take_writes();
        if !writes.is_empty() {
            if let Err(error) = self.store.save(&writes) {
                self.reload();
                return Err(error);
            }
            self.saves.send_replace(());
        }
        let actions = std::mem::take(&mut self.state.actions);
        self.perform(actions);
        self.stop_unwanted();
        // A port is opened before somebody is told to be reached there.
        if std::mem::take(&mut self.state.are_routes_changed) {
            self.routes();
        }
        let actions = std::mem::take(&mut self.state.container_actions);
        self.perform_for_containers(actions);
        for event in std::mem::take(&mut self.state.events) {
            self.events.tell(event);
        }
        if self.state.identity_to_save.take().is_some() {
            // Another node, from the world on.
            self.reload();
            self.swarms.send_replace(self.state.is_in_swarm);
        }
        Ok(())
    }

    fn reload(&mut self) {
        match load::state(&self.store) {
            Ok(state) => {
                let old = std::mem::replace(&mut self.state, state);
                self.state.listen_failures = old.listen_failures;
                self.state.is_ingress_connected = old.is_ingress_connected;
                self.state.removed = old.removed;
            }
            Err(error) => tracing::error!(%error, "the state cannot be read back"),
        }
    }
}

/// Waits until the engine is to end.
async fn ended(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|ends| *ends).await);
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The wall clock, which never goes back.
pub(crate) fn clock(last: &mut Time) -> Time {
    *last = stamp::now().max(Time(last.0 + 1));
    *last
}
