//! Ping, version, info, the swarm and its one node, events.

use bytes::Bytes;
use dockerapi::{ApiError, filter::Filters, stamp, version as api_version};
use http::{Method, header::HeaderValue};
use hyper::Response;
use serde_json::{Value, json};

use super::{Answer, Api, Body, Call, container::Container, full, json as respond, swarm};
use crate::control::{State, cpus, hostname, memory_bytes};

pub(super) fn ping(method: &Method, is_in_swarm: bool) -> Response<Body> {
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
    set("swarm", if is_in_swarm { "active/manager" } else { "inactive" }.to_owned());
    set("cache-control", "no-cache, no-store, must-revalidate".to_owned());
    set("server", format!("Evenkeel/{} (linux)", env!("CARGO_PKG_VERSION")));
    set("content-type", "text/plain; charset=utf-8".to_owned());
    response
}

pub(super) fn version() -> Value {
    json!({
        "Platform": { "Name": "Evenkeel embedded engine" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api_version::text(api_version::NEWEST),
        "MinAPIVersion": api_version::text(api_version::OLDEST),
        "Os": "linux", "Arch": "amd64", "KernelVersion": kernel(),
        "GitCommit": "", "GoVersion": "", "BuildTime": "",
        "Components": [],
    })
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The part of `GET /info` that never changes.
fn fixed() -> Value {
    let mut info = json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"), "KernelVersion": kernel(),
        "OperatingSystem": "Evenkeel embedded engine", "OSVersion": "", "OSType": "linux",
        "Architecture": "x86_64", "ContainersPaused": 0, "Driver": "process", "DriverStatus": [],
        "LoggingDriver": "json-file", "CgroupDriver": "none", "DefaultRuntime": "process",
        "Runtimes": { "process": { "path": "keel" } }, "SecurityOptions": [], "Labels": [],
        "Plugins": {
            "Volume": ["local"], "Network": ["bridge", "host", "null", "overlay"],
            "Authorization": null, "Log": ["json-file"],
        },
        "LiveRestoreEnabled": true, "IPv4Forwarding": true, "Debug": false,
        "ExperimentalBuild": false, "Isolation": "", "InitBinary": "", "RegistryConfig": null,
        "Warnings": ["No isolation: what runs are processes of this machine"],
    });
    for limit in [
        "MemoryLimit",
        "SwapLimit",
        "CpuCfsPeriod",
        "CpuCfsQuota",
        "CPUShares",
        "CPUSet",
        "PidsLimit",
    ] {
        info[limit] = json!(false);
    }
    info
}

impl Api {
    pub(super) async fn info(&self) -> Answer {
        let images = self.images.list().len();
        let cpus = cpus();
        let memory = memory_bytes();
        let cgroups = self.cgroups.clone();
        let root = self.tasks.parent().map(std::path::Path::to_owned);
        let info = self.control.read(move |state| {
            let all = Container::all(state);
            let is = |wanted: &str| all.iter().filter(|c| c.state() == wanted).count();
            let running = is("running") + is("restarting");
            let mut info = fixed();
            let own = json!({
                "ID": state.cluster_id, "Name": hostname(), "NCPU": cpus, "MemTotal": memory,
                "Containers": all.len(), "ContainersRunning": running,
                "ContainersStopped": all.len() - running, "Images": images,
                "DockerRootDir": root, "SystemTime": stamp::text(stamp::now()),
                "Swarm": swarm::info(state),
            });
            if let (Some(info), Some(own)) = (info.as_object_mut(), own.as_object()) {
                info.extend(own.clone());
            }
            info
        });
        let mut info = info.await?;
        super::limits::show_machine(&cgroups, &mut info);
        Ok(respond(&info))
    }

    pub(super) async fn nodes(&self, call: &Call) -> Answer {
        let known = ["id", "name", "label", "role", "membership", "node.label"];
        let filters = Filters::parse(call.get("filters"), &known)?;
        let node = self.control.read(State::shown_node).await?;
        let is_wanted = filters.any("id", |id| node["ID"].as_str().unwrap_or("").starts_with(id))
            && filters.any("name", |name| hostname().starts_with(name))
            && filters.any("role", |role| role == "manager")
            && filters.any("membership", |membership| membership == "accepted")
            && filters.any("node.label", |wanted| has_label(&node["Spec"]["Labels"], wanted))
            && filters.labels(&json!({}));
        Ok(respond(&if is_wanted { json!([node]) } else { json!([]) }))
    }

    pub(super) async fn node(&self, key: &str) -> Answer {
        let found = self.control.read(State::shown_node).await?;
        if is_called(&found, key) {
            Ok(respond(&found))
        } else {
            Err(ApiError::not_found(format!("node {key} not found")))
        }
    }

    pub(super) async fn update_node(&self, key: &str, call: Call) -> Answer {
        let version = call.get("version").unwrap_or("").to_owned();
        let Ok(version) = version.parse::<u64>() else {
            let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
            let text = format!("invalid node version '{version}': {why}");
            return Err(ApiError::bad_parameter(text));
        };
        let key = key.to_owned();
        let spec = call.json().await?;
        let update = self.control.write(move |state| {
            if !is_called(&state.shown_node(), &key) {
                return Err(ApiError::not_found(format!("node {key} not found")));
            }
            state.update_node(version, &spec)
        });
        update.await?;
        Ok(super::empty(http::StatusCode::OK))
    }
}

/// By id or its beginning, by host name, or as `self`.
fn is_called(node: &Value, key: &str) -> bool {
    let has_id = node["ID"].as_str().is_some_and(|id| !key.is_empty() && id.starts_with(key));
    key == "self" || has_id || node["Description"]["Hostname"] == key
}

/// `key` or `key=value`.
fn has_label(labels: &Value, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels[key] == value,
        None => labels.get(wanted).is_some(),
    }
}
