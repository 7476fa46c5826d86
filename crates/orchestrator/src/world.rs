//! All state of the orchestrator, with the indexes that keep one step's cost independent of the
//! number of tasks. Everything except the indexes is persisted by the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    job::Job,
    node::Node,
    rollout::Progress,
    spec::ServiceSpec,
    task::{ServiceId, SlotKey, Task, TaskId},
    time::Time,
};

/// State of the last rollout, in Docker's words (`UpdateStatus.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl RolloutState {
    /// Under way: slots are still being replaced.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

    pub fn is_paused(self) -> bool {
        matches!(self, Self::Paused | Self::RollbackPaused)
    }
}

/// Docker's `UpdateStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    pub state: RolloutState,
    pub started_at: Time,
    pub completed_at: Option<Time>,
    pub message: String,
}

/// A spec and the version index under which it was accepted.
pub type Revision = (u64, ServiceSpec);

/// A service, what is wanted of it, and how far its rollout is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub spec: ServiceSpec,
    pub spec_version: u64,
    /// Docker's `PreviousSpec`: what a manual rollback returns to.
    pub previous: Option<Revision>,
    /// The last spec that was completely rolled out: what an automatic rollback returns to.
    pub last_good: Option<Revision>,
    /// The one before that; it becomes `previous` after an automatic rollback.
    pub good_before: Option<Revision>,
    pub rollout: Option<RolloutStatus>,
    pub created_at: Time,
    pub updated_at: Time,
    /// Removed by the operator; kept until its tasks are gone.
    pub is_removed: bool,
    /// Which run is under way, of a job.
    #[serde(default)]
    pub job: Job,
    /// The rollout's own progress.
    pub(crate) progress: Progress,
    /// When the tasks of a slot were restarted, oldest first.
    #[serde(with = "pairs")]
    pub(crate) restarts: BTreeMap<SlotKey, Vec<Time>>,
    /// Slots where a new task proves itself beside the old one outside a rollout, and until when.
    #[serde(default, with = "pairs")]
    pub(crate) holds: BTreeMap<SlotKey, (TaskId, Time)>,
    /// Slots that stay as they are, and why.
    #[serde(with = "pairs")]
    pub(crate) parked: BTreeMap<SlotKey, String>,
}

impl Service {
    /// Slots that are no longer restarted, with the reason in words.
    pub fn parked(&self) -> impl Iterator<Item = (&SlotKey, &str)> {
        self.parked.iter().map(|(slot, reason)| (slot, reason.as_str()))
    }

    /// A rollout replaces slots now.
    pub fn is_rolling(&self) -> bool {
        self.rollout.as_ref().is_some_and(|status| status.state.is_active())
    }

    pub fn is_paused(&self) -> bool {
        self.rollout.as_ref().is_some_and(|status| status.state.is_paused())
    }
}

/// What wakes up at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    Slot(SlotKey),
    Rollout,
}

/// Everything. Build an empty one with `World::new`, a stored one with `World::restore`.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Service → slot → its tasks, oldest first. An index.
    pub(crate) slots: BTreeMap<ServiceId, BTreeMap<SlotKey, Vec<TaskId>>>,
    /// Deadlines, soonest first, and the same by key. Indexes.
    pub(crate) timers: BTreeSet<(Time, ServiceId, TimerKey)>,
    pub(crate) timer_of: BTreeMap<(ServiceId, TimerKey), Time>,
    pub(crate) nodes: Vec<String>,
    /// What the one node has; without limits until the engine tells.
    pub(crate) node: Node,
    /// Tasks that wait for a place on it. An index.
    pub(crate) unplaced: BTreeSet<TaskId>,
    pub(crate) history_limit: usize,
    pub(crate) changes: Changes,
    seed: u64,
    ids_issued: u64,
}

/// What the last steps touched, so that the engine saves exactly that before it acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub services: BTreeSet<ServiceId>,
    pub tasks: BTreeSet<TaskId>,
}

