//! What `keel` does about the defects of Docker Swarm that `docs/swarm-guards.md` lists, each on a
//! real Docker daemon. Needs root and the daemon's binaries; without them the tests say what is
//! missing, and fail in CI.

mod stage;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use stage::{PATIENCE, Ran, Stage, ask};

/// Two tasks, each with a health check, replaced start-first.
const WEB: &str = "    image: semh:${VERSION}
    environment: {FAIL_NOW: '${FAIL_NOW:-}', EXIT_AFTER: '${EXIT_AFTER:-}', HEALTHY_AFTER: '${HEALTHY_AFTER:-}'}
    stop_grace_period: 2s
    healthcheck: {interval: 500ms, timeout: 2s, retries: 2, start_period: 60s, test: [CMD, /app, health]}
    deploy:
      replicas: 2
      restart_policy: {condition: on-failure, delay: 1s}
      update_config: {order: start-first, monitor: 2s, failure_action: pause}
";

fn with(from: &str, to: &str) -> String {
    let text = WEB.replace(from, to);
    assert_ne!(text, WEB, "`{from}` is in the stack file");
    text
}

fn ended(child: std::process::Child) -> i32 {
    child.wait_with_output().expect("it ends").status.code().unwrap_or(-1)
}

/// B1: Docker ends the old task as soon as the new one runs. With keel's ingress it serves on.
#[test]
fn a_version_that_crashes_just_after_it_ran_costs_no_request() {
    let Some(stage) = Stage::raise_with_ingress() else { return };
    let published = with("    stop_grace", "    ports: ['8088:8080']\n    stop_grace");
    stage.write(
        &published
            .replace("semh:", "sem:")
            .replace("failure_action: pause", "failure_action: rollback"),
    );
    stage.deploy("1", &[]).succeeds();
    let entry = SocketAddr::from((stage.address(), 8088));
    stage.until("the first answer", || ask(entry).is_ok());
    let is_over = AtomicBool::new(false);
    let (ran, failed, answered) = thread::scope(|scope| -> (Ran, Vec<String>, u64) {
        let asking = scope.spawn(|| {
            let (mut failed, mut answered) = (Vec::new(), 0);
            while !is_over.load(Ordering::SeqCst) {
                match ask(entry) {
                    Ok(_) => answered += 1,
                    Err(why) => failed.push(why),
                }
            }
            (failed, answered)
        });
        let ran = stage.deploy("2", &[("EXIT_AFTER", "1500")]);
        is_over.store(true, Ordering::SeqCst);
        let (failed, answered) = asking.join().expect("no panic");
        (ran, failed, answered)
    });
    ran.ends(3, "");
    assert_eq!(failed, Vec::<String>::new(), "of {answered} requests");
    assert!(answered > 100, "{answered}");
}

/// B2: a scale while a new task starts makes Docker end the old one at once.
#[test]
fn a_scale_waits_for_the_end_of_an_update() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(WEB);
    stage.deploy("1", &[]).succeeds();
    let deploying = stage.deploying("2", &[("HEALTHY_AFTER", "4000")]);
    stage.until("a new task starts", || {
        stage.tasks().iter().any(|task| task.starts_with("semh:2") && task.contains("Starting"))
    });
    let scaling = stage.keel(&["scale", "st_web=3"]);
    scaling.succeeds();
    assert_eq!(ended(deploying), 0, "the deploy");
    assert_eq!(stage.running(), vec!["semh:2"; 3]);
    // Both slots were done one after the other, each with an old task that stayed until then.
    assert!(scaling.took.as_secs() >= 6, "it did not wait: {:?}", scaling.took);
}

/// B3: an unhealthy task that ends with 0 counts as done, and is not replaced.
#[test]
fn an_unhealthy_task_that_ends_well_is_replaced() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(&WEB.replace("FAIL_NOW: '${FAIL_NOW:-}'", "UNHEALTHY_AFTER: '9000'"));
    stage.deploy("1", &[]).ends(0, "restarted on any end");
    stage.until("unhealthy tasks end well", || {
        stage.tasks().iter().filter(|task| task.contains("Shutdown Complete")).count() == 2
    });
    stage.until("they are replaced", || stage.running().len() == 2);
}

/// B4: Docker's way back leads to whatever was accepted last.
#[test]
fn the_way_back_is_the_last_version_that_was_live() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(WEB);
    stage.deploy("1", &[]).succeeds();
    stage.deploy("2", &[]).succeeds();
    stage.deploy("3", &[("FAIL_NOW", "7")]).ends(3, "non-zero exit (7)");
    assert_eq!(stage.running(), ["semh:2"; 2]);
    stage.keel(&["scale", "st_web=3"]).succeeds();
    // By now Docker's previous spec is version 2 itself.
    stage.keel(&["rollback", "--stack", "st"]).succeeds();
    assert_eq!(stage.running(), ["semh:1"; 2]);
}

