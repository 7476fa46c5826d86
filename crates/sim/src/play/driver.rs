//! The simulated driver and ingress: processes that start slowly, crash, hang and lie; reports and
//! acknowledgements that are late or come twice.

use std::{collections::BTreeMap, time::Duration};

use orchestrator::{Action, Desired, Event, Observation, Observed, TaskId, Time, Traffic, World};

use crate::chance::Chance;

/// How the processes of a revision behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    ImageMissing,
    CrashesBeforeReady,
    NeverReady,
    CrashesAfter {
        ms: u64,
    },
    LiesThenUnhealthy {
        ms: u64,
    },
    EndsWithZero {
        ms: u64,
    },
    /// Ends with 0 mostly, and with 1 now and then: a job.
    EndsSomehow {
        ms: u64,
        bad_percent: u64,
    },
}

impl Behaviour {
    /// Runs for ever once started.
    pub fn is_good(self) -> bool {
        self == Self::Good
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Prepared,
    Started,
    Running,
    Ended,
}

/// Everything outside the orchestrator.
#[derive(Debug)]
pub struct Driver {
    processes: BTreeMap<TaskId, Process>,
    behaviour_of: BTreeMap<String, Behaviour>,
    definition_of: BTreeMap<TaskId, String>,
    is_slow: bool,
    repeats_percent: u64,
}

impl Driver {
    pub fn new(chance: &mut Chance) -> Self {
        Self {
            processes: BTreeMap::new(),
            behaviour_of: BTreeMap::new(),
            definition_of: BTreeMap::new(),
            is_slow: chance.happens(30),
            repeats_percent: *chance.one_of(&[0, 5]),
        }
    }

    pub fn behaviours(&self) -> BTreeMap<String, Behaviour> {
        self.behaviour_of.clone()
    }

    pub fn set_behaviour(&mut self, definition: &str, behaviour: Behaviour) {
        self.behaviour_of.insert(definition.to_owned(), behaviour);
    }

    /// What the process itself knows of an event: that it ended.
    pub fn seen(&mut self, event: &Event) {
        let Event::Observed { task, what } = event else { return };
        let process = match what {
            Observation::Ready => Process::Prepared,
            Observation::Starting => Process::Started,
            Observation::Running { .. } => Process::Running,
            Observation::Exited { .. } | Observation::Rejected { .. } => Process::Ended,
            Observation::Preparing | Observation::Unhealthy { .. } => return,
        };
        if self.processes.get(task) != Some(&Process::Ended) {
            self.processes.insert(task.clone(), process);
        }
    }

    /// What comes of an action, and after how long.
    pub fn perform(
        &mut self,
        chance: &mut Chance,
        _now: Time,
        action: Action,
    ) -> Vec<(Duration, Event)> {
        let slow = if self.is_slow { 20 } else { 1 };
        let mut events = match action {
            Action::Prepare { task } => self.prepare(chance, task, slow),
            Action::Start { task } => self.start(chance, task, slow),
            Action::Publish { task } => {
                vec![(chance.between(1, 100 * slow), Event::Published { task })]
            }
            Action::Drain { task } => {
                let at_most = if chance.happens(20) { 30_000 } else { 200 };
                vec![(chance.between(0, at_most), Event::Drained { task })]
            }
            Action::Stop { task } => {
                let exit = Observation::Exited {
                    exit_code: Some(*chance.one_of(&[0, 143, 137])),
                    error: None,
                };
                vec![(chance.between(1, 10_000), Event::Observed { task, what: exit })]
            }
            Action::Forget { task } => {
                self.processes.remove(&task);
                Vec::new()
            }
        };
        if chance.happens(self.repeats_percent) {
            let again: Vec<_> = events
                .iter()
                .map(|(at, event)| (*at + chance.between(0, 5000), event.clone()))
                .collect();
            events.extend(again);
        }
        events
    }

    fn behaviour(&self, task: &TaskId) -> Behaviour {
        let definition = self.definition_of.get(task);
        definition.and_then(|d| self.behaviour_of.get(d)).copied().unwrap_or(Behaviour::Good)
    }

    fn prepare(&mut self, chance: &mut Chance, task: TaskId, slow: u64) -> Vec<(Duration, Event)> {
        let at = chance.between(1, 50 * slow);
        let what = match self.behaviour(&task) {
            Behaviour::ImageMissing => {
                Observation::Rejected { error: "No such image: x:1".to_owned() }
            }
            _ => Observation::Ready,
        };
        vec![
            (Duration::ZERO, Event::Observed { task: task.clone(), what: Observation::Preparing }),
            (at, Event::Observed { task, what }),
        ]
    }

    /// Starts it once; a second start of a living process changes nothing.
    fn start(&mut self, chance: &mut Chance, task: TaskId, slow: u64) -> Vec<(Duration, Event)> {
        if !matches!(self.processes.get(&task), None | Some(Process::Prepared)) {
            return Vec::new();
        }
        self.processes.insert(task.clone(), Process::Started);
        let observed = |what| Event::Observed { task: task.clone(), what };
        let exit = |code: i32| Observation::Exited {
            exit_code: Some(code),
            error: (code != 0).then(|| format!("task: non-zero exit ({code})")),
        };
        let ready = chance.between(5, 300 * slow);
        let mut events = vec![(Duration::from_millis(1), observed(Observation::Starting))];
        let behaviour = self.behaviour(&task);
        match behaviour {
            Behaviour::CrashesBeforeReady => events.push((ready, observed(exit(1)))),
            Behaviour::NeverReady | Behaviour::ImageMissing => {}
            _ => events.push((ready, observed(Observation::Running { address: None }))),
        }
        match behaviour {
            Behaviour::CrashesAfter { ms } => {
                events.push((ready + Duration::from_millis(ms), observed(exit(3))));
            }
            Behaviour::EndsWithZero { ms } => {
                events.push((ready + Duration::from_millis(ms), observed(exit(0))));
            }
            Behaviour::EndsSomehow { ms, bad_percent } => {
                let code = i32::from(chance.happens(bad_percent));
                events.push((ready + chance.between(0, ms), observed(exit(code))));
            }
            Behaviour::LiesThenUnhealthy { ms } => events.push((
                ready + Duration::from_millis(ms),
                observed(Observation::Unhealthy { error: "503".to_owned() }),
            )),
            Behaviour::Good if chance.happens(3) => {
                events.push((ready + chance.between(100, 120_000), observed(exit(9))));
            }
            _ => {}
        }
        events
    }

    /// Where every task stands, for an engine that was started again. What was on its way to the
    /// old engine still comes: reports are kept by the supervisors.
    pub fn adopt(&mut self, world: &World) -> Vec<Event> {
        world
            .tasks()
            .filter(|task| !task.observed.is_end())
            .filter_map(|task| {
                let what = match self.processes.get(&task.id)? {
                    Process::Prepared => Observation::Ready,
                    Process::Started => Observation::Starting,
                    Process::Running => Observation::Running { address: None },
                    Process::Ended => Observation::Exited { exit_code: Some(1), error: None },
                };
                Some(Event::Observed { task: task.id.clone(), what })
            })
            .collect()
    }

    /// Learns which revision a task runs, before it is prepared.
    pub fn learn(&mut self, world: &World) {
        for task in world.tasks() {
            if !self.definition_of.contains_key(&task.id) {
                self.definition_of.insert(task.id.clone(), task.spec.definition.to_string());
            }
        }
        debug_assert!(world.tasks().all(|t| t.desired <= Desired::Remove
            && t.observed <= Observed::Rejected
            && t.traffic <= Traffic::Drained));
    }
}
