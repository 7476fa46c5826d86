//! Containers outside any service: made, started, ended and started again, whatever the engine does.

use serde_json::{Value, json};

use super::{await_state, site::Site};

/// Makes a container of the stack's image that runs a script; its id.
fn create(site: &Site, name: &str, script: &str, host: &Value) -> String {
    let body = json!({
        "Image": "work:v1", "Entrypoint": ["/bin/sh", "-c"], "Cmd": [script], "HostConfig": host,
    });
    let path = format!("/containers/create?name={name}");
    let (status, answer) = site.ask_with("POST", &path, &body.to_string());
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("is JSON");
    answer["Id"].as_str().expect("an id").to_owned()
}

fn start(site: &Site, name: &str) {
    let (status, answer) = site.ask("POST", &format!("/containers/{name}/start"));
    assert_eq!(status, 204, "{answer}");
}

fn inspect(site: &Site, name: &str) -> Value {
    site.json(&format!("/containers/{name}/json"))
}

fn is_running(site: &Site, name: &str) -> bool {
    inspect(site, name)["State"]["Status"] == "running"
}

/// An engine with an image.
fn site() -> Site {
    let site = Site::start();
    let built = site.run(&["build", "site", "--version", "v1"], &[]);
    assert_eq!(built.code, 0, "{}", built.err);
    site
}

#[test]
fn a_container_keeps_its_id_and_log_over_restarts_and_over_the_engine() {
    let site = site();
    let policy = json!({ "RestartPolicy": { "Name": "unless-stopped" } });
    let id = create(&site, "tool", "echo here; exec sleep 600", &policy);
    assert_eq!(inspect(&site, "tool")["State"]["Status"], "created");
    start(&site, "tool");
    assert_eq!(site.ask("POST", "/containers/tool/start").0, 304);
    let pid = |site: &Site| inspect(site, "tool")["State"]["Pid"].as_u64().expect("a number");
    let first = pid(&site);
    assert_eq!(site.ask("POST", "/containers/tool/restart?t=5").0, 204);
    assert_ne!(pid(&site), first);

    // The engine goes and comes: the process goes on.
    let second = pid(&site);
    assert_eq!(site.run(&["daemon", "--stop"], &[]).code, 0);
    assert!(std::path::Path::new(&format!("/proc/{second}")).exists());
    assert_eq!(site.run(&["daemon", "--background"], &[]).code, 0);
    await_state("it is taken over", || pid(&site) == second);
    let shown = inspect(&site, &id[..12]);
    assert_eq!((&shown["Name"], &shown["Id"]), (&json!("/tool"), &json!(id)));
    let (_, log) = site.ask("GET", "/containers/tool/logs?stdout=1");
    assert_eq!(log.matches("here").count(), 2, "{log:?}");

    // It died while the engine was away: the policy brings it back.
    assert_eq!(site.run(&["daemon", "--stop"], &[]).code, 0);
    let second = rustix::process::Pid::from_raw(i32::try_from(second).expect("small"));
    rustix::process::kill_process(second.expect("one"), rustix::process::Signal::KILL)
        .expect("killed");
    assert_eq!(site.run(&["daemon", "--background"], &[]).code, 0);
    await_state("it is started again", || is_running(&site, "tool"));

    // Stopped by hand it stays so.
    assert_eq!(site.ask("POST", "/containers/tool/stop?t=5").0, 204);
    assert_eq!(site.ask("POST", "/containers/tool/stop").0, 304);
    assert_eq!(site.run(&["daemon", "--stop"], &[]).code, 0);
    assert_eq!(site.run(&["daemon", "--background"], &[]).code, 0);
    assert_eq!(inspect(&site, "tool")["State"]["Status"], "exited");
    assert_eq!(site.ask("DELETE", "/containers/tool").0, 204);
    assert_eq!(site.ask("GET", "/containers/tool/json").0, 404);
}

