//! The swarm's end and beginning on the embedded engine.

use serde_json::{Value, json};

use super::{await_state, site::Site};

#[test]
fn whoever_leaves_ends_the_services_and_keeps_containers_until_a_new_swarm_begins() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let node = |site: &Site| site.json("/info")["Swarm"]["NodeID"].as_str().map(str::to_owned);
    let first = node(&site).expect("a node");
    let body = json!({ "Image": "work:v1" }).to_string();
    assert_eq!(site.ask_with("POST", "/containers/create?name=beside", &body).0, 201);
    assert_eq!(site.ask("POST", "/containers/beside/start").0, 204);

    let (status, refused) = site.ask("POST", "/swarm/leave");
    assert!(status == 503 && refused.contains("Removing the last manager erases"), "{refused}");
    let (status, refused) = site.ask_with("POST", "/swarm/init", "{}");
    assert!(status == 503 && refused.contains("already part of a swarm"), "{refused}");
    assert_eq!(site.ask("POST", "/swarm/leave?force=1").0, 200);
    let left = |site: &Site| {
        for path in ["/services", "/tasks", "/nodes", "/configs", "/secrets", "/swarm"] {
            let (status, refused) = site.ask("GET", path);
            assert!(status == 503 && refused.contains("not a swarm manager"), "{path}: {refused}");
        }
        assert_eq!(site.json("/info")["Swarm"]["LocalNodeState"], "inactive");
    };
    left(&site);
    assert_eq!(site.ask("POST", "/swarm/leave?force=1").0, 503);
    await_state("only the container runs", || {
        site.json("/containers/json").as_array().map(Vec::len) == Some(1)
    });
    let said = site.run(&["ls"], &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("docker swarm init"), "{}", said.err);

    // It stays so over the engine.
    assert_eq!(site.run(&["daemon", "--stop"], &[]).code, 0);
    assert_eq!(site.run(&["daemon", "--background"], &[]).code, 0);
    left(&site);
    let (status, id) = site.ask_with("POST", "/swarm/init", "{}");
    let id: Value = serde_json::from_str(&id).expect("is JSON");
    assert_eq!((status, id.as_str().map(str::to_owned)), (200, node(&site)));
    assert_ne!(node(&site).expect("a node"), first);
    assert_eq!(site.json("/services"), json!([]));
    assert_eq!(site.deploy("v1", &[]).code, 0);
    assert_eq!(site.runs().len(), 2);
}
