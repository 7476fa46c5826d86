//! Fields that nobody here knows survive: create, inspect, update, roll back.

use std::{io::Write, os::unix::net::UnixStream};

use serde_json::{Value, json};

use super::site::Site;

/// Posts JSON: status and answer.
fn post(site: &Site, path: &str, body: &Value) -> (u16, Value) {
    let mut socket = UnixStream::connect(site.path("state/run/engine.sock")).expect("open");
    let text = body.to_string();
    let length = text.len();
    let request =
        format!("POST {path} HTTP/1.0\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}");
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut socket, &mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("whole");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body.trim()).unwrap_or(Value::Null))
}

fn index(object: &Value) -> u64 {
    object["Version"]["Index"].as_u64().expect("a version")
}

#[test]
fn a_service_keeps_what_nobody_knows_through_update_and_rollback() {
    let site = Site::start();
    let spec = |version: u32| {
        json!({
            "Name": "s", "Labels": { "v": version.to_string() },
            "FutureTop": { "deep": [1, 2.5, null, { "x": "y" }] },
            "TaskTemplate": {
                "ContainerSpec": { "Image": "none:1", "FutureContainer": version },
                "FutureTask": ["a"], "ForceUpdate": version,
                "LogDriver": { "Name": "future", "Options": { "a": "b" } },
            },
            "Mode": { "Replicated": { "Replicas": 0, "FutureMode": true } },
            "UpdateConfig": { "Parallelism": 1, "FutureUpdate": { "a": 1 } },
            "EndpointSpec": { "Mode": "vip", "FutureEndpoint": 9 },
        })
    };
    let (status, made) = post(&site, "/services/create", &spec(1));
    assert_eq!(status, 201, "{made}");
    let there = |what: &str| {
        let service = site.json("/services/s");
        assert_eq!(service["Spec"], spec(if what == "updated" { 2 } else { 1 }), "{what}");
        service
    };
    let version = index(&there("created"));
    let update =
        |query: &str, body: &Value| post(&site, &format!("/services/s/update?{query}"), body);
    let (status, answer) = update(&format!("version={version}"), &spec(2));
    assert_eq!(status, 200, "{answer}");
    let updated = there("updated");
    assert_eq!(updated["PreviousSpec"], spec(1));
    let query = format!("version={}&rollback=previous", index(&updated));
    assert_eq!(update(&query, &updated["Spec"]).0, 200);
    there("rolled back");
    for (path, unknown) in [
        ("/TaskTemplate/RestartPolicy", json!({ "Condition": "on-full-moon" })),
        ("/UpdateConfig", json!({ "FailureAction": "explode" })),
        ("/UpdateConfig", json!({ "Order": "sideways" })),
        ("/Mode", json!({ "Future": {} })),
        ("/EndpointSpec", json!({ "Mode": "teleport" })),
    ] {
        let mut changed = spec(3);
        let (parent, key) = path.rsplit_once('/').expect("a path");
        changed.pointer_mut(parent).expect("there")[key] = unknown.clone();
        // Refused with words, or kept as it is; never a crash.
        let version = index(&site.json("/services/s"));
        let (status, answer) = update(&format!("version={version}"), &changed);
        if status != 200 {
            assert!(status < 500 && answer["message"].is_string(), "{path}: {answer}");
            continue;
        }
        let shown = site.json("/services/s")["Spec"].clone();
        for (key, value) in unknown.as_object().expect("one") {
            assert_eq!(&shown.pointer(path).expect("there")[key], value, "{path} {key}");
        }
    }
}

#[test]
fn other_objects_keep_it_too() {
    let site = Site::start();
    for (kind, spec) in [
        (
            "configs",
            json!({ "Name": "o", "Data": "aGk=", "Labels": {}, "Future": { "a": [1] },
            "Templating": { "Name": "golang" } }),
        ),
        (
            "secrets",
            json!({ "Name": "o", "Data": "aGk=", "Labels": {}, "Future": { "a": [1] },
            "Driver": null }),
        ),
    ] {
        let (status, made) = post(&site, &format!("/{kind}/create"), &spec);
        assert_eq!(status, 201, "{made}");
        let mut expected = spec.clone();
        if kind == "secrets" {
            expected.as_object_mut().expect("one").remove("Data");
        }
        let found = site.json(&format!("/{kind}/o"));
        assert_eq!(found["Spec"], expected);
        let mut changed = expected.clone();
        changed["Labels"] = json!({ "new": "yes" });
        let path = format!("/{kind}/o/update?version={}", index(&found));
        assert_eq!(post(&site, &path, &changed).0, 200);
        assert_eq!(site.json(&format!("/{kind}/o"))["Spec"], changed);
    }
    let network = json!({ "Name": "o", "Driver": "overlay", "Labels": { "a": "b" },
        "IPAM": { "Driver": "default", "Config": [] }, "Future": 7 });
    let volume = json!({ "Name": "o", "Driver": "local", "Labels": { "a": "b" },
        "DriverOpts": { "type": "tmpfs" } });
    for (kind, spec) in [("networks", &network), ("volumes", &volume)] {
        assert_eq!(post(&site, &format!("/{kind}/create"), spec).0, 201);
        let found = site.json(&format!("/{kind}/o"));
        for (key, value) in spec.as_object().expect("one") {
            let shown = if key == "DriverOpts" { "Options" } else { key };
            assert_eq!(&found[shown], value, "{kind} {key}");
        }
    }
}
