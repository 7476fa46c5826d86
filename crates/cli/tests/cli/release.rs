//! Releases on a real engine: a stack of one service that is a shell script.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{said, site::Site};

#[test]
fn a_release_goes_live_and_can_be_undone() {
    let site = Site::start();
    let first = site.deploy("v1", &[]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.starts_with("release v1 of site is live"), "{}", first.out);
    assert!(first.out.contains("undo with `keel rollback`"), "{}", first.out);
    assert!(first.err.contains("  + service site_work"), "{}", first.err);
    let socket = site.path("state/run/engine.sock");
    let engine = format!("embedded engine 0.1.0 at unix://{} (KEEL_STATE)\n", socket.display());
    assert!(first.err.starts_with(&engine), "{}", first.err);
    let again = site.deploy("v1", &[]);
    assert!(again.code == 0 && again.out.starts_with("nothing to change"), "{}", again.out);
    let second = site.deploy("v2", &[]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(
        second.err.contains("  ~ service site_work (its tasks are replaced)"),
        "{}",
        second.err
    );
    assert_eq!(site.runs(), ["work:v2", "work:v2"]);
    let back = site.run(&["rollback"], &[]);
    assert_eq!(back.code, 0, "{}", back.err);
    assert_eq!(site.runs(), ["work:v1", "work:v1"]);
    let releases = site.run(&["releases", "--json"], &[]);
    let releases: Value = serde_json::from_str(&releases.out).expect("is JSON");
    assert_eq!(releases[0]["is_live"], true);
    assert_eq!(releases[0].get("specs"), None);
    let removed = site.run(&["rm", "site", "--yes"], &[]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert!(site.runs().is_empty());
}

#[test]
fn a_release_that_fails_is_taken_back_and_says_why() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let before = site.tasks();
    let bad = site.run(&["deploy", "site", "--version", "v2", "--json"], &[("SCRIPT", "bad")]);
    assert_eq!(bad.code, 3, "{}", bad.err);
    let outcome: Value = serde_json::from_str(&bad.out).expect("is JSON");
    assert_eq!(outcome["verdict"], "rolled_back");
    assert_eq!(outcome["cause"]["log"], serde_json::json!(["cannot work"]));
    assert!(bad.err.contains("  | cannot work"), "{}", bad.err);
    assert!(bad.err.contains("error[task-crashed-at-start]: "), "{}", bad.err);
    assert!(bad.err.contains("everything is as it was before"), "{}", bad.err);
    let ids = |tasks: &[Value]| -> Vec<Value> { tasks.iter().map(|t| t["id"].clone()).collect() };
    assert_eq!(ids(&site.tasks()), ids(&before));
}

#[test]
fn ctrl_c_in_a_release_leaves_what_was_before_and_says_so() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let child = site.deploy_half("v2");
    kill_process(Pid::from_child(&child), Signal::INT).expect("told to end");
    let said = said(child.wait_with_output().expect("ends"));
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(said.err.contains("everything is as it was before release v2"), "{}", said.err);
    assert_eq!(site.runs(), ["work:v1", "work:v1"]);
}

#[test]
fn a_release_whose_client_was_killed_is_taken_over_by_the_next() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let mut child = site.deploy_half("v2");
    child.kill().expect("killed");
    child.wait().expect("ends");
    let next = site.deploy("v3", &[]);
    assert_eq!(next.code, 0, "{}", next.err);
    assert_eq!(site.runs(), ["work:v3", "work:v3"]);
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let before = site.runs();
    let planned = site.run(&["deploy", "site", "--version", "v1", "--dry-run"], &[]);
    assert_eq!(planned.code, 0, "{}", planned.err);
    assert!(planned.out.contains("nothing was changed"), "{}", planned.out);
    assert_eq!(site.runs(), before);
}

#[test]
fn the_guides_script_deploys_the_guides_stack() {
    let site = Site::start();
    let script = site.path("swarm-deploy");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_keel"), &script).expect("a link");
    let mut command = std::process::Command::new(&script);
    command
        .args(["--version", "v1"])
        .current_dir(site.path("."))
        .env("KEEL_STATE", site.path("state"))
        .env_remove("DOCKER_HOST")
        .env_remove("STACK")
        .stdin(Stdio::null());
    let deployed = said(command.output().expect("runs"));
    assert_eq!(deployed.code, 0, "{}", deployed.err);
    assert!(deployed.out.starts_with("release v1 of ala is live"), "{}", deployed.out);
}

#[test]
fn a_task_runs_as_the_user_that_the_service_names() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::start();
    let stack = std::fs::read_to_string(site.path("docker-stack.yml")).expect("read");
    let stack = stack.replace("    image: work", "    user: \"65534\"\n    image: work");
    std::fs::write(site.path("docker-stack.yml"), stack).expect("written");
    std::fs::write(site.path("run-good.sh"), "id -u\ntouch own\nexec sleep 600\n")
        .expect("written");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.path("."), open).expect("changed");
    let deployed = site.deploy("v1", &[]);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(deployed.code, 3, "{}", deployed.err);
        assert!(deployed.err.contains("take `user:` out"), "{}", deployed.err);
        return;
    }
    assert_eq!(deployed.code, 0, "{}", deployed.err);
    let said = site.run(&["logs", "site_work"], &[]);
    assert!(said.out.contains("65534") && !said.out.contains("denied"), "{}", said.out);
}
