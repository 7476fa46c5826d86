//! The simulated operator: creates, releases good and bad revisions, scales, rolls back, removes.

use std::time::Duration;

use orchestrator::{
    Availability, Event, FailureAction, HostPort, Mode, Needs, Node, RestartCondition,
    RestartPolicy, ServiceId, ServiceSpec, TaskSpec, UpdateConfig, UpdateOrder, World,
};

use super::driver::{Behaviour, Driver};
use crate::chance::Chance;

#[derive(Debug)]
pub struct Operator {
    revision: u64,
    version: u64,
    bad_percent: u64,
    /// Drains and pauses the node now and then.
    is_maintaining: bool,
}

impl Operator {
    pub fn new(chance: &mut Chance) -> Self {
        let bad_percent = *chance.one_of(&[0, 30, 60]);
        Self { revision: 0, version: 0, bad_percent, is_maintaining: chance.happens(30) }
    }

    /// The next thing an operator does.
    pub fn command(
        &mut self,
        chance: &mut Chance,
        world: &World,
        driver: &mut Driver,
    ) -> Option<Event> {
        self.version += 1;
        let version = self.version;
        let services: Vec<ServiceId> =
            world.services().filter(|s| !s.is_removed).map(|s| s.id.clone()).collect();
        if services.is_empty() || (services.len() < 3 && chance.happens(20)) {
            let id = ServiceId(format!("service{version}"));
            // A first revision that works: what a rollback goes back to.
            let spec = if chance.happens(25) {
                self.job(chance, driver)
            } else {
                self.spec(chance, driver, 0)
            };
            return Some(Event::ServiceCreated { id, spec, version });
        }
        if self.is_maintaining && chance.happens(10) {
            let closed = *chance.one_of(&[Availability::Pause, Availability::Drain]);
            return Some(Event::NodeChanged(node(closed)));
        }
        let id = chance.one_of(&services).clone();
        if world.service(&id)?.spec.mode.is_job() {
            return self.job_command(chance, world, driver, id);
        }
        let mut spec = world.service(&id)?.spec.clone();
        match chance.below(10) {
            0..=4 => {
                let new = self.spec(chance, driver, self.bad_percent);
                spec.task = new.task;
                spec.task.has_traffic = world.service(&id)?.spec.task.has_traffic;
                spec.update = new.update;
            }
            5..=6 => {
                if let Mode::Replicated { replicas } = &mut spec.mode {
                    *replicas = u32::try_from(chance.below(6)).unwrap_or(1);
                }
            }
            7 => return Some(Event::RollbackRequested { id }),
            8 => {}
            _ if chance.happens(30) => return Some(Event::ServiceRemoved { id }),
            _ => return None,
        }
        Some(Event::ServiceUpdated { id, spec, version })
    }

    /// What is done with a job: run anew, asked for more, deployed once more, taken back.
    fn job_command(
        &mut self,
        chance: &mut Chance,
        world: &World,
        driver: &mut Driver,
        id: ServiceId,
    ) -> Option<Event> {
        let version = self.version;
        let service = world.service(&id)?;
        let mut spec = service.spec.clone();
        match chance.below(8) {
            0 | 1 => spec.task = self.job(chance, driver).task,
            2 => {
                if let Mode::ReplicatedJob { total, .. } = &mut spec.mode {
                    *total = u32::try_from(chance.below(8)).unwrap_or(1);
                }
            }
            3 => {
                let (_, spec) = service.previous.clone()?;
                return Some(Event::JobTakenBack { id, spec, version });
            }
            4 => return Some(Event::RollbackRequested { id }),
            5 => {}
            _ if chance.happens(20) => return Some(Event::ServiceRemoved { id }),
            _ => return None,
        }
        Some(Event::ServiceUpdated { id, spec, version })
    }

