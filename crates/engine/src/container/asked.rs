//! The body of `POST /containers/create` understood: what the image gives it, what the driver reads,
//! which ports it wants, what is refused and what has no effect.

use std::net::IpAddr;

use dockerapi::ApiError;
use serde_json::{Map, Value, json};

use super::Policy;

/// A port that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub target: u16,
    /// First and last of the ports that will do; zero is any.
    pub published: (u16, u16),
    pub host: Option<IpAddr>,
}

/// What the image says applies where nothing else was asked for: Docker's rules.
pub fn with_image(mut asked: Value, image: &Value) -> Result<Value, ApiError> {
    if !asked.is_object() || asked["Image"].as_str().unwrap_or("").is_empty() {
        let text = "config cannot be empty in order to create a container";
        return Err(ApiError::bad_parameter(text));
    }
    let own = image.get("config").cloned().unwrap_or(Value::Null);
    if is_empty(&asked["Entrypoint"]) {
        if is_empty(&asked["Cmd"]) {
            asked["Cmd"] = own["Cmd"].clone();
        }
        asked["Entrypoint"] = own["Entrypoint"].clone();
    } else if asked["Entrypoint"] == json!([""]) {
        asked["Entrypoint"] = Value::Null;
    }
    for key in ["Entrypoint", "Cmd"] {
        if let Some(script) = asked[key].as_str() {
            asked[key] = json!([script]);
        }
    }
    for key in ["User", "WorkingDir", "StopSignal"] {
        if asked[key].as_str().unwrap_or("").is_empty() && own[key].is_string() {
            asked[key] = own[key].clone();
        }
    }
    for key in ["Labels", "ExposedPorts"] {
        let mut all = own[key].as_object().cloned().unwrap_or_default();
        all.extend(asked[key].as_object().cloned().unwrap_or_default());
        asked[key] = Value::Object(all);
    }
    let mut env: Vec<Value> = Vec::new();
    let name = |entry: &Value| {
        let text = entry.as_str().unwrap_or("");
        text.split_once('=').map_or(text, |(name, _)| name).to_owned()
    };
    for entry in list(&own["Env"]).chain(list(&asked["Env"])) {
        env.retain(|known| name(known) != name(entry));
        env.push(entry.clone());
    }
    asked["Env"] = Value::Array(env);
    if is_empty(&asked["Healthcheck"]["Test"]) && own["Healthcheck"].is_object() {
        let mut check = own["Healthcheck"].clone();
        for (key, value) in asked["Healthcheck"].as_object().into_iter().flatten() {
            if !is_empty(value) && value != 0 {
                check[key] = value.clone();
            }
        }
        asked["Healthcheck"] = check;
    }
    if is_empty(&asked["Entrypoint"]) && is_empty(&asked["Cmd"]) {
        return Err(ApiError::bad_parameter("no command specified"));
    }
    Ok(asked)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A probe is run for it.
pub fn has_health_check(asked: &Value) -> bool {
    let kind = asked["Healthcheck"]["Test"][0].as_str().unwrap_or("");
    let is_http = asked["Labels"].get(dockerapi::convert::HEALTH_HTTP).is_some();
    is_http || !matches!(kind, "" | "NONE")
}

/// What no process of this machine can be, and what contradicts itself.
pub fn refusal(asked: &Value) -> Option<ApiError> {
    let host = &asked["HostConfig"];
    if let Err(why) = Policy::of(asked) {
        return Some(ApiError::bad_parameter(why));
    }
    if host["AutoRemove"] == true && Policy::of(asked) != Ok(Policy::No) {
        let text = "can't create 'AutoRemove' container with restart policy";
        return Some(ApiError::bad_parameter(text));
    }
    let text = |key: &str| host[key].as_str().unwrap_or("");
    let shares = |key: &str| text(key).starts_with("container:");
    let what = match () {
        () if host["Privileged"] == true => "privileged containers",
        () if !is_empty(&host["Devices"]) || !is_empty(&host["DeviceRequests"]) => {
            "devices for containers"
        }
        () if ["NetworkMode", "PidMode", "IpcMode"].into_iter().any(shares) => {
            "containers that share another's namespaces"
        }
        () if !is_empty(&host["VolumesFrom"]) => "volumes of another container (`--volumes-from`)",
        () if !matches!(text("Runtime"), "" | "runc" | "io.containerd.runc.v2") => "other runtimes",
        () => return None,
    };
    Some(ApiError::not_supported(format!(
        "the embedded engine has no {what}: what it runs are processes of this machine; use a \
         Docker engine for this container"
    )))
}

/// What is accepted and changes nothing, as the docker client shows it.
pub fn warnings(asked: &Value) -> Vec<String> {
    let host = &asked["HostConfig"];
    let is_set = |key: &str| {
        let value = &host[key];
        !is_empty(value) && *value != 0 && *value != false && *value != -1
    };
    let limits = ["CpuShares", "CpuQuota", "CpusetCpus", "BlkioWeight", "MemorySwap"];
    let isolation = ["ReadonlyRootfs", "Sysctls"];
    let names = ["ExtraHosts", "Dns", "Links"];
    let groups: [(&[&str], &str); 3] = [
        (&limits, "these limits are not kept"),
        (&isolation, "isolation options have no effect"),
        (&names, "names are not resolved for containers; use 127.0.0.1 and published ports"),
    ];
    let said = groups.into_iter().filter_map(|(keys, what)| {
        let set: Vec<&str> = keys.iter().copied().filter(|key| is_set(key)).collect();
        (!set.is_empty()).then(|| format!("{}: on the embedded engine {what}", set.join(", ")))
    });
    said.collect()
}

/// The definition that the driver reads, of the image with this id.
pub fn definition(asked: &Value, image: &str) -> Result<String, ApiError> {
    let (entrypoint, cmd) = (asked["Entrypoint"].clone(), asked["Cmd"].clone());
    let (command, args) = if is_empty(&entrypoint) { (cmd, json!([])) } else { (entrypoint, cmd) };
    let host = &asked["HostConfig"];
    let gains_nothing = list(&host["SecurityOpt"]).any(|option| {
        matches!(
            option.as_str(),
            Some("no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true")
        )
    });
    let grace = asked["StopTimeout"].as_i64().and_then(|seconds| u64::try_from(seconds).ok());
    let mut ports: Vec<u16> = wishes(asked)?.into_iter().map(|wish| wish.target).collect();
    for port in asked["ExposedPorts"].as_object().into_iter().flatten().map(|(port, _)| port) {
        ports.extend(target(port).ok());
    }
    let mut seen = Vec::new();
    ports.retain(|port| {
        !seen.contains(port) && {
            seen.push(*port);
            true
        }
    });
    let spec = json!({
        "Image": image, "Labels": asked["Labels"], "Command": command, "Args": args,
        "Hostname": asked["Hostname"], "Env": asked["Env"], "Dir": asked["WorkingDir"],
        "User": asked["User"], "StopSignal": asked["StopSignal"],
        "StopGracePeriod": grace.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        "Healthcheck": asked["Healthcheck"], "Mounts": mounts(asked)?,
        "TTY": asked["Tty"] == true, "OpenStdin": asked["OpenStdin"] == true,
        "StdinOnce": asked["StdinOnce"] == true,
        "Ulimits": host["Ulimits"], "OomScoreAdj": host["OomScoreAdj"],
        "CapabilityAdd": host["CapAdd"], "CapabilityDrop": host["CapDrop"],
        "Privileges": { "NoNewPrivileges": gains_nothing },
    });
    let limits = json!({
        "MemoryBytes": host["Memory"], "NanoCPUs": host["NanoCpus"], "Pids": host["PidsLimit"],
    });
    let ports: Vec<Value> =
        ports.into_iter().map(|port| json!({ "Protocol": "tcp", "TargetPort": port })).collect();
    let definition = json!({
        "TaskTemplate": { "ContainerSpec": spec, "Resources": { "Limits": limits } },
        "EndpointSpec": { "Ports": ports },
    });
    Ok(definition.to_string())
}

/// Binds, mounts, volumes and tmpfs in the one form that the driver reads.
pub fn mounts(asked: &Value) -> Result<Vec<Value>, ApiError> {
    let host = &asked["HostConfig"];
    let mut mounts: Vec<Value> = Vec::new();
    for bind in list(&host["Binds"]).filter_map(Value::as_str) {
        let parts: Vec<&str> = bind.split(':').collect();
        let (source, target) = match parts.as_slice() {
            [source, target] | [source, target, _] => (*source, *target),
            _ => {
                let text = format!("invalid volume specification: '{bind}'");
                return Err(ApiError::bad_parameter(text));
            }
        };
        let is_ours = !source.starts_with('/');
        let kind = if is_ours { "volume" } else { "bind" };
        // Docker makes the folder of a bind that is not there, but not that of a mount.
        mounts.push(json!({
            "Type": kind, "Source": source, "Target": target, "CreateMountpoint": !is_ours,
            "ReadOnly": parts.get(2).is_some_and(|options| options.split(',').any(|o| o == "ro")),
        }));
    }
    mounts.extend(list(&host["Mounts"]).cloned());
    let own = |key: &'static str, kind: &'static str, from: &Value| {
        let targets = from[key].as_object().cloned().unwrap_or_default();
        targets.into_iter().map(move |(target, _)| json!({ "Type": kind, "Target": target }))
    };
    let more: Vec<Value> =
        own("Volumes", "volume", asked).chain(own("Tmpfs", "tmpfs", host)).collect();
    for mount in more {
        if !mounts.iter().any(|known| known["Target"] == mount["Target"]) {
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

/// `5432/tcp`.
fn target(port: &str) -> Result<u16, ApiError> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    if protocol != "tcp" {
        return Err(ApiError::not_supported(format!(
            "the embedded engine publishes TCP ports, not {port}; use a Docker engine for it"
        )));
    }
    let wrong = || ApiError::bad_parameter(format!("invalid port specification: {port:?}"));
    number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)
}

/// The ports that are asked for.
pub fn wishes(asked: &Value) -> Result<Vec<Wish>, ApiError> {
    let host = &asked["HostConfig"];
    let mut wishes: Vec<Wish> = Vec::new();
    let empty = Map::new();
    for (port, bindings) in host["PortBindings"].as_object().unwrap_or(&empty) {
        let target = target(port)?;
        for binding in list(bindings) {
            let text = |key: &str| binding[key].as_str().unwrap_or("");
            let ip = text("HostIp");
            let host = match ip {
                "" => None,
                ip => Some(ip.parse().map_err(|_| {
                    ApiError::bad_parameter(format!("invalid host IP of port {port}: {ip:?}"))
                })?),
            };
            let published = range(text("HostPort")).ok_or_else(|| {
                let given = text("HostPort");
                ApiError::bad_parameter(format!("invalid port specification: {given:?}"))
            })?;
            wishes.push(Wish { target, published, host });
        }
        if is_empty(bindings) {
            wishes.push(Wish { target, published: (0, 0), host: None });
        }
    }
    if host["PublishAllPorts"] == true {
        for (port, _) in asked["ExposedPorts"].as_object().unwrap_or(&empty) {
            let target = target(port)?;
            if !wishes.iter().any(|wish| wish.target == target) {
                wishes.push(Wish { target, published: (0, 0), host: None });
            }
        }
    }
    Ok(wishes)
}

/// ``, `80` or `8000-8010`.
fn range(text: &str) -> Option<(u16, u16)> {
    match text.split_once('-') {
        None if text.is_empty() => Some((0, 0)),
        None => text.parse().ok().map(|port| (port, port)),
        Some((first, last)) => {
            let range: (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            (range.0 > 0 && range.0 <= range.1).then_some(range)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Value {
        json!({ "config": {
            "Entrypoint": ["/db"], "Cmd": ["serve"], "Env": ["A=1", "B=2"], "WorkingDir": "/data",
            "ExposedPorts": { "5432/tcp": {} },
            "Healthcheck": { "Test": ["CMD", "/db", "check"], "Interval": 5 },
        } })
    }

    fn read(asked: Value) -> Value {
        let asked = with_image(asked, &image()).expect("understood");
        serde_json::from_str(&definition(&asked, "sha256:1").expect("understood")).expect("JSON")
    }

    #[test]
    fn the_image_says_what_was_not_asked_for() {
        let spec = &read(json!({ "Image": "db", "Env": ["B=3"] }))["TaskTemplate"]["ContainerSpec"];
        assert_eq!(spec["Command"], json!(["/db"]));
        assert_eq!(spec["Args"], json!(["serve"]));
        assert_eq!(spec["Env"], json!(["A=1", "B=3"]));
        assert_eq!(spec["Dir"], "/data");
        assert_eq!(spec["Healthcheck"]["Test"][2], "check");
        let own = &read(json!({ "Image": "db", "Cmd": ["dump"] }))["TaskTemplate"]["ContainerSpec"];
        assert_eq!((&own["Command"], &own["Args"]), (&json!(["/db"]), &json!(["dump"])));
        let other = read(json!({ "Image": "db", "Entrypoint": ["/sh"] }));
        let other = &other["TaskTemplate"]["ContainerSpec"];
        assert_eq!((&other["Command"], &other["Args"]), (&json!(["/sh"]), &Value::Null));
        let none = read(json!({ "Image": "db", "Entrypoint": [""], "Cmd": ["x"] }));
        assert_eq!(none["TaskTemplate"]["ContainerSpec"]["Command"], json!(["x"]));
    }

    #[test]
    fn ports_keep_their_address_and_only_tcp_is_published() {
        let asked = json!({ "HostConfig": { "PortBindings": {
            "5432/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "15432" }],
            "80/tcp": [{ "HostPort": "8000-8010" }], "90/tcp": [{}],
        } } });
        let wishes = wishes(&asked).expect("understood");
        let of = |target| wishes.iter().find(|wish| wish.target == target).expect("is there");
        assert_eq!(of(5432).published, (15432, 15432));
        assert_eq!(of(5432).host, "127.0.0.1".parse().ok());
        assert_eq!((of(80).published, of(80).host), ((8000, 8010), None));
        assert_eq!(of(90).published, (0, 0));
        let udp = json!({ "HostConfig": { "PortBindings": { "53/udp": [{}] } } });
        assert!(super::wishes(&udp).expect_err("refused").message.contains("53/udp"));
        let odd = json!({ "HostConfig": { "PortBindings": { "53/tcp": [{ "HostPort": "x" }] } } });
        assert!(super::wishes(&odd).is_err());
    }

    #[test]
    fn volumes_and_folders_are_told_apart() {
        let asked = json!({
            "Volumes": { "/cache": {}, "/data": {} },
            "HostConfig": { "Binds": ["db:/data:rw", "/srv:/srv:ro"], "Tmpfs": { "/run": "" } },
        });
        let mounts = mounts(&asked).expect("understood");
        let kinds: Vec<&str> = mounts.iter().filter_map(|mount| mount["Type"].as_str()).collect();
        assert_eq!(kinds, ["volume", "bind", "volume", "tmpfs"]);
        assert_eq!(mounts[0]["Source"], "db");
        assert_eq!(mounts[1]["ReadOnly"], true);
        assert_eq!(mounts[2]["Target"], "/cache");
        let wrong = json!({ "HostConfig": { "Binds": ["/only"] } });
        assert!(super::mounts(&wrong).is_err());
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_alternative_and_the_rest_is_said() {
        let of = |host: Value| json!({ "HostConfig": host });
        for host in [
            json!({ "Privileged": true }),
            json!({ "Devices": [{}] }),
            json!({ "NetworkMode": "container:x" }),
            json!({ "VolumesFrom": ["x"] }),
        ] {
            let refused = refusal(&of(host)).expect("refused");
            assert!(refused.message.contains("use a Docker engine"), "{refused}");
        }
        let both = json!({ "AutoRemove": true, "RestartPolicy": { "Name": "always" } });
        assert!(refusal(&of(both)).is_some());
        let policy = json!({ "RestartPolicy": { "Name": "always", "MaximumRetryCount": 3 } });
        assert!(refusal(&of(policy)).is_some());
        assert!(refusal(&of(json!({ "NetworkMode": "ala-network" }))).is_none());
        let warned = warnings(&of(json!({ "CpuShares": 1024, "ReadonlyRootfs": true })));
        assert_eq!(warned.len(), 2);
        assert!(warnings(&of(json!({ "Memory": 0, "CapAdd": null }))).is_empty());
    }
}
