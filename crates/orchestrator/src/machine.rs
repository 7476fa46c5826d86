//! `step`: one event in, actions out.

use crate::{
    event::{Action, Event},
    time::Time,
    world::World,
};

/// Applies one event and returns what must be done now.
pub fn step(_world: &mut World, _now: Time, _event: Event) -> Vec<Action> {
    Vec::new()
}

/// When `step(…, Event::Tick)` is due next; `None` when nothing waits for time.
pub fn next_deadline(_world: &World) -> Option<Time> {
    None
}

/// All actions that are due in this state, for an engine that just started.
pub fn resume(_world: &World) -> Vec<Action> {
    Vec::new()
}

/// The broken invariants, in words; empty when all hold.
pub fn check(_world: &World) -> Vec<String> {
    Vec::new()
}