    fn job(&mut self, chance: &mut Chance, driver: &mut Driver) -> ServiceSpec {
        let mut spec = self.spec(chance, driver, 0);
        let ms = chance.below(30_000);
        let bad_percent = *chance.one_of(&[0, 20, 50, 100]);
        driver.set_behaviour(&spec.task.definition, Behaviour::EndsSomehow { ms, bad_percent });
        spec.mode = if chance.happens(20) {
            Mode::GlobalJob
        } else {
            let max_concurrent = u32::try_from(1 + chance.below(3)).unwrap_or(1);
            Mode::ReplicatedJob { max_concurrent, total: max_concurrent * 2 }
        };
        spec.update = UpdateConfig::default();
        // Attempts that outlive the window are forgotten: such a job may go on for ever.
        spec.task.restart.window = Duration::ZERO;
        spec
    }

    fn spec(&mut self, chance: &mut Chance, driver: &mut Driver, bad_percent: u64) -> ServiceSpec {
        self.revision += 1;
        let definition = format!("revision {}", self.revision);
        let behaviour = if chance.happens(bad_percent) {
            let ms = chance.below(20_000);
            *chance.one_of(&[
                Behaviour::ImageMissing,
                Behaviour::CrashesBeforeReady,
                Behaviour::NeverReady,
                Behaviour::CrashesAfter { ms },
                Behaviour::LiesThenUnhealthy { ms },
                Behaviour::EndsWithZero { ms },
            ])
        } else {
            Behaviour::Good
        };
        driver.set_behaviour(&definition, behaviour);
        let mode = if chance.happens(15) {
            Mode::Global
        } else {
            Mode::Replicated { replicas: u32::try_from(1 + chance.below(4)).unwrap_or(1) }
        };
        let window = Duration::from_secs(*chance.one_of(&[0, 5, 120]));
        let restart = RestartPolicy {
            condition: *chance.one_of(&[
                RestartCondition::OnFailure,
                RestartCondition::OnFailure,
                RestartCondition::Any,
                RestartCondition::None,
            ]),
            delay: chance.between(0, 5000),
            max_attempts: 1 + chance.below(4),
            window,
        };
        ServiceSpec {
            name: "service".to_owned(),
            mode,
            task: TaskSpec {
                definition: definition.into(),
                restart,
                has_health_check: chance.happens(50),
                has_traffic: chance.happens(60),
                needs: needs(chance),
            },
            update: update(chance),
            rollback: update(chance),
            raw: "".into(),
        }
    }
}

/// The one node, with room for a hundred.
pub fn node(availability: Availability) -> Node {
    Node {
        id: "node".to_owned(),
        availability,
        memory_bytes: Some(100),
        nano_cpus: Some(100),
        ..Node::default()
    }
}

fn needs(chance: &mut Chance) -> Needs {
    let port = HostPort { protocol: "tcp".to_owned(), port: 8080 };
    match chance.below(10) {
        0 => Needs { memory_bytes: 10, ..Needs::default() },
        1 => Needs { nano_cpus: 30, ..Needs::default() },
        2 => Needs { max_per_node: 2, ..Needs::default() },
        3 => Needs { host_ports: vec![port], ..Needs::default() },
        _ => Needs::default(),
    }
}

fn update(chance: &mut Chance) -> UpdateConfig {
    UpdateConfig {
        parallelism: *chance.one_of(&[1, 1, 2, 0]),
        delay: Duration::from_secs(*chance.one_of(&[0, 1, 30])),
        failure_action: *chance.one_of(&[
            FailureAction::Rollback,
            FailureAction::Rollback,
            FailureAction::Pause,
            FailureAction::Continue,
        ]),
        monitor: Duration::from_millis(*chance.one_of(&[0, 1000, 5000])),
        max_failure_ratio: *chance.one_of(&[0.0, 0.0, 0.3]),
        order: *chance.one_of(&[UpdateOrder::StartFirst, UpdateOrder::StopFirst]),
        progress_deadline: Duration::from_secs(*chance.one_of(&[20, 60])),
    }
}
