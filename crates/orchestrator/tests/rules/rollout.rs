//! Rolling updates.

use std::time::Duration;

use orchestrator::{FailureAction, Observation, Observed, RolloutState, Traffic, UpdateOrder};

use crate::scene::{Scene, spec};

#[test]
fn a_start_first_update_keeps_every_replica_ready() {
    let mut scene = Scene::settled(spec(3));
    scene.release("two");
    for _ in 0..40 {
        assert!(scene.serving() >= 3, "{} serve", scene.serving());
        scene.pass(1);
    }
    assert_eq!(scene.state(), Some(RolloutState::Completed));
    assert_eq!((scene.live("one").len(), scene.live("two").len()), (0, 3));
}

/// B1: a new task that is ready does not push the old one out before it has proved itself.
#[test]
fn a_crash_in_the_monitor_time_finds_the_old_task_still_serving() {
    let mut scene = Scene::settled(spec(1));
    let old = scene.live("one").remove(0);
    scene.release("two");
    scene.pass(4);
    let new = scene.live("two").remove(0);
    assert_eq!(scene.serving(), 2);
    scene.exit(&new, 1);
    assert!(scene.task(&old).is_serving());
    assert!(!scene.asked("drain", &old));
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
}

/// B2: an update that changes no task leaves the old one until the new one is observed serving.
#[test]
fn a_scale_during_an_update_stops_no_old_task_before_the_new_one_serves() {
    let mut scene = Scene::settled(spec(2));
    scene.ignore("start", "two");
    scene.release("two");
    scene.update(|spec| spec.mode = orchestrator::Mode::Replicated { replicas: 3 });
    scene.pass(10);
    assert_eq!(scene.live("one").len(), 2);
    assert_eq!(scene.state(), Some(RolloutState::Updating));
}

/// B18 and the handshake: published first, then the old one drains, then it stops.
#[test]
fn an_old_task_stops_only_after_the_ingress_drained_it() {
    let mut scene = Scene::settled(spec(1));
    let old = scene.live("one").remove(0);
    scene.ignore("drain", "one");
    scene.ignore("publish", "two");
    scene.release("two");
    scene.pass(10);
    let new = scene.live("two").remove(0);
    assert!(!scene.asked("drain", &old), "the new one is not published yet");
    scene.happens(orchestrator::Event::Published { task: new });
    scene.pass(10);
    assert_eq!(scene.task(&old).traffic, Traffic::Draining);
    assert!(!scene.asked("stop", &old));
    scene.happens(orchestrator::Event::Drained { task: old.clone() });
    assert!(scene.asked("stop", &old));
}

/// B6: what counts is when it happened, not when somebody looked.
#[test]
fn a_failure_within_the_monitor_time_counts_although_all_slots_are_done() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    base.update.delay = Duration::from_secs(30);
    base.update.monitor = Duration::from_secs(20);
    let mut scene = Scene::settled(base);
    scene.release("two");
    scene.pass(19);
    let new = scene.live("two").remove(0);
    scene.exit(&new, 1);
    assert_eq!(scene.state(), Some(RolloutState::RollbackStarted));
}

#[test]
fn a_failure_after_the_monitor_time_does_not_count() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    base.update.delay = Duration::from_secs(30);
    let mut scene = Scene::settled(base);
    scene.release("two");
    scene.pass(6);
    let new = scene.live("two").remove(0);
    scene.exit(&new, 1);
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::Completed));
}

/// B8: a task that never becomes ready is a failure at the progress deadline.
#[test]
fn a_task_that_is_never_ready_fails_at_the_progress_deadline() {
    let mut scene = Scene::settled(spec(1));
    scene.ignore("start", "two");
    scene.release("two");
    let stuck = scene.live("two").remove(0);
    scene.pass(61);
    let task = scene.task(&stuck);
    assert_eq!(task.observed, Observed::Failed);
    assert_eq!(task.error.as_deref(), Some("task: not ready within 60s (progress deadline)"));
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.serving(), 1);
}

/// B9: the image is there before the old task goes.
#[test]
fn stop_first_prepares_the_new_task_before_it_stops_the_old_one() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    let mut scene = Scene::settled(base);
    let old = scene.live("one").remove(0);
    scene.ignore("prepare", "two");
    scene.release("two");
    scene.pass(10);
    assert!(scene.task(&old).is_serving());
    let new = scene.live("two").remove(0);
    scene.observe(&new, Observation::Rejected { error: "No such image: two".to_owned() });
    scene.obey();
    assert!(scene.task(&old).is_serving(), "a missing image costs no slot");
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
}

/// B10: a stop longer than any fixed time is waited for, and not held against the new task.
#[test]
fn stop_first_waits_until_the_old_task_has_really_stopped() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    let mut scene = Scene::settled(base);
    let old = scene.live("one").remove(0);
    scene.ignore("stop", "one");
    scene.release("two");
    scene.pass(600);
    let new = scene.live("two").remove(0);
    assert!(!scene.asked("start", &new));
    assert_eq!(scene.state(), Some(RolloutState::Updating));
    scene.exit(&old, 137);
    assert!(scene.asked("start", &new));
    assert_eq!(scene.task(&old).observed, Observed::Shutdown);
}

