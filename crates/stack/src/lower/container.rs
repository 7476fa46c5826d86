//! The container part of a service spec.

use serde_json::{Map, Value, json};

use super::Scope;
use super::content;
use super::deploy::{nanos, put};
use crate::model::{Healthcheck, Mount, MountKind, Process, Service};

pub fn spec(scope: &Scope<'_>, service: &Service, image: &str) -> Value {
    let process = &service.process;
    let mut out = Map::new();
    put(&mut out, "Image", json!(image));
    put(&mut out, "Labels", json!(scope.labels(&service.labels)));
    put(&mut out, "Command", json!(service.entrypoint));
    put(&mut out, "Args", json!(service.command));
    put(&mut out, "Hostname", json!(process.hostname));
    put(&mut out, "Env", environment(service));
    put(&mut out, "Dir", json!(process.working_dir));
    put(&mut out, "User", json!(process.user));
    put(&mut out, "Groups", json!(process.groups));
    let privileges =
        json!({"CredentialSpec": null, "SELinuxContext": null, "NoNewPrivileges": false});
    out.insert("Privileges".into(), privileges);
    if let Some(init) = process.init {
        out.insert("Init".into(), json!(init));
    }
    put(&mut out, "StopSignal", json!(process.stop_signal));
    put(&mut out, "TTY", json!(process.tty));
    put(&mut out, "OpenStdin", json!(process.stdin_open));
    put(&mut out, "ReadOnly", json!(process.read_only));
    put(&mut out, "Mounts", service.mounts.iter().map(|m| mount(scope, m)).collect());
    if let Some(grace) = process.stop_grace_period {
        out.insert("StopGracePeriod".into(), nanos(grace));
    }
    if let Some(check) = &service.healthcheck {
        out.insert("Healthcheck".into(), healthcheck(check));
    }
    let hosts = process.extra_hosts.iter().map(|(address, name)| format!("{address} {name}"));
    put(&mut out, "Hosts", hosts.collect());
    put(&mut out, "DNSConfig", dns(process));
    let secrets = content::references(scope, &service.secrets, &scope.stack.secrets, "SecretName");
    put(&mut out, "Secrets", secrets.into());
    let configs = content::references(scope, &service.configs, &scope.stack.configs, "ConfigName");
    put(&mut out, "Configs", configs.into());
    put(&mut out, "Isolation", json!(process.isolation));
    put(&mut out, "Sysctls", json!(process.sysctls));
    let (add, drop) = capabilities(&process.cap_add, &process.cap_drop);
    put(&mut out, "CapabilityAdd", json!(add));
    put(&mut out, "CapabilityDrop", json!(drop));
    let limits = process.ulimits.iter();
    let limits = limits.map(|(name, l)| json!({"Name": name, "Hard": l.hard, "Soft": l.soft}));
    put(&mut out, "Ulimits", limits.collect());
    put(&mut out, "OomScoreAdj", json!(process.oom_score_adj));
    Value::Object(out)
}

/// Sorted `NAME=value`; a bare `NAME` takes the variable out of the image's environment.
fn environment(service: &Service) -> Value {
    let vars = service.environment.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    });
    let mut vars: Vec<String> = vars.collect();
    vars.sort();
    json!(vars)
}

/// Docker's form of a health check: `{"Test":[…],"Interval":ns,…}`.
pub fn healthcheck(check: &Healthcheck) -> Value {
    let mut out = Map::new();
    put(&mut out, "Test", json!(check.test));
    put(&mut out, "Interval", check.interval.map_or(Value::Null, nanos));
    put(&mut out, "Timeout", check.timeout.map_or(Value::Null, nanos));
    put(&mut out, "StartPeriod", check.start_period.map_or(Value::Null, nanos));
    put(&mut out, "StartInterval", check.start_interval.map_or(Value::Null, nanos));
    put(&mut out, "Retries", json!(check.retries));
    Value::Object(out)
}

fn dns(process: &Process) -> Value {
    let mut out = Map::new();
    put(&mut out, "Nameservers", json!(process.dns));
    put(&mut out, "Search", json!(process.dns_search));
    put(&mut out, "Options", json!(process.dns_options));
    Value::Object(out)
}

fn mount(scope: &Scope<'_>, mount: &Mount) -> Value {
    let mut out = Map::new();
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    };
    put(&mut out, "Type", json!(kind));
    match (mount.kind, &mount.source) {
        (MountKind::Volume, Some(key)) => named_volume(scope, mount, key, &mut out),
        (MountKind::Bind, source) => put(&mut out, "Source", json!(source)),
        (MountKind::Volume, None) | (MountKind::Tmpfs, _) => {}
    }
    put(&mut out, "Target", json!(mount.target));
    put(&mut out, "ReadOnly", json!(mount.read_only));
    put(&mut out, "Consistency", json!(mount.consistency));
    if let Some(propagation) = &mount.propagation {
        out.insert("BindOptions".into(), json!({"Propagation": propagation}));
    }
    if mount.kind == MountKind::Tmpfs {
        let mut options = Map::new();
        put(&mut options, "SizeBytes", json!(mount.tmpfs_size));
        put(&mut options, "Mode", json!(mount.tmpfs_mode));
        put(&mut out, "TmpfsOptions", Value::Object(options));
    }
    Value::Object(out)
}

fn named_volume(scope: &Scope<'_>, mount: &Mount, key: &str, out: &mut Map<String, Value>) {
    let volume = scope.stack.volumes.get(key).cloned().unwrap_or_default();
    let own_name = if volume.external { key.to_string() } else { scope.name(key) };
    put(out, "Source", json!(volume.name.unwrap_or(own_name)));
    let mut options = Map::new();
    put(&mut options, "NoCopy", json!(mount.no_copy));
    put(&mut options, "Subpath", json!(mount.subpath));
    if !volume.external {
        options.insert("Labels".into(), json!(scope.labels(&volume.labels)));
        if volume.driver.is_some() || !volume.driver_opts.is_empty() {
            let mut driver = Map::new();
            put(&mut driver, "Name", json!(volume.driver));
            put(&mut driver, "Options", json!(volume.driver_opts));
            options.insert("DriverConfig".into(), Value::Object(driver));
        }
    }
    out.insert("VolumeOptions".into(), Value::Object(options));
}

/// Upper case, `CAP_` in front, sorted; `ALL` swallows the rest of its list, and what is both
/// added and dropped is added (docker/cli `opts.EffectiveCapAddCapDrop`).
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let add = normalised(add);
    let mut drop = normalised(drop);
    drop.retain(|cap| !add.contains(cap));
    (add, drop)
}

fn normalised(caps: &[String]) -> Vec<String> {
    let upper = caps.iter().map(|cap| cap.trim().to_uppercase());
    let mut caps: Vec<String> = upper
        .map(|cap| if cap == "ALL" || cap.starts_with("CAP_") { cap } else { format!("CAP_{cap}") })
        .collect();
    caps.sort();
    caps.dedup();
    if caps.iter().any(|cap| cap == "ALL") {
        return vec!["ALL".to_string()];
    }
    caps
}
