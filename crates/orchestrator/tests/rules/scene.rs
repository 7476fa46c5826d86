//! A world with a driver and an ingress that answer at once, unless told to leave it.

use std::time::Duration;

use orchestrator::{
    Action, Desired, Event, FailureAction, Mode, Observation, Observed, RestartCondition,
    RestartPolicy, RolloutState, Service, ServiceId, ServiceSpec, SlotKey, Task, TaskId, TaskSpec,
    Time, UpdateConfig, UpdateOrder, World, check, next_deadline, step,
};

pub struct Scene {
    pub world: World,
    pub now: Time,
    pub spec: ServiceSpec,
    /// Every action so far.
    pub asked: Vec<Action>,
    /// Kinds of action that the driver leaves unanswered, of tasks of this definition.
    pub ignores: Vec<(&'static str, &'static str)>,
    queue: Vec<Action>,
    version: u64,
}

pub fn id() -> ServiceId {
    ServiceId("app".to_owned())
}

/// Start-first with traffic, one slot at a time, monitor 5 s, rollback on failure.
pub fn spec(replicas: u32) -> ServiceSpec {
    let update = UpdateConfig {
        failure_action: FailureAction::Rollback,
        order: UpdateOrder::StartFirst,
        progress_deadline: Duration::from_secs(60),
        ..UpdateConfig::default()
    };
    let restart = RestartPolicy {
        condition: RestartCondition::OnFailure,
        delay: Duration::from_secs(5),
        max_attempts: 3,
        window: Duration::from_secs(120),
    };
    ServiceSpec {
        name: "app".to_owned(),
        mode: Mode::Replicated { replicas },
        task: TaskSpec {
            definition: "one".into(),
            restart,
            has_health_check: true,
            has_traffic: true,
            needs: orchestrator::Needs::default(),
        },
        update,
        rollback: UpdateConfig { failure_action: FailureAction::Pause, ..update },
        raw: "{}".into(),
    }
}

impl Scene {
    /// The service of `spec`, running and settled.
    pub fn settled(spec: ServiceSpec) -> Self {
        let mut scene = Self {
            world: World::new(7, vec!["node".to_owned()], 5),
            now: Time(1_000_000_000_000),
            spec: spec.clone(),
            asked: Vec::new(),
            ignores: Vec::new(),
            queue: Vec::new(),
            version: 1,
        };
        scene.happens(Event::ServiceCreated { id: id(), spec, version: 1 });
        scene.obey();
        scene.pass(30);
        scene
    }

    pub fn happens(&mut self, event: Event) {
        let actions = step(&mut self.world, self.now, event.clone());
        self.asked.extend(actions.iter().cloned());
        self.queue.extend(actions);
        let broken = check(&self.world);
        assert!(broken.is_empty(), "after {event:?}: {broken:#?}");
    }

    pub fn observe(&mut self, task: &TaskId, what: Observation) {
        self.happens(Event::Observed { task: task.clone(), what });
    }

    /// Ends a task by itself, and lets everything follow.
    pub fn exit(&mut self, task: &TaskId, code: i32) {
        let error = (code != 0).then(|| format!("task: non-zero exit ({code})"));
        self.observe(task, Observation::Exited { exit_code: Some(code), error });
        self.obey();
    }

    pub fn update(&mut self, change: impl FnOnce(&mut ServiceSpec)) {
        self.version += 1;
        change(&mut self.spec);
        let (spec, version) = (self.spec.clone(), self.version);
        self.happens(Event::ServiceUpdated { id: id(), spec, version });
        self.obey();
    }

    pub fn release(&mut self, definition: &str) {
        self.update(|spec| spec.task.definition = definition.into());
    }

    pub fn ignore(&mut self, kind: &'static str, definition: &'static str) {
        self.ignores.push((kind, definition));
    }

    /// Answers all open actions, and those that follow.
    pub fn obey(&mut self) {
        while !self.queue.is_empty() {
            for action in std::mem::take(&mut self.queue) {
                self.answer(action);
            }
        }
    }

    fn answer(&mut self, action: Action) {
        let (kind, task) = parts(&action);
        let Some(definition) = self.world.task(&task).map(|t| t.spec.definition.clone()) else {
            return;
        };
        if self.ignores.iter().any(|(k, d)| *k == kind && **d == *definition) {
            return;
        }
        match action {
            Action::Prepare { task } => self.observe(&task, Observation::Ready),
            Action::Start { task } => {
                self.observe(&task, Observation::Starting);
                self.observe(&task, Observation::Running { address: None });
            }
            Action::Publish { task } => self.happens(Event::Published { task }),
            Action::Drain { task } => self.happens(Event::Drained { task }),
            Action::Stop { task } => {
                self.observe(&task, Observation::Exited { exit_code: Some(143), error: None });
            }
            Action::Forget { .. } => {}
        }
    }

    /// Lets `seconds` go by: every deadline is kept, every action answered.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = next_deadline(&self.world).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.happens(Event::Tick);
            self.obey();
        }
        self.now = end;
    }

    pub fn service(&self) -> &Service {
        self.world.service(&id()).expect("the service is there")
    }

    pub fn state(&self) -> Option<RolloutState> {
        self.service().rollout.as_ref().map(|status| status.state)
    }

    pub fn message(&self) -> &str {
        self.service().rollout.as_ref().map_or("", |status| &status.message)
    }

    pub fn task(&self, id: &TaskId) -> &Task {
        self.world.task(id).expect("the task is there")
    }

    /// Live tasks of a definition, by slot.
    pub fn live(&self, definition: &str) -> Vec<TaskId> {
        self.world
            .tasks_of(&id())
            .filter(|task| task.is_live() && &*task.spec.definition == definition)
            .map(|task| task.id.clone())
            .collect()
    }

    pub fn serving(&self) -> usize {
        self.world.tasks_of(&id()).filter(|task| task.is_serving()).count()
    }

    pub fn newest(&self, slot: u32) -> &Task {
        let mut tasks = self.world.tasks_in(&id(), &SlotKey::Replica(slot));
        tasks.next_back().expect("the slot has a task")
    }

    pub fn count(&self, definition: &str) -> usize {
        self.world.tasks_of(&id()).filter(|task| &*task.spec.definition == definition).count()
    }

    /// Whether this was asked for.
    pub fn asked(&self, kind: &str, task: &TaskId) -> bool {
        self.asked.iter().any(|action| parts(action) == (kind, task.clone()))
    }

    /// Tasks that nobody ever started and that ended all the same.
    pub fn never_started(&self) -> usize {
        let is_spurious = |task: &&Task| {
            !task.is_started
                && task.observed == Observed::Shutdown
                && task.desired != Desired::Remove
        };
        self.world.tasks_of(&id()).filter(is_spurious).count()
    }
}

fn parts(action: &Action) -> (&'static str, TaskId) {
    match action {
        Action::Prepare { task } => ("prepare", task.clone()),
        Action::Start { task } => ("start", task.clone()),
        Action::Publish { task } => ("publish", task.clone()),
        Action::Drain { task } => ("drain", task.clone()),
        Action::Stop { task } => ("stop", task.clone()),
        Action::Forget { task } => ("forget", task.clone()),
    }
}