#[test]
fn one_that_keeps_failing_is_restarted_as_often_as_its_policy_says() {
    let site = site();
    let policy = json!({ "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 2 } });
    create(&site, "failing", "echo no; exit 3", &policy);
    start(&site, "failing");
    await_state("its last end", || inspect(&site, "failing")["State"]["Status"] == "exited");
    let shown = inspect(&site, "failing");
    assert_eq!((&shown["RestartCount"], &shown["State"]["ExitCode"]), (&json!(2), &json!(3)));
    let (_, log) = site.ask("GET", "/containers/failing/logs?stdout=1");
    assert_eq!(log.matches("no").count(), 3, "{log:?}");
    let (_, code) = site.ask("POST", "/containers/failing/wait");
    assert!(code.contains("\"StatusCode\":3"), "{code}");
    let (_, pruned) = site.ask("POST", "/containers/prune");
    assert!(pruned.contains("ContainersDeleted\":[\""), "{pruned}");
    assert_eq!(site.json("/containers/json?all=1"), json!([]));
}

#[test]
fn names_and_ports_belong_to_one_and_what_cannot_run_says_why() {
    let site = site();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let bindings = json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": port }] });
    create(&site, "one", "exec sleep 600", &json!({ "PortBindings": bindings }));
    let body = json!({ "Image": "work:v1" }).to_string();
    let (status, taken) = site.ask_with("POST", "/containers/create?name=one", &body);
    assert!(status == 409 && taken.contains("already in use by container"), "{taken}");
    let (status, missing) =
        site.ask_with("POST", "/containers/create", &json!({ "Image": "none:1" }).to_string());
    assert!(status == 404 && missing.contains("No such image: none:1"), "{missing}");
    let (status, refused) = site.ask("POST", "/containers/one/start");
    assert!(status == 500 && refused.contains("port is already allocated"), "{refused}");
    drop(listener);
    start(&site, "one");
    let shown = inspect(&site, "one");
    assert_eq!(shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], port.as_str());
    create(&site, "two", "exec sleep 600", &json!({ "PortBindings": bindings }));
    let (_, refused) = site.ask("POST", "/containers/two/start");
    assert!(refused.contains("by container one"), "{refused}");

    let body = json!({ "Image": "work:v1", "Entrypoint": ["/nowhere"] }).to_string();
    assert_eq!(site.ask_with("POST", "/containers/create?name=bad", &body).0, 201);
    let (status, refused) = site.ask("POST", "/containers/bad/start");
    assert!(status == 400 && refused.contains("no such file"), "{refused}");
    assert_eq!(inspect(&site, "bad")["State"]["ExitCode"], 127);
    let body = json!({ "Image": "work:v1", "HostConfig": { "Privileged": true } }).to_string();
    let (status, refused) = site.ask_with("POST", "/containers/create", &body);
    assert!(status == 501 && refused.contains("use a Docker engine"), "{refused}");
    assert_eq!(site.ask("DELETE", "/containers/one").0, 409);
    assert_eq!(site.ask("DELETE", "/containers/one?force=1").0, 204);
    start(&site, "two");
}

#[test]
fn a_volume_stays_for_the_next_container_and_goes_with_none_that_has_it() {
    let site = site();
    let host = json!({ "Binds": ["kept:/data"] });
    let body = json!({
        "Image": "work:v1", "Env": ["AT=/data"], "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo more >> $AT/file; exec cat $AT/file"], "HostConfig": host,
    });
    for lines in 1..=2 {
        let path = format!("/containers/create?name=c{lines}");
        assert_eq!(site.ask_with("POST", &path, &body.to_string()).0, 201);
        start(&site, &format!("c{lines}"));
        site.ask("POST", &format!("/containers/c{lines}/wait"));
        let (_, log) = site.ask("GET", &format!("/containers/c{lines}/logs?stdout=1"));
        assert_eq!(log.matches("more").count(), lines, "{log:?}");
    }
    let (status, refused) = site.ask("DELETE", "/volumes/kept");
    assert!(status == 409 && refused.contains("volume is in use"), "{refused}");
    let folder = site.json("/volumes/kept")["Mountpoint"].as_str().expect("text").to_owned();
    assert!(std::path::Path::new(&folder).join("file").exists());
    site.ask("POST", "/containers/prune");
    assert_eq!(site.ask("DELETE", "/volumes/kept").0, 204);
    assert!(!std::path::Path::new(&folder).exists());
}