impl World {
    /// An empty world. `seed` makes its task ids unique; `nodes` are where tasks may run.
    pub fn new(seed: u64, nodes: Vec<String>, task_history_limit: usize) -> Self {
        let node = Node { id: nodes.first().cloned().unwrap_or_default(), ..Node::default() };
        Self { seed, nodes, node, history_limit: task_history_limit, ..Self::default() }
    }

    /// The world as it was saved. Rebuilds the indexes; `ids_issued` as last saved.
    pub fn restore(
        seed: u64,
        ids_issued: u64,
        nodes: Vec<String>,
        task_history_limit: usize,
        services: Vec<Service>,
        tasks: Vec<Task>,
    ) -> Self {
        let mut world = Self::new(seed, nodes, task_history_limit);
        world.ids_issued = ids_issued;
        world.services = services.into_iter().map(|s| (s.id.clone(), s)).collect();
        let mut tasks = tasks;
        tasks.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        for task in tasks {
            world.index(&task);
            world.tasks.insert(task.id.clone(), task);
        }
        crate::machine::rebuild_timers(&mut world);
        world.changes = Changes::default();
        world
    }

    /// How many ids were drawn so far; saved so that none is drawn twice.
    pub fn ids_issued(&self) -> u64 {
        self.ids_issued
    }

    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// The tasks of a service by slot, oldest first within each.
    pub fn tasks_of<'a>(&'a self, id: &ServiceId) -> impl Iterator<Item = &'a Task> + use<'a> {
        self.slots
            .get(id)
            .into_iter()
            .flat_map(|slots| slots.values().flatten())
            .filter_map(|task| self.tasks.get(task))
    }

    /// The tasks of one slot, oldest first.
    pub fn tasks_in<'a>(
        &'a self,
        id: &ServiceId,
        slot: &SlotKey,
    ) -> impl DoubleEndedIterator<Item = &'a Task> + use<'a> {
        self.slots
            .get(id)
            .and_then(|slots| slots.get(slot))
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter_map(|task| self.tasks.get(task))
    }

    /// Takes the set of touched objects. One that is no longer in the world was deleted.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// A new id of Docker's form: 25 characters of `[0-9a-z]`.
    pub(crate) fn draw_id(&mut self) -> String {
        self.ids_issued += 1;
        let mut state = self.seed ^ self.ids_issued.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut id = String::with_capacity(25);
        while id.len() < 25 {
            let mut bits = mix(&mut state);
            for _ in 0..12 {
                let digit = u32::try_from(bits % 36).unwrap_or(0);
                id.push(char::from_digit(digit, 36).unwrap_or('0'));
                bits /= 36;
            }
        }
        id.truncate(25);
        id
    }

    pub(crate) fn index(&mut self, task: &Task) {
        self.slots
            .entry(task.service.clone())
            .or_default()
            .entry(task.slot.clone())
            .or_default()
            .push(task.id.clone());
        if task.unplaced.is_some() && task.is_live() {
            self.unplaced.insert(task.id.clone());
        }
    }

    pub(crate) fn unindex(&mut self, task: &Task) {
        self.unplaced.remove(&task.id);
        let Some(slots) = self.slots.get_mut(&task.service) else { return };
        if let Some(ids) = slots.get_mut(&task.slot) {
            ids.retain(|id| *id != task.id);
            if ids.is_empty() {
                slots.remove(&task.slot);
            }
        }
        if slots.is_empty() {
            self.slots.remove(&task.service);
        }
    }

    pub(crate) fn set_timer(&mut self, service: &ServiceId, key: TimerKey, at: Option<Time>) {
        let entry = (service.clone(), key);
        if let Some(old) = self.timer_of.remove(&entry) {
            self.timers.remove(&(old, entry.0.clone(), entry.1.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, entry.0.clone(), entry.1.clone()));
            self.timer_of.insert(entry, at);
        }
    }
}

/// The splitmix64 generator: state in, 64 mixed bits out.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps with keys that are not text, as lists of pairs in JSON.
pub(crate) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K, V, S>(map: &BTreeMap<K, V>, to: S) -> Result<S::Ok, S::Error>
    where
        K: Serialize,
        V: Serialize,
        S: Serializer,
    {
        to.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}
