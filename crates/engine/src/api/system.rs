//! Ping, version, info, the swarm and its one node, events.

use bytes::Bytes;
use dockerapi::{ApiError, filter::Filters, stamp, version as api_version};
use http::{Method, header::HeaderValue};
use hyper::Response;
use serde_json::{Value, json};

use super::{Answer, Api, Body, Call, full, json as respond};
use crate::control::{State, hostname};

pub(super) fn ping(method: &Method) -> Response<Body> {
    let body: &'static [u8] = if method == Method::HEAD { b"" } else { b"OK" };
    let mut response = Response::new(full(Bytes::from_static(body)));
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("api-version", api_version::text(api_version::NEWEST));
    set("ostype", "linux".to_owned());
    set("docker-experimental", "false".to_owned());
    set("builder-version", "1".to_owned());
    set("swarm", "active/manager".to_owned());
    set("cache-control", "no-cache, no-store, must-revalidate".to_owned());
    set("server", format!("Evenkeel/{} (linux)", env!("CARGO_PKG_VERSION")));
    set("content-type", "text/plain; charset=utf-8".to_owned());
    response
}

pub(super) fn version() -> Value {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    json!({
        "Platform": { "Name": "Evenkeel embedded engine" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api_version::text(api_version::NEWEST),
        "MinAPIVersion": api_version::text(api_version::OLDEST),
        "Os": "linux", "Arch": "amd64", "KernelVersion": kernel,
        "GitCommit": "", "GoVersion": "", "BuildTime": "",
        "Components": [],
    })
}

pub(super) fn already_a_swarm() -> ApiError {
    ApiError::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
         join another one.",
    )
}

fn node(state: &State) -> Value {
    json!({
        "ID": state.node_id,
        "Version": { "Index": 9 },
        "CreatedAt": stamp::text(state.created_at),
        "UpdatedAt": stamp::text(state.created_at),
        "Spec": { "Labels": {}, "Role": "manager", "Availability": "active" },
        "Description": {
            "Hostname": hostname(),
            "Platform": { "Architecture": "x86_64", "OS": "linux" },
            "Engine": { "EngineVersion": env!("CARGO_PKG_VERSION") },
            "Resources": {},
        },
        "Status": { "State": "ready", "Addr": "127.0.0.1" },
        "ManagerStatus": { "Leader": true, "Reachability": "reachable", "Addr": "127.0.0.1:2377" },
    })
}

impl Api {
    pub(super) async fn info(&self) -> Answer {
        let images = self.images.list().len();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = memory_bytes();
        let cgroups = self.cgroups.clone();
        let info = self
            .control
            .read(move |state| {
                let running = state.world.tasks().filter(|task| task.is_live()).count();
                json!({
                    "ID": state.cluster_id,
                    "Name": hostname(), "NCPU": cpus, "MemTotal": memory,
                    "ServerVersion": env!("CARGO_PKG_VERSION"),
                    "OperatingSystem": "Evenkeel embedded engine",
                    "OSType": "linux", "Architecture": "x86_64",
                    "Containers": running, "ContainersRunning": running, "ContainersPaused": 0,
                    "ContainersStopped": 0, "Images": images, "Driver": "process",
                    "Swarm": {
                        "NodeID": state.node_id, "NodeAddr": "127.0.0.1",
                        "LocalNodeState": "active", "ControlAvailable": true, "Error": "",
                        "RemoteManagers": [{ "NodeID": state.node_id, "Addr": "127.0.0.1:2377" }],
                        "Nodes": 1, "Managers": 1,
                        "Cluster": {
                            "ID": state.cluster_id, "Version": { "Index": 9 },
                            "CreatedAt": stamp::text(state.created_at),
                            "UpdatedAt": stamp::text(state.created_at),
                            "Spec": { "Name": "default", "Labels": {} },
                        },
                    },
                })
            })
            .await?;
        let mut info = info;
        super::limits::show_machine(&cgroups, &mut info);
        Ok(respond(&info))
    }

    pub(super) async fn swarm(&self) -> Answer {
        let swarm = self
            .control
            .read(|state| {
                json!({
                    "ID": state.cluster_id, "Version": { "Index": 9 },
                    "CreatedAt": stamp::text(state.created_at),
                    "UpdatedAt": stamp::text(state.created_at),
                    "Spec": {
                        "Name": "default", "Labels": {},
                        "Orchestration": { "TaskHistoryRetentionLimit": 5 },
                    },
                    "JoinTokens": { "Worker": "", "Manager": "" },
                })
            })
            .await?;
        Ok(respond(&swarm))
    }

    pub(super) async fn nodes(&self, call: &Call) -> Answer {
        let known = ["id", "name", "label", "role", "membership", "node.label"];
        let filters = Filters::parse(call.get("filters"), &known)?;
        let node = self.control.read(node).await?;
        let is_wanted = filters.any("id", |id| node["ID"].as_str().unwrap_or("").starts_with(id))
            && filters.any("name", |name| hostname().starts_with(name))
            && filters.any("role", |role| role == "manager")
            && filters.any("membership", |membership| membership == "accepted")
            && filters.any("node.label", |_| false)
            && filters.labels(&node["Spec"]["Labels"]);
        Ok(respond(&if is_wanted { json!([node]) } else { json!([]) }))
    }

    pub(super) async fn node(&self, key: &str) -> Answer {
        let found = self.control.read(node).await?;
        let is_it = found["ID"].as_str().is_some_and(|id| key == "self" || id.starts_with(key))
            || found["Description"]["Hostname"] == key;
        if is_it {
            Ok(respond(&found))
        } else {
            Err(ApiError::not_found(format!("node {key} not found")))
        }
    }

    pub(super) fn disk_usage(&self) -> Response<Body> {
        let size: u64 = self.images.list().iter().map(|(image, _)| image.size).sum();
        respond(&json!({
            "LayersSize": size, "Images": super::images::summaries(&self.images),
            "Containers": [], "Volumes": [], "BuildCache": [],
        }))
    }
}

/// The machine's memory.
pub(super) fn memory_bytes() -> u64 {
    let known = rustix::system::sysinfo();
    u64::from(known.mem_unit).saturating_mul(known.totalram)
}
