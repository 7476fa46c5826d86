//! What Docker's own client sees of the tasks: containers, their logs and figures, and events.

use serde_json::Value;

use super::{await_state, site::Site};

fn list(site: &Site, query: &str) -> Vec<Value> {
    site.json(&format!("/containers/json?{query}")).as_array().cloned().expect("a list")
}

#[test]
fn tasks_are_seen_as_containers() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let running = list(&site, "");
    assert_eq!(running.len(), 2);
    let one = &running[0];
    let (id, name) = (one["Id"].as_str().expect("an id"), one["Names"][0].as_str().expect("one"));
    assert_eq!(id.len(), 64);
    assert!(name.starts_with("/site_work."), "{name}");
    assert!(one["Status"].as_str().expect("text").ends_with("(healthy)"), "{one}");
    assert_eq!(one["Labels"]["com.docker.swarm.service.name"], "site_work");

    let inspected = site.json(&format!("/containers/{}/json", &id[..12]));
    assert_eq!(inspected["Name"], name);
    assert_eq!(inspected["State"]["Health"]["Status"], "healthy");
    assert_eq!(inspected["State"]["Health"]["Log"][0]["ExitCode"], 0);
    let pid = inspected["State"]["Pid"].as_u64().expect("a number");
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());

    let stats = site.json(&format!("/containers/{id}/stats?stream=0&one-shot=1"));
    assert!(stats["memory_stats"]["usage"].as_u64().expect("a number") > 0, "{stats}");

    let (status, log) = site.ask("GET", &format!("/containers/{id}/logs?stdout=1"));
    assert!(status == 200 && log.ends_with("started\n"), "{log}");
    let (status, refusal) = site.ask("GET", &format!("/containers/{id}/logs"));
    assert!(status == 400 && refusal.contains("at least one stream"), "{refusal}");

    let named = list(&site, &format!("filters={{%22name%22:[%22{}%22]}}", &name[1..]));
    assert_eq!(named.len(), 1);
    assert!(list(&site, "filters={%22health%22:[%22unhealthy%22]}").is_empty());
    assert_eq!(list(&site, "limit=1").len(), 1);
}

#[test]
fn a_killed_container_is_replaced_and_seen_as_ended() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let id = list(&site, "")[0]["Id"].as_str().expect("an id").to_owned();
    assert_eq!(site.ask("POST", &format!("/containers/{id}/kill?signal=NONSENSE")).0, 400);
    assert_eq!(site.ask("POST", &format!("/containers/{id}/kill")).0, 204);
    await_state("a replacement", || {
        let running = list(&site, "");
        running.len() == 2 && running.iter().all(|one| one["Id"] != id.as_str())
    });
    let ended = site.json(&format!("/containers/{id}/json"));
    assert_eq!(ended["State"]["Status"], "exited");
    assert_eq!(ended["State"]["ExitCode"], 137);
    let (status, refusal) = site.ask("POST", &format!("/containers/{id}/kill"));
    assert!(status == 409 && refusal.contains("is not running"), "{refusal}");
    assert_eq!(site.ask("GET", "/containers/0123456789ab/json").0, 404);
}

#[test]
fn events_of_the_past_are_told_between_two_times() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let (status, lines) = site.ask("GET", "/events?since=0&until=1");
    assert_eq!((status, lines.as_str()), (200, ""));
    let filters = "filters={%22type%22:[%22service%22]}";
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = until.expect("after 1970").as_secs() + 1;
    let (_, lines) = site.ask("GET", &format!("/events?since=0&until={until}&{filters}"));
    let all: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    assert!(all.iter().all(|event| event["Type"] == "service"), "{lines}");
    assert_eq!(all[0]["Action"], "create");
    assert_eq!(all[0]["Actor"]["Attributes"]["name"], "site_work");
}

#[test]
fn images_that_are_in_use_stay() {
    let site = Site::start();
    std::fs::write(site.path("run-other.sh"), "exec sleep 600\n").expect("written");
    assert_eq!(site.deploy("v1", &[]).code, 0);
    assert_eq!(site.deploy("v2", &[("SCRIPT", "other")]).code, 0);
    let (status, refusal) = site.ask("DELETE", "/images/work:v2");
    assert_eq!(status, 409, "{refusal}");
    let filters = "filters={%22dangling%22:[%22false%22]}";
    let (status, pruned) = site.ask("POST", &format!("/images/prune?{filters}"));
    assert!(status == 200 && pruned.contains("work:v1"), "{pruned}");
    assert!(!pruned.contains("work:v2"), "{pruned}");
    let names = site.json("/images/json").to_string();
    assert!(names.contains("work:v2") && !names.contains("work:v1"), "{names}");
}

#[test]
fn what_needs_a_container_runtime_is_refused_with_the_way_that_works() {
    let site = Site::start();
    for (method, path, way) in [
        ("POST", "/build", "keel build"),
        ("POST", "/commit?container=x", "keel build"),
        ("POST", "/images/create?fromImage=nginx", "one tag at a time"),
        ("POST", "/swarm/update", "use Docker Swarm"),
    ] {
        let (status, body) = site.ask(method, path);
        assert!((400..=501).contains(&status) && body.contains(way), "{path}: {status} {body}");
    }
    assert_eq!(site.ask("GET", "/nothing/here").0, 404);
}

#[test]
fn a_named_volume_outlives_the_tasks_that_use_it() {
    let site = Site::start();
    let stack = std::fs::read_to_string(site.path("docker-stack.yml")).expect("read");
    let stack = stack.replace(
        "    environment:\n",
        "    volumes: [\"kept:/data\"]\n    environment:\n      DATA: /data/log\n",
    );
    std::fs::write(site.path("docker-stack.yml"), stack + "\nvolumes:\n  kept: {}\n")
        .expect("written");
    let script = "echo $GENERATION >> $DATA\ncat $DATA\nexec sleep 600\n";
    std::fs::write(site.path("run-good.sh"), script).expect("written");
    for version in ["v1", "v2"] {
        let deployed = site.deploy(version, &[]);
        assert_eq!(deployed.code, 0, "{}", deployed.err);
    }
    let folder = site.path("state/volumes/site_kept");
    let log = std::fs::read_to_string(folder.join("log")).expect("the volume's file");
    assert_eq!(log.lines().collect::<Vec<_>>(), ["v1", "v1", "v2", "v2"]);
    assert!(site.json("/volumes").to_string().contains("site_kept"));
    let (status, refusal) = site.ask("DELETE", "/volumes/site_kept");
    assert!(status >= 400 && refusal.contains("in use"), "{status} {refusal}");
    assert_eq!(site.run(&["rm", "site", "--yes"], &[]).code, 0);
    assert!(folder.exists(), "removing a stack removes no data");
    assert_eq!(site.ask("DELETE", "/volumes/site_kept").0, 204);
    assert!(!folder.exists());
}