/// B5: a scale of a paused service goes on with the version that it paused at.
#[test]
fn a_service_that_paused_is_not_scaled() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(WEB);
    stage.deploy("1", &[]).succeeds();
    stage.docker(&["service", "update", "--detach", "--env-add", "FAIL_NOW=3", "st_web"]);
    stage.until("it pauses", || stage.service()["UpdateStatus"]["State"] == "paused");
    let good = stage.running();
    assert!(!good.is_empty(), "{:?}", stage.tasks());
    for words in [["scale", "st_web=4"], ["restart", "st_web"]] {
        stage.keel(&words).ends(6, "keel rollback");
    }
    assert_eq!(stage.running(), good);
    stage.deploy("2", &[]).succeeds();
    assert_eq!(stage.running(), ["semh:2"; 2]);
}

/// B6: a failure that comes while Docker waits for its last task is not counted.
#[test]
fn a_failure_that_docker_overlooks_takes_the_release_back() {
    let Some(stage) = Stage::raise() else { return };
    let slow = with("HEALTHY_AFTER: '${HEALTHY_AFTER:-}'", "HEALTHY_AFTER: '{{.Task.Slot}}000'");
    let slow = slow.replace("replicas: 2", "replicas: 4").replace("monitor: 2s", "monitor: 1s");
    stage.write(&slow.replace("order: start-first", "order: stop-first, parallelism: 4"));
    stage.deploy("1", &[]).succeeds();
    let deploying = stage.deploying("2", &[]);
    let mut first = String::new();
    stage.until("the first slot runs", || {
        let filter = ["ps", "-q", "--filter", "name=st_web.1.", "--filter", "ancestor=semh:2"];
        let healthy = [&filter[..], &["--filter", "health=healthy"]].concat();
        first = stage.docker(&healthy).trim().to_owned();
        !first.is_empty()
    });
    stage.docker(&["kill", &first]);
    assert_eq!(ended(deploying), 3);
    stage.until("the old version runs", || stage.running() == ["semh:1"; 4]);
}

/// B7: where the settings say to go on, Docker calls a crash loop completed.
#[test]
fn a_version_that_crashes_again_and_again_is_no_success() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(&with("failure_action: pause", "failure_action: continue"));
    stage.deploy("1", &[]).succeeds();
    stage.deploy("2", &[("FAIL_NOW", "7")]).ends(3, "non-zero exit (7)");
    assert_eq!(stage.running(), ["semh:1"; 2]);
    let missing = stage.deploy("9", &[]);
    missing.ends(3, "No such image");
    assert!(missing.took < PATIENCE, "{:?}", missing.took);
    assert_eq!(stage.running(), ["semh:1"; 2]);
}

/// B8: Docker waits without end for a task that never runs.
#[test]
fn a_task_that_never_becomes_ready_is_given_up() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(&format!("{WEB}    x-evenkeel: {{progress_deadline: 15s}}\n"));
    stage.deploy("1", &[]).succeeds();
    let ran = stage.deploy("2", &[("HEALTHY_AFTER", "3600000")]);
    ran.ends(3, "progress deadline");
    assert_eq!(stage.running(), ["semh:1"; 2]);
}

/// B11: start-first with a port of the node waits for ever for the old task to give it away.
#[test]
fn a_task_with_a_port_of_the_node_comes_after_the_old_one() {
    let Some(stage) = Stage::raise() else { return };
    let port = "    ports: [{target: 8080, published: 18111, mode: host}]\n    stop_grace";
    stage.write(&with("    stop_grace", port).replace("replicas: 2", "replicas: 1"));
    stage.deploy("1", &[]).ends(0, "both cannot have the node's port");
    stage.deploy("2", &[]).succeeds();
    assert_eq!(stage.running(), ["semh:2"]);
    // What was changed for Docker is changed the same way again: no task is replaced for it.
    let before = stage.docker(&["ps", "-q"]);
    stage.deploy("2", &[]).succeeds();
    assert_eq!(stage.docker(&["ps", "-q"]), before);

    let most =
        with("      replicas: 2", "      replicas: 2\n      placement: {max_replicas_per_node: 2}");
    stage.write(&most);
    stage.deploy("3", &[]).ends(0, "max_replicas_per_node");
    assert_eq!(stage.running(), ["semh:3"; 2]);
}

/// B12: a way back that failed, and shall be taken back itself, is called completed by Docker.
#[test]
fn a_way_back_of_a_way_back_is_refused() {
    let Some(stage) = Stage::raise() else { return };
    stage.write(&format!("{WEB}      rollback_config: {{failure_action: rollback}}\n"));
    let ran = stage.deploy("1", &[]);
    assert_ne!(ran.code, 0, "{}", ran.text);
    assert!(
        ran.text.contains("rollback_config") || ran.text.contains("failure_action"),
        "{}",
        ran.text
    );
    assert!(stage.docker(&["service", "ls", "-q"]).is_empty());
}

/// B13: a task that ends with 0 while it is watched pauses the update; it is told what it should be.
#[test]
fn a_service_that_ends_well_is_told_to_be_a_job() {
    let Some(stage) = Stage::raise() else { return };
    let once = "    image: sem:${VERSION}
    environment: {EXIT_AFTER: '500', EXIT_CODE: '0'}
    deploy:
      restart_policy: {condition: none}
";
    stage.write(once);
    stage.deploy("1", &[]).ends(3, "replicated-job");
    assert!(stage.docker(&["service", "ls", "-q"]).is_empty(), "it was taken back");
    stage.write(&format!("{once}      mode: replicated-job\n"));
    stage.deploy("1", &[]).succeeds();
}
