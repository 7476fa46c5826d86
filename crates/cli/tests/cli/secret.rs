//! Secrets and templates of a task: the exact bytes, for the task alone, and nowhere else.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{await_state, site::Site};

/// Neither it nor its base64 may be anywhere but in the task's copy.
const CANARY: &str = "canary-3f9a1c77-bird";
const CANARY_BASE64: &str = "Y2FuYXJ5LTNmOWExYzc3LWJpcm";

const STACK: &str = r#"
services:
  work:
    image: work:1
    hostname: "{{.Service.Name}}-{{.Task.Slot}}"
    environment:
      KEY_FILE: /run/secrets/key
      CONF_FILE: /etc/app/app.conf
      WHO: "{{.Node.Platform.OS}}:{{.Task.Slot}}:{{index .Service.Labels \"tier\"}}"
    secrets:
      - {source: key, target: key, mode: 0400}
    configs:
      - {source: conf, target: /etc/app/app.conf}
    deploy:
      labels: {tier: web}
    x-evenkeel:
      artifact:
        files: {/run.sh: run.sh}
        entrypoint: ["/bin/sh", "/run.sh"]
secrets:
  key: {file: key.txt}
configs:
  conf: {file: app.conf, template_driver: golang}
"#;

const SCRIPT: &str = r#"
test "$(wc -c < "$KEY_FILE")" = 21 && grep -q bird "$KEY_FILE" && echo "the key is whole"
grep -q 'password=canary.*bird$' "$CONF_FILE" && echo "the config is made: $(grep who "$CONF_FILE")"
echo "key $KEY_FILE"
echo "WHO=$WHO HOSTNAME=$HOSTNAME"
exec sleep 600
"#;

fn start() -> Site {
    let site = Site::start();
    fs::write(site.path("docker-stack.yml"), STACK).expect("written");
    fs::write(site.path("run.sh"), SCRIPT).expect("written");
    fs::write(site.path("key.txt"), format!("{CANARY}\n")).expect("written");
    fs::write(
        site.path("app.conf"),
        "password={{secret \"key\"}}\nwho={{env \"WHO\"}}@{{.Service.Name}}\n",
    )
    .expect("written");
    let done = site.run(&["deploy", "site"], &[]);
    assert_eq!(done.code, 0, "{}", done.err);
    site
}

fn logs(site: &Site) -> String {
    await_state("its last line", || site.run(&["logs", "site_work"], &[]).out.contains("WHO="));
    site.run(&["logs", "site_work"], &[]).out
}

/// Every file below a folder that has the text.
fn with_canary(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("known");
        if kind.is_dir() {
            found.extend(with_canary(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("readable");
            let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if has(CANARY) || has(CANARY_BASE64) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_task_has_its_secrets_and_nobody_else_sees_them() {
    let site = start();
    let logs = logs(&site);
    assert!(logs.contains("the key is whole"), "{logs}");
    assert!(logs.contains("the config is made: who=linux:1:web@site_work"), "{logs}");
    assert!(logs.contains("WHO=linux:1:web HOSTNAME=site_work-1"), "{logs}");
    let path =
        logs.split("key ").find_map(|rest| rest.lines().next().filter(|l| l.starts_with('/')));
    let path = path.expect("where its key is").to_owned();
    let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o400);
    let in_memory = !path.contains("/state/tasks/");
    let found = with_canary(&site.path("state"));
    assert!(!in_memory || found.is_empty(), "{found:?}");
    let id = site.tasks()[0]["id"].as_str().expect("an id").to_owned();
    let containers = site.json("/containers/json");
    let container = containers[0]["Id"].as_str().expect("an id");
    for path in [
        "/services",
        "/tasks",
        "/secrets",
        "/configs",
        "/info",
        "/evenkeel/v1/tasks",
        "/evenkeel/v1/stats",
        &format!("/tasks/{id}"),
        &format!("/containers/{container}/json"),
    ] {
        let (_, body) = site.ask("GET", path);
        assert!(!body.contains(CANARY) && !body.contains(CANARY_BASE64), "{path}: {body}");
    }
    // Arguments of whatever runs here.
    for entry in fs::read_dir("/proc").expect("readable").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(CANARY), "{:?}", entry.path());
    }
    let removed = site.run(&["rm", "site", "--yes"], &[]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    await_state("the copy is gone", || !Path::new(&path).exists());
}

#[test]
fn copies_that_memory_lost_are_made_again_by_the_next_engine() {
    let site = start();
    let logs = logs(&site);
    let path =
        logs.split("key ").find_map(|rest| rest.lines().next().filter(|l| l.starts_with('/')));
    let path = Path::new(path.expect("where its key is"));
    let root = path.ancestors().nth(3).expect("above run/secrets").to_owned();
    if root.starts_with(site.path("state")) {
        return; // Without a file system in memory nothing is lost.
    }
    let ended = site.run(&["daemon", "--stop"], &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let left = root.with_file_name("leftoverofacrashedengine");
    fs::create_dir(&left).expect("made");
    fs::remove_dir_all(&root).expect("removed");
    let started = site.run(&["daemon", "--background"], &[]);
    assert_eq!(started.code, 0, "{}", started.err);
    await_state("its copy is back", || path.exists());
    assert_eq!(fs::read(path).expect("readable"), format!("{CANARY}\n").as_bytes());
    assert!(!left.exists());
}

#[test]
fn a_template_that_cannot_be_expanded_is_refused() {
    let site = Site::start();
    fs::write(site.path("run.sh"), "exec sleep 600\n").expect("written");
    let wrong = STACK.replace("{{.Service.Name}}-{{.Task.Slot}}", "{{.Service.Nam}}");
    fs::write(site.path("docker-stack.yml"), wrong).expect("written");
    fs::write(site.path("key.txt"), CANARY).expect("written");
    fs::write(site.path("app.conf"), "x").expect("written");
    let refused = site.run(&["deploy", "site"], &[]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("can't evaluate field Nam"), "{}", refused.err);
    assert_eq!(site.json("/services").as_array().map(Vec::len), Some(0));
    fs::write(site.path("docker-stack.yml"), STACK).expect("written");
    fs::write(site.path("app.conf"), "{{secret").expect("written");
    let refused = site.run(&["deploy", "site"], &[]);
    assert!(refused.err.contains("unclosed action"), "{}", refused.err);
}
