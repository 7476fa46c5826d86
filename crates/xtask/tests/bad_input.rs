//! Bad input and bad luck, as a user meets them: each gives a clear error with the next step,
//! changes nothing or resumes, and loses nothing. Runs the real `keel` on the embedded engine.

#[path = "bad_input/place.rs"]
mod place;

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use place::{Place, STACK};

#[test]
fn a_malformed_stack_file_is_shown_with_a_caret_and_changes_nothing() {
    let place = Place::new();
    place.write("services:\n  a:\n    image: [oops\n");
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t"]);
    ran.fails_with(&[1, 2], &["stack.yml:", "^"]);
    assert_eq!(place.services(), "[]");
}

#[test]
fn an_unknown_key_is_pointed_at_and_the_near_miss_is_named() {
    let place = Place::new();
    place.write(&STACK.replace("replicas:", "replcias:"));
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t"]);
    ran.fails_with(&[1, 2], &["replcias", "replicas", "^"]);
    assert_eq!(place.services(), "[]");
}

#[test]
fn an_unset_required_variable_is_named() {
    let place = Place::new();
    place
        .write(&STACK.replace("GENERATION: one", "GENERATION: ${NOBODY_SET_THIS:?say it in .env}"));
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t"]);
    ran.fails_with(&[1, 2], &["NOBODY_SET_THIS", "say it in .env"]);
    assert_eq!(place.services(), "[]");
}

#[test]
fn an_image_that_does_not_exist_is_refused_before_anything_changes() {
    let place = Place::new();
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t", "--version", "none", "--skip-build"]);
    ran.fails_with(&[1], &["image-missing", "probe:none", "keel images"]);
    assert_eq!(place.services(), "[]");
}

#[test]
fn a_port_that_another_process_has_is_named_before_anything_changes() {
    let place = Place::new();
    let taken = TcpListener::bind(("0.0.0.0", place.port)).expect("the port was free");
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t"]);
    ran.fails_with(&[1], &["port-in-use", &place.port.to_string()]);
    assert_eq!(place.services(), "[]");
    drop(taken);
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
}

#[test]
fn a_command_that_does_not_exist_is_taken_back_with_its_name() {
    let place = Place::new();
    place.write(&STACK.replace("entrypoint: [\"/probe\"]", "entrypoint: [\"/nope\"]"));
    let ran = place.keel(&["deploy", "-c", "stack.yml", "t"]);
    ran.fails_with(&[3], &["command-not-found", "/nope"]);
    assert_eq!(place.services(), "[]");
}

#[test]
fn a_damaged_state_file_is_never_overwritten_and_the_way_back_works() {
    let place = Place::new();
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    place.keel(&["daemon", "--stop"]).succeeds();
    // A start on a good state keeps a copy of it.
    place.keel(&["daemon", "--background"]).succeeds();
    place.keel(&["daemon", "--stop"]).succeeds();
    let path = place.state().join("state.db");
    for beside in ["state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(place.state().join(beside));
    }
    fs::write(&path, "this is not a database, it is a text of some length").expect("written");
    let ran = place.keel(&["daemon", "--background"]);
    ran.fails_with(&[1], &["state-corrupt", "state.db.last-good"]);
    assert!(fs::read(&path).expect("still there").starts_with(b"this is not"));
    fs::copy(path.with_extension("db.last-good"), &path).expect("the hint's own command");
    place.keel(&["daemon", "--background"]).succeeds();
    assert!(place.services().contains("t_a"), "{}", place.services());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_names_the_first() {
    let place = Place::new();
    let first = fs::read_to_string(place.state().join("lock")).expect("a lock");
    let ran = place.keel(&["daemon"]);
    ran.fails_with(&[1, 4], &["state-locked", first.trim()]);
    place.keel(&["ls"]).succeeds();
}

#[test]
fn a_full_disk_refuses_the_change_and_loses_nothing() {
    let Some(place) = Place::on_small_disk() else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    let filler = place.state().join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    let block = vec![1_u8; 4096];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let ran = place.keel(&["scale", "t_a=3", "--timeout", "5s"]);
    assert_ne!(ran.code, 0, "{}", ran.text);
    assert!(ran.text.contains("space"), "{}", ran.text);
    drop(file);
    fs::remove_file(&filler).expect("freed");
    place.keel(&["scale", "t_a=3"]).succeeds();
    place.keel(&["daemon", "--stop", "--all", "--yes"]).succeeds();
}

#[test]
fn a_deploy_interrupted_by_ctrl_c_says_what_state_it_left() {
    let place = Place::new();
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    for wait in [5, 60, 150, 400] {
        place.write(&STACK.replace("GENERATION: one", &format!("GENERATION: at-{wait}")));
        let ran = place.interrupted(&["deploy", "-c", "stack.yml", "t"], wait, place::Signal::INT);
        if ran.code != 0 {
            ran.fails_with(&[130], &[]);
            // Without a word it was ended before it began.
            let is_told = ran.text.is_empty()
                || ["nothing was changed", "as it was", "taken back", "left"]
                    .iter()
                    .any(|words| ran.text.contains(words));
            assert!(is_told, "after {wait} ms: {}", ran.text);
        }
    }
    place.write(STACK);
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    assert_eq!(place.ready(), 2);
}

#[test]
fn a_deploy_killed_at_any_step_is_taken_over_by_the_next() {
    let place = Place::new();
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    for wait in [2, 10, 20, 35, 50, 80, 120, 200, 350] {
        place.write(&STACK.replace("GENERATION: one", &format!("GENERATION: at-{wait}")));
        let arguments = ["deploy", "-c", "stack.yml", "t"];
        let ran = place.interrupted(&arguments, wait, place::Signal::KILL);
        place.keel(&arguments).succeeds();
        assert_eq!(place.ready(), 2, "after a kill at {wait} ms: {}", ran.text);
    }
}

#[test]
fn logs_into_a_full_disk_end_with_an_error_and_lose_nothing() {
    let place = Place::new();
    place.write(&STACK.replace("GENERATION: one", "GENERATION: one\n      LOG_LINES: \"2000\""));
    place.keel(&["deploy", "-c", "stack.yml", "t"]).succeeds();
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let ran = place.keel_with(&["logs", "t_a"], Stdio::from(full));
    ran.fails_with(&[1], &["space"]);
    let started = Instant::now();
    loop {
        let ran = place.keel(&["logs", "t_a"]);
        let complete = ran.stdout.lines().filter(|line| line.contains("line 2000")).count();
        if complete >= 2 {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{} lines",
            ran.stdout.lines().count()
        );
    }
}
