//! Jobs: so many completions, so many at a time, attempts and delays kept. B16 is what Swarm gets
//! wrong about each.

use std::time::Duration;

use orchestrator::{
    Event, JobCount, Mode, Observation, Observed, RestartCondition, ServiceSpec, SlotKey, Task,
    TaskId, next_deadline,
};

use crate::scene::{Scene, id, spec};

fn job(max_concurrent: u32, total: u32) -> ServiceSpec {
    let mut job = spec(0);
    job.mode = Mode::ReplicatedJob { max_concurrent, total };
    job.task.has_health_check = false;
    job.task.has_traffic = false;
    job.task.restart.window = Duration::ZERO;
    job
}

fn count(scene: &Scene) -> JobCount {
    scene.world.job(scene.service()).expect("a job")
}

fn running(scene: &Scene) -> Vec<TaskId> {
    let tasks = scene.world.tasks_of(&id());
    let is_running = |task: &&Task| task.observed == Observed::Running;
    tasks.filter(is_running).map(|task| task.id.clone()).collect()
}

/// Ends everything that runs with this code, until nothing runs any more.
fn run_out(scene: &mut Scene, code: i32) {
    for _ in 0..100 {
        for task in running(scene) {
            scene.exit(&task, code);
        }
        scene.pass(10);
        if running(scene).is_empty() && next_deadline(&scene.world).is_none() {
            return;
        }
    }
    panic!("it goes on for ever: {:?}", count(scene));
}

#[test]
fn a_job_runs_as_many_at_a_time_as_it_may_until_all_completions_are_there() {
    let mut scene = Scene::settled(job(2, 5));
    let mut seen = 0;
    while let Some(task) = running(&scene).first().cloned() {
        assert!(running(&scene).len() <= 2);
        scene.exit(&task, 0);
        seen += 1;
    }
    assert_eq!(seen, 5);
    assert!(count(&scene).is_complete());
    assert_eq!(scene.state(), None);
    let slots: Vec<_> = scene.world.tasks_of(&id()).map(|task| task.slot.clone()).collect();
    assert_eq!(slots, (1..=5).map(SlotKey::Replica).collect::<Vec<_>>());
}

/// B16: the delay of the restart policy passes between two attempts.
#[test]
fn a_failed_attempt_is_repeated_in_its_slot_after_the_delay() {
    let mut scene = Scene::settled(job(1, 1));
    let first = scene.newest(1).id.clone();
    scene.exit(&first, 3);
    let second = scene.newest(1).clone();
    assert_eq!(second.slot, SlotKey::Replica(1));
    assert!(!scene.asked("start", &second.id));
    scene.pass(4);
    assert!(!scene.asked("start", &second.id));
    scene.pass(2);
    assert!(scene.asked("start", &second.id));
    scene.exit(&second.id, 0);
    assert!(count(&scene).is_complete());
}

/// B16: `max_attempts` ends it, and what did not fail is completed all the same.
#[test]
fn a_slot_whose_attempts_are_used_up_is_given_up_and_the_others_go_on() {
    let mut base = job(2, 4);
    base.task.restart.max_attempts = 1;
    let mut scene = Scene::settled(base);
    let task = scene.newest(1).id.clone();
    scene.exit(&task, 1);
    scene.pass(6);
    let task = scene.newest(1).id.clone();
    scene.exit(&task, 1);
    run_out(&mut scene, 0);
    let count = count(&scene);
    assert_eq!((count.completed, count.given_up), (3, 1));
    let (_, why) = scene.service().parked().next().expect("given up");
    assert_eq!(why, "slot 1 stopped: 1 restart, last error: task: non-zero exit (1)");
    assert_eq!(scene.world.tasks_in(&id(), &SlotKey::Replica(1)).count(), 2);
}

#[test]
fn with_the_condition_none_a_failure_is_final_and_any_means_on_failure() {
    let mut base = job(1, 1);
    base.task.restart.condition = RestartCondition::None;
    let mut scene = Scene::settled(base);
    run_out(&mut scene, 1);
    assert_eq!(count(&scene).given_up, 1);
    assert_eq!(scene.count("one"), 1);
    let mut base = job(1, 1);
    base.task.restart.condition = RestartCondition::Any;
    let mut scene = Scene::settled(base);
    run_out(&mut scene, 0);
    assert!(count(&scene).is_complete());
    assert_eq!(scene.count("one"), 1);
}

/// B16: the same stack deployed once more runs nothing again.
#[test]
fn an_unchanged_job_is_not_run_again() {
    let mut scene = Scene::settled(job(2, 2));
    run_out(&mut scene, 0);
    scene.update(|_| {});
    assert_eq!(scene.service().job.iteration, 0);
    assert!(running(&scene).is_empty());
    assert_eq!(scene.count("one"), 2);
}

#[test]
fn an_unchanged_job_tries_again_what_was_given_up_and_only_that() {
    let mut base = job(1, 2);
    base.task.restart.condition = RestartCondition::None;
    let mut scene = Scene::settled(base);
    let task = scene.newest(1).id.clone();
    scene.exit(&task, 1);
    run_out(&mut scene, 0);
    assert_eq!((count(&scene).completed, count(&scene).given_up), (1, 1));
    scene.update(|_| {});
    assert_eq!(running(&scene).len(), 1);
    run_out(&mut scene, 0);
    assert!(count(&scene).is_complete());
    assert_eq!(scene.count("one"), 3);
}

