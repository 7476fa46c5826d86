//! A container outside any service, decided: what follows from what is asked and what is seen. Pure.
//!
//! ```text
//! Created ──Start──▶ Starting ──seen──▶ Running ──its end──▶ Exited ──Start──▶ Starting
//!                                          └─ the policy ─▶ Restarting ──due──▶ Starting
//! ```
//!
//! What is wanted (`Wanted`) and what is seen (`Phase`) are two fields: a stop that was asked for is
//! one whatever the restart policy says. A container keeps its id, name, files and log over restarts.

pub mod asked;
mod policy;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use orchestrator::{Observation, TaskId, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use policy::Policy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Created,
    /// Asked to start; not seen yet.
    Starting,
    Running,
    /// It ended, and starts again at this time.
    Restarting {
        due: Time,
    },
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Up,
    /// Somebody stopped it, or it ended and stays so.
    Down,
    /// The engine ends with all that runs; the policy decides when it is back.
    Halted,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

/// A port that the ingress opens for a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub target: u16,
    pub published: u16,
    /// The address it is opened on; none is the ingress's own.
    pub host: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// What the driver knows it by.
    pub id: TaskId,
    pub name: String,
    /// The body of `POST /containers/create`, as it is in force.
    pub asked: Value,
    /// The same as the driver reads it.
    pub definition: Arc<str>,
    /// The image's id: another image of the same name later is not this one.
    pub image: String,
    pub has_health_check: bool,
    pub created_at: Time,
    pub phase: Phase,
    pub wanted: Wanted,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub exit_code: i32,
    pub error: Option<String>,
    pub is_stopped_by_hand: bool,
    /// Restarts by the policy since it was started by hand.
    pub restarts: u32,
    pub back_off: Duration,
    /// How often it ended.
    pub ends: u64,
    pub health: Health,
    pub ports: Vec<Port>,
    /// What the ingress knows it by.
    pub pool: String,
    /// The engine has just started and waits for what the driver finds.
    #[serde(skip)]
    pub is_adopted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is there, new.
    Created,
    /// With the ports it is to have, and what the ingress is to know it by.
    Start {
        ports: Vec<Port>,
        pool: String,
    },
    /// Somebody stops it; whoever asked sends the signals.
    Stop,
    /// It goes, with all it has.
    Remove,
    Seen(Observation),
    Tick,
    /// The engine is there again.
    EngineStarted,
    /// The engine ends with all that runs.
    EngineEnds,
}

/// What to do, in this order, once the container is saved.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Prepare,
    Run,
    Adopt,
    Stop,
    Kill,
    Publish,
    Unpublish,
    /// The ports that are open changed.
    Routes,
    /// Its record, folder and log go.
    Forget,
    /// For `GET /events`.
    Tell(&'static str, Vec<(&'static str, String)>),
}

impl Container {
    /// Its process runs, or is about to.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// The ports are its own.
    pub fn holds_ports(&self) -> bool {
        self.is_up() || matches!(self.phase, Phase::Restarting { .. })
    }

    pub fn policy(&self) -> Policy {
        Policy::of(&self.asked).unwrap_or(Policy::No)
    }

    fn is_removed_at_its_end(&self) -> bool {
        self.asked["HostConfig"]["AutoRemove"].as_bool().unwrap_or(false)
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Restarting { due } => Some(due),
            Phase::Created | Phase::Starting | Phase::Running | Phase::Exited => None,
        }
    }
}

/// One step.
pub fn step(own: &mut Container, now: Time, event: Event) -> Vec<Action> {
    match event {
        Event::Created => vec![Action::Prepare, Action::Tell("create", Vec::new())],
        Event::Start { ports, pool } => {
            (own.ports, own.pool, own.is_stopped_by_hand) = (ports, pool, false);
            (own.restarts, own.back_off) = (0, Duration::ZERO);
            start(own)
        }
        Event::Stop => stop(own, now),
        Event::Remove => match own.is_up() {
            true => {
                own.wanted = Wanted::Gone;
                vec![Action::Kill]
            }
            false => forget(own),
        },
        Event::Seen(what) => seen(own, now, what),
        Event::Tick => match own.phase {
            Phase::Restarting { due } if due <= now => start(own),
            _ => Vec::new(),
        },
        Event::EngineStarted => take_over(own),
        Event::EngineEnds => match own.phase {
            Phase::Starting | Phase::Running => {
                own.wanted = Wanted::Halted;
                vec![Action::Stop]
            }
            Phase::Restarting { .. } => {
                (own.phase, own.wanted) = (Phase::Exited, Wanted::Halted);
                vec![Action::Routes]
            }
            Phase::Created | Phase::Exited => Vec::new(),
        },
    }
}

fn start(own: &mut Container) -> Vec<Action> {
    (own.phase, own.wanted) = (Phase::Starting, Wanted::Up);
    (own.error, own.health) = (None, Health::Starting);
    vec![Action::Routes, Action::Run]
}

