//! What a step means for a task's container, as Docker's events tell it.

use dockerapi::spec;
use orchestrator::{Action, Event, Observation, Observed, Task, World};
use serde_json::{Map, Value, json};

use super::name::{container_id, task_name};

/// A task before a step, and the exit code that the step is about.
#[derive(Clone, Debug)]
pub(super) struct Before {
    task: Task,
    exit_code: Option<i32>,
}

impl Before {
    /// The one task that the event is about.
    pub(super) fn of(world: &World, event: &Event) -> Option<Self> {
        let Event::Observed { task, what } = event else { return None };
        let exit_code = match what {
            Observation::Exited { exit_code, .. } => *exit_code,
            _ => None,
        };
        Some(Self { task: world.task(task)?.clone(), exit_code })
    }
}

/// Container id, action and attributes of each event.
pub(super) fn since(
    world: &World,
    before: Option<Before>,
    actions: &[Action],
) -> Vec<(String, String, Value)> {
    let mut told = Vec::new();
    let mut tell = |task: &Task, action: &str, more: More| {
        let attributes = attributes(world, task, more);
        told.push((container_id(&task.id), action.to_owned(), attributes));
    };
    if let Some(before) = before {
        let after = world.task(&before.task.id);
        for (action, more) in moments(&before.task, after, before.exit_code) {
            tell(&before.task, action, more);
        }
    }
    for action in actions {
        if let Action::Stop { task } = action
            && let Some(task) = world.task(task).filter(|task| task.is_started)
        {
            tell(task, "kill", vec![("signal", stop_signal(task))]);
        }
    }
    told
}

type More = Vec<(&'static str, String)>;

/// `after` is none when the step removed the task with its end.
fn moments(before: &Task, after: Option<&Task>, code: Option<i32>) -> Vec<(&'static str, More)> {
    let die = ("die", vec![("exitCode", code.unwrap_or(0).to_string())]);
    let Some(after) = after else {
        let was_there = before.is_started && !before.observed.is_end();
        return if was_there { vec![die, ("destroy", Vec::new())] } else { Vec::new() };
    };
    let (old, new) = (before.observed, after.observed);
    let reaches = |state: Observed| old < state && new >= state && !new.is_end();
    let mut moments: Vec<(&'static str, More)> = Vec::new();
    if reaches(Observed::Ready) {
        moments.push(("create", Vec::new()));
    }
    if reaches(Observed::Starting) {
        moments.push(("start", Vec::new()));
    }
    if after.spec.has_health_check && reaches(Observed::Running) {
        moments.push(("health_status: healthy", Vec::new()));
    }
    if after.is_unhealthy && !before.is_unhealthy {
        moments.push(("health_status: unhealthy", Vec::new()));
    }
    if !old.is_end() && new.is_end() && after.is_started {
        moments.push(die);
    }
    moments
}

fn container_spec(task: &Task) -> spec::ContainerSpec {
    let definition: spec::Definition =
        serde_json::from_str(&task.spec.definition).unwrap_or_default();
    definition.task_template.container_spec.unwrap_or_default()
}

fn stop_signal(task: &Task) -> String {
    let named = container_spec(task).stop_signal;
    crate::driver::plan::signal_number(&named).unwrap_or(15).to_string()
}

fn attributes(world: &World, task: &Task, more: More) -> Value {
    let spec = container_spec(task);
    let mut all: Map<String, Value> =
        spec.labels.into_iter().map(|(key, value)| (key, json!(value))).collect();
    let service = world.service(&task.service).map_or("", |service| &service.spec.name);
    let known = [
        ("image", spec.image.as_str()),
        ("name", &task_name(world, task)),
        ("com.docker.swarm.node.id", &task.node),
        ("com.docker.swarm.service.id", &task.service.0),
        ("com.docker.swarm.service.name", service),
        ("com.docker.swarm.task.id", &task.id.0),
        ("com.docker.swarm.task.name", &task_name(world, task)),
    ]
    .map(|(key, value)| (key.to_owned(), json!(value)));
    all.extend(known);
    all.extend(more.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_created_started_healthy_and_dies_in_this_order() {
        let steps = [
            (Observed::Preparing, Observed::Ready, "create"),
            (Observed::Ready, Observed::Starting, "start"),
            (Observed::Starting, Observed::Running, "health_status: healthy"),
            (Observed::Running, Observed::Failed, "die"),
        ];
        let mut before: Task = serde_json::from_value(task()).expect("a task");
        let mut after = before.clone();
        for (old, new, wanted) in steps {
            (before.observed, after.observed) = (old, new);
            let told = moments(&before, Some(&after), Some(1));
            let told: Vec<&str> = told.into_iter().map(|(action, _)| action).collect();
            assert_eq!(told, [wanted]);
        }
        let told = moments(&before, None, Some(0));
        assert_eq!(told[0], ("die", vec![("exitCode", "0".to_owned())]));
    }

    /// As it is saved.
    fn task() -> Value {
        let mut world = World::new(1, vec!["node".to_owned()], 5);
        let task = orchestrator::TaskSpec {
            definition: "{}".into(),
            restart: orchestrator::RestartPolicy::default(),
            has_health_check: true,
            has_traffic: false,
            needs: orchestrator::Needs::default(),
        };
        let spec = orchestrator::ServiceSpec {
            name: "s".to_owned(),
            mode: orchestrator::Mode::Replicated { replicas: 1 },
            task,
            update: orchestrator::UpdateConfig::default(),
            rollback: orchestrator::UpdateConfig::default(),
            raw: "{}".into(),
        };
        let id = orchestrator::ServiceId("s".to_owned());
        let created = Event::ServiceCreated { id, spec, version: 1 };
        orchestrator::step(&mut world, orchestrator::Time(1), created);
        let task = world.tasks().next().expect("a task");
        let mut task = serde_json::to_value(task).expect("JSON");
        task["is_started"] = json!(true);
        task
    }
}
