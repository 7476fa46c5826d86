//! One history: an operator, a driver and an ingress with faults, and an engine that crashes
//! between saving and acting, all in virtual time around the real orchestrator.

mod driver;
mod operator;

use std::collections::BTreeMap;

use orchestrator::{Action, Availability, Event, Time, World, check, next_deadline, resume, step};

use crate::{chance::Chance, judge::Judge};
pub use driver::Behaviour;
use driver::Driver;
use operator::{Operator, node};

/// How long the operator works, and how long everything may take to come to rest after.
const WORK_SECONDS: u64 = 300;
const REST_SECONDS: u64 = 3600;
/// An engine that was started again reports every task first; it does not crash during that.
const LIFE_AT_LEAST: std::time::Duration = std::time::Duration::from_millis(100);
/// More steps than any history needs: beyond it something goes round in circles.
const STEP_LIMIT: usize = 60_000;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    pub steps: usize,
    pub crashes: usize,
    /// What did not hold; empty when all did.
    pub broken: Vec<String>,
    pub trace: Vec<String>,
}

/// Plays the history of a seed to its end or to the first thing that does not hold.
pub fn play(seed: u64, is_traced: bool) -> Outcome {
    Play::new(seed, is_traced).run()
}

struct Play {
    world: World,
    now: Time,
    chance: Chance,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    driver: Driver,
    operator: Operator,
    judge: Judge,
    crash_percent: u64,
    last_crash: Option<Time>,
    is_traced: bool,
    outcome: Outcome,
}

impl Play {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let crash_percent = *chance.one_of(&[0, 0, 1, 5]);
        let mut world = World::new(seed, vec!["node".to_owned()], 5);
        step(&mut world, Time(1), Event::NodeChanged(node(Availability::Active)));
        Self {
            world,
            now: Time(1_000_000_000_000),
            queue: BTreeMap::new(),
            queued: 0,
            driver: Driver::new(&mut chance),
            operator: Operator::new(&mut chance),
            judge: Judge::default(),
            crash_percent,
            last_crash: None,
            is_traced,
            chance,
            outcome: Outcome { seed, steps: 0, crashes: 0, broken: Vec::new(), trace: Vec::new() },
        }
    }

    fn run(mut self) -> Outcome {
        let start = self.now;
        let work_ends = start + std::time::Duration::from_secs(WORK_SECONDS);
        let end = work_ends + std::time::Duration::from_secs(REST_SECONDS);
        let mut next_command = self.now;
        while self.outcome.broken.is_empty() {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = next_deadline(&self.world);
            let command = (next_command <= work_ends).then_some(next_command);
            let Some(at) = [queued, deadline, command].into_iter().flatten().min() else { break };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if command == Some(at) {
                let event = self.operator.command(&mut self.chance, &self.world, &mut self.driver);
                next_command = self.now + self.chance.between(100, 40_000);
                if let Some(event) = event {
                    self.open_later(&event);
                    self.apply(event);
                }
            } else if queued == Some(at) {
                let Some((_, event)) = self.queue.pop_first() else { continue };
                self.apply(event);
            } else {
                self.apply(Event::Tick);
            }
            if self.outcome.steps > STEP_LIMIT {
                self.outcome.broken.push(format!("no rest after {STEP_LIMIT} steps"));
            }
        }
        if self.outcome.broken.is_empty() {
            self.outcome.broken =
                self.judge.at_rest(&self.world, self.now, &self.driver.behaviours());
        }
        self.outcome
    }

    /// A node that was closed is opened again after a while.
    fn open_later(&mut self, event: &Event) {
        if let Event::NodeChanged(_) = event {
            let at = self.now + self.chance.between(1000, 60_000);
            self.queued += 1;
            let open = Event::NodeChanged(node(Availability::Active));
            self.queue.insert((at, self.queued), open);
        }
    }

    fn apply(&mut self, event: Event) {
        self.outcome.steps += 1;
        self.trace(|| format!("{event:?}"));
        self.driver.seen(&event);
        self.judge.seen(&event);
        let actions = step(&mut self.world, self.now, event);
        let _ = self.world.take_changes();
        self.driver.learn(&self.world);
        self.outcome.broken.extend(check(&self.world));
        let may_crash = self.last_crash.is_none_or(|at| self.now.since(at) > LIFE_AT_LEAST);
        if may_crash && self.chance.happens(self.crash_percent) {
            self.last_crash = Some(self.now);
            self.crash();
        } else {
            self.act(actions);
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.trace(|| format!("    → {action:?}"));
            self.outcome.broken.extend(self.judge.action(&self.world, &action));
            for (delay, event) in self.driver.perform(&mut self.chance, self.now, action) {
                self.queued += 1;
                self.queue.insert((self.now + delay, self.queued), event);
            }
        }
    }

    /// SIGKILL after the save and before the actions: only what was saved is left, through JSON as
    /// the engine's store would; the driver is asked where every task stands.
    fn crash(&mut self) {
        self.outcome.crashes += 1;
        self.trace(|| "    engine crashes, and is started again".to_owned());
        let services = self.world.services().map(copy).collect();
        let tasks: Vec<_> = self.world.tasks().map(copy).collect();
        let ids = self.world.ids_issued();
        let seed = self.outcome.seed;
        let node = self.world.node().clone();
        self.world = World::restore(seed, ids, vec!["node".to_owned()], 5, services, tasks);
        let told = step(&mut self.world, self.now, Event::NodeChanged(node));
        self.outcome.broken.extend(told.iter().map(|what| format!("{what:?} after a restart")));
        let broken = check(&self.world);
        self.outcome.broken.extend(broken);
        for event in self.driver.adopt(&self.world) {
            self.queued += 1;
            self.queue.insert((self.now, self.queued), event);
        }
        let actions = resume(&self.world);
        self.act(actions);
    }

    fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            let ms = self.now.0 / 1_000_000 - 1_000_000;
            self.outcome.trace.push(format!("{ms:>9} ms  {}", line()));
        }
    }
}

fn copy<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("state is JSON");
    serde_json::from_str(&text).expect("and comes back")
}
