//! Where tasks go: on the one node there is, when it has what they need. A task that it cannot take
//! waits, says why, and is looked at again whenever something that matters has changed.

use crate::{
    machine::Machine,
    node::{Availability, Node, Taken, Unplaced},
    task::{Desired, Observed, ServiceId, SlotKey, Task, TaskId},
    world::World,
};

impl World {
    /// The node, as far as it decides where tasks run.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The same world on a node of which more is known; nothing moves yet.
    pub fn with_node(mut self, node: Node) -> Self {
        self.node = node;
        self
    }

    /// What others have taken of what this task needs. A task and the one that replaces it hold a
    /// port of the machine together: the ingress hands it over.
    fn taken(&self, task: &Task, is_slot_free: bool) -> Taken {
        let mut taken = Taken::default();
        if task.spec.needs.shares_all() {
            return taken;
        }
        let placed = self.tasks.values().filter(|other| {
            other.id != task.id && other.unplaced.is_none() && !other.observed.is_end()
        });
        for other in placed {
            let is_same_service = other.service == task.service;
            let is_same_slot = is_same_service && other.slot == task.slot;
            if is_same_slot && is_slot_free {
                continue;
            }
            let needs = &other.spec.needs;
            taken.nano_cpus = taken.nano_cpus.saturating_add(needs.nano_cpus);
            taken.memory_bytes = taken.memory_bytes.saturating_add(needs.memory_bytes);
            taken.of_service += u64::from(is_same_service && other.is_live());
            if !is_same_slot {
                let holder = || self.called(other);
                let ports = needs.host_ports.iter().map(|port| (port.clone(), holder()));
                taken.host_ports.extend(ports);
            }
        }
        taken
    }

    /// `web.1`, for people.
    fn called(&self, task: &Task) -> String {
        let service = self.services.get(&task.service).map_or("", |service| &service.spec.name);
        match &task.slot {
            SlotKey::Replica(number) => format!("{service}.{number}"),
            SlotKey::Node(node) => format!("{service}.{node}"),
        }
    }
}

impl Machine<'_> {
    /// Gives a new task its place, or the reason why it waits for one.
    pub(crate) fn place(&mut self, id: &TaskId) {
        let Some(task) = self.task(id).filter(|task| task.observed == Observed::New) else {
            return;
        };
        if task.desired >= Desired::Shutdown {
            return;
        }
        let unplaced = self.fit(task, false).err();
        if task.unplaced != unplaced
            && let Some(task) = self.task_mut(id)
        {
            task.unplaced = unplaced;
        }
        let is_waiting = self.task(id).is_some_and(|task| task.unplaced.is_some());
        if is_waiting {
            self.world.unplaced.insert(id.clone());
        } else if self.world.unplaced.remove(id) {
            self.settle(id);
        }
    }

    fn fit(&self, task: &Task, is_slot_free: bool) -> Result<(), Unplaced> {
        let taken = self.world.taken(task, is_slot_free);
        task.spec.needs.fit(&self.world.node, &taken)
    }

    /// Whether the other tasks of its slot are all that keeps a task from its place.
    pub(crate) fn is_kept_out_by_its_slot(&self, id: &TaskId) -> bool {
        let Some(task) = self.task(id).filter(|task| task.is_live() && task.unplaced.is_some())
        else {
            return false;
        };
        let mut others = self.world.tasks_in(&task.service, &task.slot);
        others.any(|other| other.id != *id && !other.observed.is_end())
            && self.fit(task, true).is_ok()
    }

    /// Looks at every waiting task again, the oldest first.
    pub(crate) fn place_waiting(&mut self) {
        let mut waiting: Vec<_> = self
            .world
            .unplaced
            .iter()
            .filter_map(|id| self.task(id))
            .map(|task| (task.created_at, task.id.clone()))
            .collect();
        waiting.sort();
        for (_, id) in waiting {
            self.place(&id);
        }
    }

    /// The node is not what it was: its tasks may have to go, and others may come.
    pub(crate) fn change_node(&mut self, node: Node) {
        self.world.node = node;
        let drained = self.world.node.availability == Availability::Drain;
        let unsuited: Vec<TaskId> = self
            .world
            .tasks
            .values()
            .filter(|task| task.is_live() && task.unplaced.is_none())
            .filter(|task| drained || !task.spec.needs.suits(&self.world.node))
            .map(|task| task.id.clone())
            .collect();
        for task in unsuited {
            self.displace(&task, drained);
        }
        let services: Vec<ServiceId> = self.world.services.keys().cloned().collect();
        for service in services {
            self.reconcile(&service);
        }
        self.is_room_made = true;
    }

    /// A task leaves the node; what takes its place waits until there is one.
    fn displace(&mut self, id: &TaskId, is_drained: bool) {
        let Some(task) = self.task(id) else { return };
        let (service, slot) = (task.service.clone(), task.slot.clone());
        if !is_drained && let Some(task) = self.task_mut(id) {
            let what = "assigned node no longer meets constraints";
            task.error.get_or_insert_with(|| what.to_owned());
        }
        self.want(id, Desired::Shutdown);
        if let Some(service) = self.service_mut(&service) {
            service.holds.remove(&slot);
            service.parked.remove(&slot);
            let comes_again = !is_drained || matches!(slot, SlotKey::Replica(_));
            let is_rolling = service.is_rolling();
            service.progress.again(&slot, id, is_rolling && comes_again);
        }
        self.rollouts.insert(service.clone());
        let Some(known) = self.service(&service) else { return };
        let is_filled = known.progress.owns(&slot)
            || known.is_removed
            || known.spec.mode.is_job()
            || self.world.tasks_in(&service, &slot).any(Task::is_live);
        // Slots of a global service are for the reconciliation, which knows if the node is open.
        if !is_filled && matches!(slot, SlotKey::Replica(_)) {
            self.create_in(&service, slot);
        }
    }

    /// The nodes that a global service has a task on: none while it cannot be there at all.
    pub(crate) fn eligible_nodes(&self, id: &ServiceId) -> Vec<String> {
        let node = &self.world.node;
        let suits = self.service(id).is_some_and(|service| service.spec.task.needs.suits(node));
        let is_open = node.availability != Availability::Drain;
        if suits && is_open { self.world.nodes.clone() } else { Vec::new() }
    }
}
