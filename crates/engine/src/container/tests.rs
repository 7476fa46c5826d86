//! Histories of one container.

use serde_json::json;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn container(policy: &str, most: u32) -> Container {
    Container {
        id: TaskId("c".to_owned()),
        name: "c".to_owned(),
        asked: json!({ "HostConfig": { "RestartPolicy": {
            "Name": policy, "MaximumRetryCount": most,
        } } }),
        definition: "{}".into(),
        image: String::new(),
        has_health_check: false,
        created_at: Time(0),
        phase: Phase::Created,
        wanted: Wanted::Down,
        started_at: None,
        finished_at: None,
        exit_code: 0,
        error: None,
        is_stopped_by_hand: false,
        restarts: 0,
        back_off: Duration::ZERO,
        ends: 0,
        health: Health::Starting,
        ports: Vec::new(),
        pool: String::new(),
        is_adopted: false,
    }
}

fn begin() -> Event {
    Event::Start { ports: Vec::new(), pool: String::new() }
}

fn exit(code: i32) -> Event {
    Event::Seen(Observation::Exited { exit_code: Some(code), error: None })
}

/// Started by hand and seen.
fn running(policy: &str, most: u32) -> Container {
    let mut own = container(policy, most);
    assert!(step(&mut own, Time(1), begin()).contains(&Action::Run));
    step(&mut own, Time(1), Event::Seen(Observation::Starting));
    assert_eq!(own.phase, Phase::Running);
    own
}

/// It ends `times` times with this code and is started whenever that is due.
fn crash(own: &mut Container, times: u32, code: i32) {
    for _ in 0..times {
        let now = own.started_at.unwrap_or(Time(0));
        step(own, now, exit(code));
        let Some(due) = own.deadline() else { return };
        step(own, due, Event::Tick);
        step(own, due, Event::Seen(Observation::Starting));
    }
}

#[test]
fn each_policy_restarts_what_it_should() {
    for (policy, most, code, expected) in [
        ("no", 0, 1, 0),
        ("always", 0, 0, 9),
        ("unless-stopped", 0, 1, 9),
        ("on-failure", 0, 1, 9),
        ("on-failure", 0, 0, 0),
        ("on-failure", 2, 1, 2),
    ] {
        let mut own = running(policy, most);
        crash(&mut own, 9, code);
        assert_eq!(own.restarts, expected, "{policy}:{most} with exit code {code}");
        assert_eq!(own.phase == Phase::Running, expected == 9, "{policy}:{most}");
    }
}

#[test]
fn waits_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
    let mut own = running("always", 0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let now = own.started_at.expect("it runs");
        step(&mut own, now, exit(1));
        waits.push(own.back_off.as_millis());
        let due = own.deadline().expect("it restarts");
        assert!(step(&mut own, Time(due.0 - 1), Event::Tick).is_empty(), "not before it is due");
        step(&mut own, due, Event::Tick);
        step(&mut own, due, Event::Seen(Observation::Starting));
    }
    assert_eq!(waits[..4], [100, 200, 400, 800]);
    assert_eq!(waits[10..], [60_000, 60_000]);
    let late = Time(own.started_at.expect("it runs").0 + 11 * SECOND);
    step(&mut own, late, exit(1));
    assert_eq!(own.back_off.as_millis(), 100);
}

#[test]
fn one_that_was_stopped_stays_so_whatever_its_policy() {
    for policy in ["always", "unless-stopped", "on-failure"] {
        let mut own = running(policy, 0);
        step(&mut own, Time(2), Event::Stop);
        step(&mut own, Time(3), exit(137));
        assert_eq!(own.phase, Phase::Exited, "{policy}");
        assert_eq!(own.deadline(), None);
    }
    let mut own = running("always", 0);
    step(&mut own, Time(2), exit(1));
    step(&mut own, Time(3), Event::Stop);
    assert_eq!(own.phase, Phase::Exited, "while it waited for its restart");
}

#[test]
fn an_engine_that_starts_brings_back_what_the_policy_says() {
    for (policy, by_hand, code, expected) in [
        ("no", false, 1, false),
        ("always", false, 0, true),
        ("always", true, 0, true),
        ("unless-stopped", false, 0, true),
        ("unless-stopped", true, 0, false),
        ("on-failure", false, 1, true),
        ("on-failure", false, 0, false),
        ("on-failure", true, 1, false),
    ] {
        let mut own = running(policy, 0);
        let event = if by_hand { Event::Stop } else { Event::EngineEnds };
        step(&mut own, Time(2), event);
        step(&mut own, Time(3), exit(code));
        assert_eq!(own.phase, Phase::Exited);
        let actions = step(&mut own, Time(4), Event::EngineStarted);
        assert_eq!(actions.contains(&Action::Run), expected, "{policy} {by_hand} {code}");
    }
    let mut never = container("always", 0);
    assert_eq!(step(&mut never, Time(1), Event::EngineStarted), [Action::Prepare]);
}

#[test]
fn one_that_ran_is_adopted_and_one_that_was_about_to_start_is_started() {
    let mut own = running("no", 0);
    assert_eq!(step(&mut own, Time(2), Event::EngineStarted), [Action::Adopt]);
    assert!(step(&mut own, Time(2), Event::Seen(Observation::Starting)).is_empty());
    assert_eq!((own.phase, own.started_at), (Phase::Running, Some(Time(1))));

    let mut own = container("no", 0);
    step(&mut own, Time(1), begin());
    assert_eq!(step(&mut own, Time(2), Event::EngineStarted), [Action::Adopt]);
    assert!(step(&mut own, Time(2), Event::Seen(Observation::Preparing)).is_empty());
    assert_eq!(step(&mut own, Time(2), Event::Seen(Observation::Ready)), [Action::Run]);
    // A prepared folder is no reason to start one that nobody started.
    let mut own = container("always", 0);
    assert!(step(&mut own, Time(1), Event::Seen(Observation::Ready)).is_empty());
}

#[test]
fn one_that_cannot_be_started_is_not_tried_again_and_says_why() {
    let mut own = container("always", 0);
    step(&mut own, Time(1), begin());
    let error = Some("no such program".to_owned());
    let failed = Event::Seen(Observation::Exited { exit_code: Some(127), error: error.clone() });
    step(&mut own, Time(2), failed);
    assert_eq!((own.phase, own.exit_code, own.error), (Phase::Created, 127, error));
}

#[test]
fn one_that_removes_itself_goes_at_its_end_and_one_by_force_after_its_kill() {
    let mut own = running("no", 0);
    own.asked["HostConfig"]["AutoRemove"] = json!(true);
    assert!(step(&mut own, Time(2), exit(3)).contains(&Action::Forget));

    let mut own = running("always", 0);
    assert_eq!(step(&mut own, Time(2), Event::Remove), [Action::Kill]);
    assert!(step(&mut own, Time(3), exit(137)).contains(&Action::Forget));
    assert_eq!(own.wanted, Wanted::Gone);
}

#[test]
fn health_that_was_lost_may_come_back() {
    let mut own = running("no", 0);
    own.has_health_check = true;
    let well = || Event::Seen(Observation::Running { address: None });
    let sick = Event::Seen(Observation::Unhealthy { error: String::new() });
    assert_eq!(step(&mut own, Time(2), well()).len(), 1);
    assert!(step(&mut own, Time(2), well()).is_empty());
    step(&mut own, Time(3), sick);
    assert_eq!((own.health, own.phase), (Health::Unhealthy, Phase::Running));
    step(&mut own, Time(4), well());
    assert_eq!(own.health, Health::Healthy);
}
