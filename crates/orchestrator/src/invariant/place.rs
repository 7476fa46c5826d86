//! What must hold of places: nothing is reserved twice, and who waits is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    node::HostPort,
    task::{Observed, ServiceId, SlotKey, Task},
    world::World,
};

pub(super) fn check(world: &World, broken: &mut Vec<String>) {
    let is_placed = |task: &&Task| task.unplaced.is_none() && !task.observed.is_end();
    let mut ports: BTreeMap<&HostPort, BTreeSet<(&ServiceId, &SlotKey)>> = BTreeMap::new();
    let (mut nano_cpus, mut memory_bytes) = (0_u64, 0_u64);
    for task in world.tasks().filter(is_placed) {
        let needs = &task.spec.needs;
        nano_cpus = nano_cpus.saturating_add(needs.nano_cpus);
        memory_bytes = memory_bytes.saturating_add(needs.memory_bytes);
        for port in &needs.host_ports {
            ports.entry(port).or_default().insert((&task.service, &task.slot));
        }
    }
    let exceeds = |used: u64, has: Option<u64>| has.is_some_and(|has| used > has);
    if exceeds(nano_cpus, world.node.nano_cpus) || exceeds(memory_bytes, world.node.memory_bytes) {
        broken.push(format!("{nano_cpus} nanocpus and {memory_bytes} bytes are reserved"));
    }
    for (port, holders) in ports.iter().filter(|(_, holders)| holders.len() > 1) {
        broken.push(format!("{port:?} is held by {holders:?}"));
    }
    let waiting = world.tasks().filter(|task| task.is_live() && task.unplaced.is_some());
    let waiting: BTreeSet<_> = waiting.map(|task| task.id.clone()).collect();
    if waiting != world.unplaced {
        broken.push(format!("{waiting:?} wait for a place, the index has {:?}", world.unplaced));
    }
    for task in world.tasks().filter(|task| task.unplaced.is_some()) {
        if task.is_started || task.observed != Observed::New && !task.observed.is_end() {
            broken.push(format!("task {} has no place and goes on", task.id));
        }
    }
}
