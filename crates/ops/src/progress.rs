//! What happens, as it happens, for whoever shows it.

use serde::Serialize;

use crate::{judge::Slot, plan::Plan};

/// Takes what is said. Must not block.
pub trait Progress: Send + Sync {
    fn say(&self, said: Said);
}

/// One thing that is said.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Said {
    /// A step begins: `build`, `lock`, `plan`, `service ala_api`, …
    Step {
        name: String,
    },
    /// It ended well.
    Done {
        name: String,
        milliseconds: u64,
    },
    /// A line of a build's output.
    Output {
        line: String,
    },
    Plan {
        plan: Plan,
    },
    /// Where the slots of a service stand; said when something changed.
    Slots {
        service: String,
        ready: u64,
        wanted: u64,
        slots: Vec<Slot>,
    },
    Warning {
        text: String,
    },
}

/// Says nothing to nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn say(&self, _: Said) {}
}