#[test]
fn more_completions_run_what_is_missing_and_fewer_leave_nothing_of_the_rest() {
    let mut scene = Scene::settled(job(2, 2));
    run_out(&mut scene, 0);
    scene.update(|spec| spec.mode = Mode::ReplicatedJob { max_concurrent: 2, total: 3 });
    assert_eq!(running(&scene).len(), 1);
    run_out(&mut scene, 0);
    assert_eq!(scene.count("one"), 3);
    scene.update(|spec| spec.mode = Mode::ReplicatedJob { max_concurrent: 2, total: 1 });
    assert_eq!(scene.count("one"), 1);
    assert!(count(&scene).is_complete());
}

#[test]
fn a_changed_job_begins_an_iteration_once_the_one_before_has_stopped() {
    let mut scene = Scene::settled(job(1, 1));
    scene.ignore("stop", "one");
    let old = scene.newest(1).id.clone();
    scene.release("two");
    assert_eq!(scene.service().job.iteration, 1);
    assert_eq!(scene.count("two"), 0, "nothing runs beside the old one");
    scene.exit(&old, 143);
    let new = scene.newest(1).clone();
    assert_eq!((&*new.spec.definition, new.iteration), ("two", Some(1)));
    run_out(&mut scene, 0);
    assert!(count(&scene).is_complete());
}

/// B16: history is pruned as that of any service.
#[test]
fn a_job_s_history_is_kept_up_to_the_limit() {
    let mut scene = Scene::settled(job(1, 1));
    for run in 0..12 {
        scene.release(&format!("run {run}"));
        run_out(&mut scene, 0);
    }
    assert_eq!(scene.world.tasks_of(&id()).count(), 5);
}

/// B16: nothing is left of a removed job, what had ended included.
#[test]
fn a_removed_job_leaves_nothing() {
    let mut scene = Scene::settled(job(1, 3));
    let task = scene.newest(1).id.clone();
    scene.exit(&task, 0);
    scene.happens(Event::ServiceRemoved { id: id() });
    scene.obey();
    assert!(scene.world.service(&id()).is_none());
    assert_eq!(scene.world.tasks().count(), 0);
    assert_eq!(next_deadline(&scene.world), None);
}

#[test]
fn a_job_that_goes_back_is_not_run_again_and_counts_what_it_did() {
    let mut scene = Scene::settled(job(2, 2));
    run_out(&mut scene, 0);
    let before = scene.service().spec.clone();
    scene.release("two");
    assert_eq!(running(&scene).len(), 2);
    scene.happens(Event::JobTakenBack { id: id(), spec: before.clone(), version: 9 });
    scene.obey();
    assert!(running(&scene).is_empty());
    assert!(count(&scene).is_complete());
    scene.spec = before;
    scene.update(|_| {});
    assert!(running(&scene).is_empty());
    scene.release("three");
    assert_eq!(scene.service().job.iteration, 3, "no number is used twice");
    assert_eq!(running(&scene).len(), 2);
}

#[test]
fn a_rollback_by_hand_runs_the_earlier_job_as_any_update_does() {
    let mut scene = Scene::settled(job(1, 1));
    run_out(&mut scene, 0);
    scene.release("two");
    run_out(&mut scene, 0);
    scene.happens(Event::RollbackRequested { id: id() });
    scene.obey();
    assert_eq!(scene.service().job.iteration, 2);
    assert_eq!(running(&scene).len(), 1);
}

#[test]
fn a_global_job_completes_once_on_each_node() {
    let mut base = job(1, 1);
    base.mode = Mode::GlobalJob;
    let mut scene = Scene::settled(base);
    assert_eq!(count(&scene).at_once, 1);
    run_out(&mut scene, 0);
    let done = count(&scene);
    assert_eq!((done.completed, done.total, done.at_once), (1, 1, 0));
}

#[test]
fn an_unhealthy_task_of_a_job_is_an_attempt_that_failed() {
    let mut scene = Scene::settled(job(1, 1));
    let task = scene.newest(1).id.clone();
    scene.observe(&task, Observation::Unhealthy { error: "503".to_owned() });
    scene.obey();
    assert_eq!(scene.task(&task).observed, Observed::Failed);
    scene.pass(6);
    assert_eq!(running(&scene).len(), 1);
    run_out(&mut scene, 0);
    assert!(count(&scene).is_complete());
}

#[test]
fn a_restart_of_the_engine_loses_no_completion_and_no_attempt() {
    let mut base = job(1, 3);
    base.task.restart.max_attempts = 1;
    let mut scene = Scene::settled(base);
    let mut codes = [0, 1, 1, 0].into_iter();
    while let (Some(task), Some(code)) = (running(&scene).first().cloned(), codes.next()) {
        scene.exit(&task, code);
        scene.world = crate::store::restored(&scene.world);
        scene.pass(6);
    }
    let count = count(&scene);
    assert_eq!((count.completed, count.given_up), (2, 1));
    assert!(running(&scene).is_empty());
}