fn stop(own: &mut Container, now: Time) -> Vec<Action> {
    match own.phase {
        Phase::Starting | Phase::Running => {
            (own.wanted, own.is_stopped_by_hand) = (Wanted::Down, true);
            Vec::new()
        }
        Phase::Restarting { .. } => {
            (own.phase, own.wanted) = (Phase::Exited, Wanted::Down);
            (own.is_stopped_by_hand, own.finished_at) = (true, Some(now));
            let mut actions = vec![Action::Routes, Action::Tell("stop", Vec::new())];
            if own.is_removed_at_its_end() {
                actions.extend(forget(own));
            }
            actions
        }
        Phase::Created | Phase::Exited => Vec::new(),
    }
}

fn forget(own: &mut Container) -> Vec<Action> {
    own.wanted = Wanted::Gone;
    vec![Action::Forget, Action::Tell("destroy", Vec::new()), Action::Routes]
}

/// The engine started: what ran is found again, what should run is started.
fn take_over(own: &mut Container) -> Vec<Action> {
    if own.is_up() {
        if own.wanted == Wanted::Halted {
            own.wanted = Wanted::Up;
        }
        own.is_adopted = true;
        return vec![Action::Adopt];
    }
    if own.wanted == Wanted::Gone {
        return forget(own);
    }
    let was_started = own.started_at.is_some() && own.phase == Phase::Exited;
    if was_started && own.policy().starts_with_the_engine(own.is_stopped_by_hand, own.exit_code) {
        own.is_stopped_by_hand = false;
        return start(own);
    }
    // Its image and its ports stay its own.
    vec![Action::Prepare]
}

fn seen(own: &mut Container, now: Time, what: Observation) -> Vec<Action> {
    let is_adopted = std::mem::take(&mut own.is_adopted);
    match what {
        // The engine ended between the decision to start it and the start.
        Observation::Ready if is_adopted && own.is_up() => vec![Action::Run],
        Observation::Preparing | Observation::Ready => {
            own.is_adopted = is_adopted;
            Vec::new()
        }
        Observation::Starting if own.phase == Phase::Starting => {
            (own.phase, own.started_at, own.exit_code) = (Phase::Running, Some(now), 0);
            vec![Action::Publish, Action::Tell("start", Vec::new())]
        }
        Observation::Starting => Vec::new(),
        Observation::Running { .. } if own.has_health_check && own.health != Health::Healthy => {
            own.health = Health::Healthy;
            vec![Action::Tell("health_status: healthy", Vec::new())]
        }
        Observation::Running { .. } => Vec::new(),
        Observation::Unhealthy { .. } => {
            own.health = Health::Unhealthy;
            vec![Action::Tell("health_status: unhealthy", Vec::new())]
        }
        Observation::Rejected { error } if own.is_up() => not_started(own, 128, error),
        Observation::Rejected { error } => {
            own.error = Some(error);
            Vec::new()
        }
        Observation::Exited { exit_code, error } if own.phase == Phase::Starting && !is_adopted => {
            let error = error.unwrap_or_else(|| "it ended before it was seen".to_owned());
            not_started(own, exit_code.unwrap_or(128), error)
        }
        Observation::Exited { exit_code, .. } if own.is_up() => {
            ended(own, now, exit_code.unwrap_or(137))
        }
        Observation::Exited { .. } => Vec::new(),
    }
}

/// As in Docker, a container that cannot be started is not tried again.
fn not_started(own: &mut Container, code: i32, error: String) -> Vec<Action> {
    let is_gone = own.wanted == Wanted::Gone || own.is_removed_at_its_end();
    (own.exit_code, own.error, own.wanted) = (code, Some(error), Wanted::Down);
    own.phase = if own.started_at.is_some() { Phase::Exited } else { Phase::Created };
    own.ends += 1;
    if is_gone { forget(own) } else { vec![Action::Routes] }
}

fn ended(own: &mut Container, now: Time, code: i32) -> Vec<Action> {
    let lasted = own.started_at.map_or(Duration::ZERO, |at| now.since(at));
    (own.finished_at, own.exit_code) = (Some(now), code);
    own.ends += 1;
    let die = Action::Tell("die", vec![("exitCode", code.to_string())]);
    let mut actions = vec![Action::Unpublish, die];
    if own.is_stopped_by_hand || own.wanted == Wanted::Halted {
        actions.push(Action::Tell("stop", Vec::new()));
    }
    match own.wanted {
        Wanted::Up if own.policy().restarts(code, own.restarts) => {
            own.back_off = policy::back_off(own.back_off, lasted);
            own.restarts += 1;
            own.phase = Phase::Restarting { due: Time(now.0 + nanos(own.back_off)) };
            return actions;
        }
        Wanted::Up | Wanted::Down => own.wanted = Wanted::Down,
        Wanted::Halted | Wanted::Gone => {}
    }
    own.phase = Phase::Exited;
    if own.wanted == Wanted::Gone || own.is_removed_at_its_end() {
        actions.extend(forget(own));
    } else {
        actions.push(Action::Routes);
    }
    actions
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
