//! The way back: automatic and by hand.

use orchestrator::{Event, FailureAction, Mode, RolloutState};

use crate::scene::{Scene, id, spec};

fn definition_of(revision: Option<&(u64, orchestrator::ServiceSpec)>) -> Option<&str> {
    revision.map(|(_, spec)| &*spec.task.definition)
}

#[test]
fn a_failed_update_goes_back_and_names_the_task_in_docker_s_words() {
    let mut scene = Scene::settled(spec(2));
    let before = scene.live("one");
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.ignore("drain", "two");
    let error = Some("task: non-zero exit (3)".to_owned());
    let exit = orchestrator::Observation::Exited { exit_code: Some(3), error };
    scene.observe(&bad, exit);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.live("one"), before, "no old task was replaced");
    assert_eq!(&*scene.service().spec.task.definition, "one");
}

/// The state is readable while slots still go back.
#[test]
fn rollback_started_tells_which_task_was_the_cause() {
    let mut base = spec(2);
    base.update.order = orchestrator::UpdateOrder::StopFirst;
    let mut scene = Scene::settled(base);
    scene.ignore("start", "one");
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.exit(&bad, 3);
    assert_eq!(scene.state(), Some(RolloutState::RollbackStarted));
    let expected = format!("update rolled back due to failure or early termination of task {bad}");
    assert_eq!(scene.message(), expected);
}

/// B4: what an automatic rollback returns to is what worked, not what was accepted last.
#[test]
fn a_second_bad_release_goes_back_to_the_last_good_one() {
    let mut base = spec(2);
    base.update.failure_action = FailureAction::Pause;
    let mut scene = Scene::settled(base);
    scene.release("bad");
    let bad = scene.live("bad").remove(0);
    scene.exit(&bad, 1);
    assert_eq!(scene.state(), Some(RolloutState::Paused));
    scene.update(|spec| {
        spec.update.failure_action = FailureAction::Rollback;
        spec.task.definition = "worse".into();
    });
    assert_eq!(definition_of(scene.service().previous.as_ref()), Some("one"));
    let worse = scene.live("worse").remove(0);
    scene.exit(&worse, 1);
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.live("one").len(), 2);
}

/// B4: a scale after a bad update does not destroy the way back.
#[test]
fn a_scale_of_a_paused_service_keeps_the_way_back() {
    let mut base = spec(2);
    base.update.failure_action = FailureAction::Pause;
    let mut scene = Scene::settled(base);
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.exit(&bad, 1);
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 4 });
    assert_eq!(definition_of(scene.service().previous.as_ref()), Some("one"));
    scene.happens(Event::RollbackRequested { id: id() });
    scene.obey();
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!(scene.live("one").len(), 4);
}

/// B4: after an automatic rollback there still is a previous spec.
#[test]
fn a_rollback_by_hand_works_after_an_automatic_one() {
    let mut scene = Scene::settled(spec(1));
    scene.release("two");
    scene.pass(30);
    scene.release("three");
    let bad = scene.live("three").remove(0);
    scene.exit(&bad, 1);
    assert_eq!(&*scene.service().spec.task.definition, "two");
    scene.happens(Event::RollbackRequested { id: id() });
    scene.obey();
    scene.pass(30);
    assert_eq!(&*scene.service().spec.task.definition, "one");
    assert_eq!(scene.live("one").len(), 1);
}

/// B5: new replicas of a paused service get what worked; the rollout stays paused.
#[test]
fn a_scale_of_a_paused_service_does_not_resume_the_bad_rollout() {
    let mut base = spec(2);
    base.update.failure_action = FailureAction::Pause;
    let mut scene = Scene::settled(base);
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.exit(&bad, 1);
    scene.update(|spec| spec.mode = Mode::Replicated { replicas: 4 });
    scene.pass(120);
    assert_eq!(scene.state(), Some(RolloutState::Paused));
    assert_eq!((scene.live("one").len(), scene.count("two")), (4, 1));
}

/// B12: a rollback that fails stays where it is and says so.
#[test]
fn a_rollback_that_fails_stays_rollback_paused() {
    let mut base = spec(2);
    base.update.order = orchestrator::UpdateOrder::StopFirst;
    base.rollback.failure_action = FailureAction::Rollback;
    let mut scene = Scene::settled(base);
    scene.release("two");
    let bad = scene.live("two").remove(0);
    scene.exit(&bad, 1);
    let back = scene.newest(1).id.clone();
    scene.exit(&back, 1);
    scene.pass(600);
    assert_eq!(scene.state(), Some(RolloutState::RollbackPaused));
    let expected = format!("rollback paused due to failure or early termination of task {back}");
    assert_eq!(scene.message(), expected);
}

/// B26: no row in the history for a task that nobody started.
#[test]
fn a_rollback_leaves_no_task_that_was_never_started() {
    let mut base = spec(3);
    base.update.parallelism = 0;
    base.update.max_failure_ratio = 0.5;
    let mut scene = Scene::settled(base);
    scene.release("two");
    for task in scene.live("two").into_iter().take(2) {
        scene.exit(&task, 1);
    }
    scene.pass(60);
    assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
    assert_eq!((scene.never_started(), scene.live("two").len()), (0, 0));
    assert_eq!(scene.live("one").len(), 3);
}

#[test]
fn two_rollbacks_by_hand_end_where_they_began() {
    let mut scene = Scene::settled(spec(2));
    scene.release("two");
    scene.pass(60);
    for wanted in ["one", "two"] {
        scene.happens(Event::RollbackRequested { id: id() });
        scene.obey();
        scene.pass(60);
        assert_eq!(scene.state(), Some(RolloutState::RollbackCompleted));
        assert_eq!(scene.live(wanted).len(), 2);
    }
}