/// B13: a one-shot task that ends well does not fail the update.
#[test]
fn exit_0_within_the_monitor_time_is_no_failure_unless_the_condition_is_any() {
    let mut scene = Scene::settled(spec(1));
    scene.release("two");
    let new = scene.live("two").remove(0);
    scene.exit(&new, 0);
    scene.pass(30);
    assert_eq!(scene.state(), Some(RolloutState::Completed));

    let mut base = spec(1);
    base.task.restart.condition = orchestrator::RestartCondition::Any;
    let mut scene = Scene::settled(base);
    scene.release("two");
    let new = scene.live("two").remove(0);
    scene.exit(&new, 0);
    assert!(scene.message().contains("rolled back") || scene.message() == "rollback completed");
}

/// B27: the revision that made the update pause is left alone.
#[test]
fn a_paused_update_does_not_restart_the_bad_revision() {
    let mut base = spec(3);
    base.update.failure_action = FailureAction::Pause;
    base.update.order = UpdateOrder::StopFirst;
    base.update.delay = Duration::from_secs(10);
    let mut scene = Scene::settled(base);
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.exit(&bad, 1);
    scene.pass(300);
    assert_eq!(scene.state(), Some(RolloutState::Paused));
    assert_eq!(scene.count("two"), 1, "one slot was touched, and only once");
    assert_eq!(scene.live("one").len(), 2);
    let expected = format!("update paused due to failure or early termination of task {bad}");
    assert_eq!(scene.message(), expected);
    let (_, why) = scene.service().parked().next().expect("the empty slot says why");
    assert!(why.starts_with("slot 1: not restarted"), "{why}");
}

#[test]
fn a_tolerated_failure_is_retried_beside_the_old_task_and_held_like_the_first() {
    let mut base = spec(1);
    base.update.failure_action = FailureAction::Continue;
    let mut scene = Scene::settled(base);
    scene.release("two");
    for _ in 0..2 {
        let new = scene.live("two").pop().expect("a new task");
        scene.pass(2);
        scene.exit(&new, 1);
        assert_eq!(scene.serving(), 1, "the old one serves");
        scene.pass(6);
    }
    scene.pass(30);
    assert_eq!((scene.live("one").len(), scene.live("two").len()), (0, 1));
}

#[test]
fn with_no_delay_and_no_monitor_the_update_is_complete_at_once() {
    for monitor in [0, 1] {
        let mut base = spec(4);
        base.update.monitor = Duration::from_nanos(monitor);
        let mut scene = Scene::settled(base);
        scene.release("two");
        assert_eq!(scene.state(), Some(RolloutState::Completed));
        assert_eq!(scene.live("two").len(), 4);
    }
}

#[test]
fn the_delay_runs_from_when_the_new_task_was_ready() {
    let mut base = spec(2);
    base.update.delay = Duration::from_secs(8);
    let mut scene = Scene::settled(base);
    scene.release("two");
    scene.pass(7);
    assert_eq!(scene.count("two"), 1, "5 s were held, 3 s are left");
    scene.pass(2);
    assert_eq!(scene.count("two"), 2);
}

#[test]
fn parallelism_bounds_the_slots_in_flight() {
    let mut base = spec(5);
    base.update.parallelism = 2;
    let mut scene = Scene::settled(base.clone());
    scene.release("two");
    assert_eq!(scene.count("two"), 2);
    base.update.parallelism = 0;
    let mut scene = Scene::settled(base);
    scene.release("two");
    assert_eq!(scene.count("two"), 5);
}

#[test]
fn an_update_that_changes_no_task_restarts_nothing() {
    let mut scene = Scene::settled(spec(2));
    let before = scene.live("one");
    scene.update(|spec| spec.update.delay = Duration::from_secs(9));
    scene.update(|_| {});
    scene.pass(60);
    assert_eq!(scene.live("one"), before);
    assert_eq!(scene.state(), None);
}

#[test]
fn a_new_release_supersedes_the_one_under_way() {
    let mut scene = Scene::settled(spec(3));
    scene.ignore("start", "two");
    scene.release("two");
    scene.release("three");
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::Completed));
    assert_eq!((scene.live("three").len(), scene.live("two").len()), (3, 0));
}

#[test]
fn failures_up_to_the_ratio_are_tolerated() {
    let mut base = spec(4);
    base.update.max_failure_ratio = 0.25;
    let mut scene = Scene::settled(base);
    scene.release("two");
    let first = scene.live("two").remove(0);
    scene.exit(&first, 1);
    assert_eq!(scene.state(), Some(RolloutState::Updating));
    let second = scene.live("two").into_iter().find(|t| scene.task(t).is_serving());
    scene.exit(&second.expect("the next slot's"), 1);
    assert_ne!(scene.state(), Some(RolloutState::Updating));
}
