//! The restart policy and what an unhealthy task leads to.

use std::time::Duration;

use orchestrator::{Observation, Observed, RestartCondition, UpdateOrder};

use crate::scene::{Scene, spec};

fn unhealthy() -> Observation {
    Observation::Unhealthy { error: "HTTP 503".to_owned() }
}

/// B3: unhealthy is a failure, whatever the exit code says.
#[test]
fn an_unhealthy_task_that_exits_with_0_has_failed_and_is_replaced() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    let mut scene = Scene::settled(base);
    scene.ignore("stop", "one");
    let sick = scene.live("one").remove(0);
    scene.observe(&sick, unhealthy());
    scene.obey();
    scene.exit(&sick, 0);
    assert_eq!(scene.task(&sick).observed, Observed::Failed);
    assert_eq!(scene.task(&sick).error.as_deref(), Some("task: unhealthy container"));
    scene.ignores.clear();
    scene.pass(6);
    assert_eq!(scene.serving(), 1);
}

#[test]
fn an_unhealthy_task_keeps_docker_s_words_for_its_error() {
    let mut base = spec(1);
    base.update.order = UpdateOrder::StopFirst;
    let mut scene = Scene::settled(base);
    let sick = scene.live("one").remove(0);
    scene.observe(&sick, unhealthy());
    scene.obey();
    let expected = "task: non-zero exit (143): dockerexec: unhealthy container";
    assert_eq!(scene.task(&sick).error.as_deref(), Some(expected));
}

/// B17: with start-first the replacement serves before the unhealthy task goes.
#[test]
fn an_unhealthy_task_goes_when_its_replacement_serves() {
    let mut scene = Scene::settled(spec(2));
    let sick = scene.newest(1).id.clone();
    scene.observe(&sick, unhealthy());
    scene.obey();
    assert!(!scene.asked("drain", &sick), "nothing serves in its place yet");
    scene.pass(4);
    assert!(!scene.asked("start", &scene.newest(1).id.clone()), "the delay is 5 s");
    scene.pass(2);
    assert!(scene.asked("stop", &sick));
    assert_eq!(scene.serving(), 2);
}

#[test]
fn an_unhealthy_task_goes_when_its_replacement_fails() {
    let mut scene = Scene::settled(spec(1));
    scene.ignore("start", "one");
    let sick = scene.newest(1).id.clone();
    scene.observe(&sick, unhealthy());
    scene.obey();
    scene.pass(6);
    let new = scene.newest(1).id.clone();
    assert_ne!(new, sick);
    scene.exit(&new, 1);
    assert!(scene.asked("stop", &sick));
}

#[test]
fn a_probe_that_fails_while_a_task_stops_changes_nothing() {
    let mut scene = Scene::settled(spec(1));
    scene.ignore("stop", "one");
    let old = scene.live("one").remove(0);
    scene.release("two");
    scene.pass(10);
    scene.observe(&old, unhealthy());
    scene.exit(&old, 137);
    assert_eq!(scene.task(&old).observed, Observed::Shutdown);
    assert_eq!(scene.live("one").len(), 0);
}

/// Three restarts in two minutes; B15: the slot then stays stopped, and says why.
#[test]
fn a_slot_stops_visibly_after_its_attempts_and_a_forced_update_clears_it() {
    let mut scene = Scene::settled(spec(2));
    for _ in 0..4 {
        let task = scene.newest(2).id.clone();
        scene.exit(&task, 1);
        scene.pass(6);
    }
    scene.pass(600);
    assert_eq!(scene.serving(), 1);
    let parked: Vec<_> = scene.service().parked().map(|(_, why)| why.to_owned()).collect();
    let expected = "slot 2 stopped: 3 restarts within 2m, last error: task: non-zero exit (1)";
    assert_eq!(parked, [expected]);
    scene.release("one, forced");
    scene.pass(60);
    assert_eq!((scene.serving(), scene.service().parked().count()), (2, 0));
}

#[test]
fn restarts_older_than_the_window_are_forgotten() {
    let mut scene = Scene::settled(spec(1));
    for _ in 0..10 {
        scene.pass(100);
        let task = scene.newest(1).id.clone();
        scene.exit(&task, 1);
    }
    scene.pass(10);
    assert_eq!(scene.serving(), 1);
}

/// B14: a window shorter than the delay still counts to the limit.
#[test]
fn attempts_count_although_the_window_is_shorter_than_the_delay() {
    let mut base = spec(1);
    base.task.restart.window = Duration::from_secs(2);
    let mut scene = Scene::settled(base);
    for _ in 0..4 {
        let task = scene.newest(1).id.clone();
        scene.exit(&task, 1);
        scene.pass(6);
    }
    assert_eq!(scene.serving(), 0);
    assert_eq!(scene.service().parked().count(), 1);
}

#[test]
fn the_condition_decides_about_exit_0() {
    for (condition, serves) in
        [(RestartCondition::Any, 1), (RestartCondition::OnFailure, 0), (RestartCondition::None, 0)]
    {
        let mut base = spec(1);
        base.task.restart.condition = condition;
        let mut scene = Scene::settled(base);
        let task = scene.newest(1).id.clone();
        scene.exit(&task, 0);
        scene.pass(6);
        assert_eq!(scene.serving(), serves, "{condition:?}");
    }
}

#[test]
fn a_replacement_is_prepared_at_once_and_started_after_the_delay() {
    let mut scene = Scene::settled(spec(1));
    let task = scene.newest(1).id.clone();
    scene.exit(&task, 1);
    assert_eq!(scene.newest(1).observed, Observed::Ready);
    assert_eq!(scene.newest(1).restart_of, Some(task));
    scene.pass(4);
    assert_eq!(scene.newest(1).observed, Observed::Ready);
    scene.pass(1);
    assert_eq!(scene.newest(1).observed, Observed::Running);
}

/// The first replacement is prepared at once, as any other; each later one a delay after another.
#[test]
fn a_task_that_cannot_be_prepared_is_tried_once_per_delay() {
    let mut base = spec(1);
    base.task.restart.max_attempts = 0;
    let mut scene = Scene::settled(base);
    scene.ignore("prepare", "one");
    let first = scene.live("one").remove(0);
    scene.exit(&first, 1);
    let reject = |scene: &mut Scene| {
        let new = scene.newest(1).id.clone();
        let is_tried = scene.asked("prepare", &new);
        if is_tried {
            let error = "No such image: nosuch:1".to_owned();
            scene.observe(&new, Observation::Rejected { error });
            scene.obey();
        }
        is_tried
    };
    assert!(reject(&mut scene), "the first replacement is prepared while its delay runs");
    for _ in 0..3 {
        scene.pass(4);
        assert!(!reject(&mut scene), "tried before the delay of 5 s was over");
        scene.pass(1);
        assert!(reject(&mut scene), "tried when it was over");
    }
}
