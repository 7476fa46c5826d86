//! Errors: a code, what is wrong, the next step, and the exit code of their class.

use serde_json::Value;

use super::{engine::Engine, keel, run, said};

#[test]
fn a_mistyped_command_is_answered_with_the_near_one() {
    let said = run(&["deplyo"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    insta::assert_snapshot!(said.err);
}

#[test]
fn a_mistyped_flag_is_answered_with_the_near_one() {
    let said = run(&["deploy", "--skip-biuld"]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.err);
}

#[test]
fn a_missing_argument_is_named() {
    let said = run(&["logs"]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.err);
}

#[test]
fn replicas_that_are_no_number_are_refused_with_an_example() {
    let said = run(&["scale", "ala_api=many"]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.err);
}

#[test]
fn an_engine_that_is_not_there_is_named_with_the_way_to_start_it() {
    let said = run(&["ls"]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!(said.err);
}

#[test]
fn an_error_for_scripts_is_json_with_the_same_code() {
    let said = run(&["ls", "--json"]);
    assert_eq!(said.code, 1);
    let error: Value = serde_json::from_str(&said.out).expect("is JSON");
    assert_eq!(error["error"]["code"], "engine-not-reachable");
    assert_eq!(error["error"]["exit_code"], 1);
    assert!(said.err.starts_with("error[engine-not-reachable]: "), "{}", said.err);
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let said = run(&["-H", "engine.example", "ls"]);
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("error[bad-host]: "), "{}", said.err);
}

#[test]
fn an_unknown_service_is_answered_with_the_one_that_was_meant() {
    let engine = Engine::start();
    for arguments in [["ps", "api"], ["logs", "api"], ["inspect", "api"]] {
        let mut command = keel(&arguments);
        let said = said(command.env("DOCKER_HOST", engine.host()).output().expect("runs"));
        assert_eq!(said.code, 1, "{arguments:?}");
        assert_eq!(
            said.err,
            "error[service-not-found]: no service is called `api`\nhint: there is `ala_api`\n",
            "{arguments:?}"
        );
    }
}

#[test]
fn nothing_is_removed_without_somebody_who_agrees() {
    let engine = Engine::start();
    let mut command = keel(&["rm", "ala"]);
    let said = said(command.env("DOCKER_HOST", engine.host()).output().expect("runs"));
    assert_eq!(said.code, 6);
    insta::with_settings!({ filters => vec![(r"127\.0\.0\.1:\d+", "[address]")] }, {
        insta::assert_snapshot!(said.err);
    });
    assert!(engine.asked().iter().all(|request| request.starts_with("GET ")));
}

#[test]
fn a_mistake_in_the_stack_file_is_shown_even_without_an_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "services:\n  web:\n    image: web:1\n    replicsa: 2\n";
    std::fs::write(folder.path().join("docker-stack.yml"), file).expect("written");
    let mut command = keel(&["deploy", "ala"]);
    let said = said(command.current_dir(folder.path()).output().expect("runs"));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("docker-stack.yml:4:5"), "{}", said.err);
    let last = "error[stack-file]: `docker-stack.yml` has 1 error; nothing was changed";
    assert!(said.err.contains(last), "{}", said.err);
}
