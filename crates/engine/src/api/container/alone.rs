//! A container outside any service, as Docker shows it.

use dockerapi::stamp;
use serde_json::{Map, Value, json};

use super::{Seen, moment};
use crate::{
    container::{Container, Health, Phase, Port},
    control::container_id,
};

pub(super) fn state(own: &Container) -> &'static str {
    match own.phase {
        Phase::Created => "created",
        // Not seen yet: the client that asked for it is still waiting.
        Phase::Starting if own.started_at.is_none() => "created",
        Phase::Starting | Phase::Running => "running",
        Phase::Restarting { .. } => "restarting",
        Phase::Exited => "exited",
    }
}

pub(super) fn health(own: &Container) -> &'static str {
    match (own.has_health_check, own.health) {
        (false, _) => "none",
        (true, Health::Starting) => "starting",
        (true, Health::Healthy) => "healthy",
        (true, Health::Unhealthy) => "unhealthy",
    }
}

pub(super) fn mode(own: &Container) -> String {
    let mode = own.asked["HostConfig"]["NetworkMode"].as_str().filter(|mode| !mode.is_empty());
    mode.unwrap_or("default").to_owned()
}

/// Names of the networks.
pub(super) fn networks(own: &Container) -> Vec<String> {
    let listed = own.asked["NetworkingConfig"]["EndpointsConfig"].as_object();
    listed.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Nothing separates networks here: they are told, with no address in them.
pub(super) fn endpoints(own: &Container) -> Value {
    let listed = &own.asked["NetworkingConfig"]["EndpointsConfig"];
    let all = networks(own).into_iter().map(|name| {
        let aliases = listed[&name]["Aliases"].clone();
        let endpoint = json!({
            "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0,
            "MacAddress": "", "Aliases": aliases, "Links": null, "IPAMConfig": null,
        });
        (name, endpoint)
    });
    Value::Object(all.collect())
}

fn address(port: &Port) -> String {
    port.host.map_or_else(|| "0.0.0.0".to_owned(), |host| host.to_string())
}

/// Of `GET /containers/json`.
pub(super) fn ports_list(own: &Container) -> Value {
    let exposed = own.asked["ExposedPorts"].as_object().into_iter().flatten();
    let published = own.ports.iter().filter(|_| own.holds_ports());
    let mut list: Vec<Value> = published
        .map(|port| {
            json!({
                "IP": address(port), "PrivatePort": port.target, "PublicPort": port.published,
                "Type": "tcp",
            })
        })
        .collect();
    for port in exposed.filter_map(|(port, _)| port.split('/').next()?.parse::<u16>().ok()) {
        if own.is_up() && !list.iter().any(|known| known["PrivatePort"] == port) {
            list.push(json!({ "PrivatePort": port, "Type": "tcp" }));
        }
    }
    Value::Array(list)
}

fn ports_map(own: &Container) -> Value {
    let mut map: Map<String, Value> = Map::new();
    if !own.holds_ports() {
        return Value::Object(map);
    }
    for (port, _) in own.asked["ExposedPorts"].as_object().into_iter().flatten() {
        map.insert(port.clone(), Value::Null);
    }
    for port in &own.ports {
        let key = format!("{}/tcp", port.target);
        let mut all = map.remove(&key).and_then(|known| known.as_array().cloned());
        let binding = json!({ "HostIp": address(port), "HostPort": port.published.to_string() });
        all.get_or_insert_default().push(binding);
        map.insert(key, json!(all));
    }
    Value::Object(map)
}

pub(super) fn inspected(own: &Container, seen: &Seen) -> Value {
    let mut config = own.asked.clone();
    if let Some(config) = config.as_object_mut() {
        config.remove("HostConfig");
        config.remove("NetworkingConfig");
    }
    let mut host = own.asked["HostConfig"].clone();
    if !host.is_object() {
        host = json!({});
    }
    host["NetworkMode"] = json!(mode(own));
    if host["LogConfig"]["Type"].as_str().unwrap_or("").is_empty() {
        host["LogConfig"] = json!({ "Type": "json-file", "Config": {} });
    }
    if host["RestartPolicy"]["Name"].as_str().unwrap_or("").is_empty() {
        host["RestartPolicy"] = json!({ "Name": "no", "MaximumRetryCount": 0 });
    }
    let argv: Vec<&Value> = [&own.asked["Entrypoint"], &own.asked["Cmd"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .collect();
    let is_restarting = matches!(own.phase, Phase::Restarting { .. });
    let is_running = own.is_up() || is_restarting;
    json!({
        "Id": container_id(&own.id), "Created": stamp::text(own.created_at),
        "Path": argv.first(), "Args": argv.get(1..).unwrap_or_default(),
        "State": {
            "Status": state(own), "Running": is_running, "Paused": false,
            "Restarting": is_restarting, "OOMKilled": false, "Dead": false,
            "Pid": seen.pid.unwrap_or(0), "ExitCode": own.exit_code,
            "Error": own.error.as_deref().unwrap_or(""), "StartedAt": moment(own.started_at),
            "FinishedAt": moment(own.finished_at),
        },
        "Image": own.image, "Name": format!("/{}", own.name), "RestartCount": own.restarts,
        "Driver": "process", "Platform": "linux", "Mounts": seen.mounts, "HostConfig": host,
        "Config": config, "ExecIDs": null, "LogPath": "", "MountLabel": "", "ProcessLabel": "",
        "NetworkSettings": {
            "Ports": ports_map(own), "Networks": endpoints(own), "IPAddress": "", "Gateway": "",
            "MacAddress": "", "EndpointID": "",
        },
    })
}
