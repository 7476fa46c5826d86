//! Networks: which are created, and how a service is attached to them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Scope;
use super::deploy::put;
use crate::model::{Attachment, Network, Service, Stack};

const DEFAULT: &str = "default";

/// Keys of the networks some service is attached to.
pub fn used(stack: &Stack) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for service in stack.services.values() {
        if service.networks.is_empty() {
            used.insert(DEFAULT.to_string());
        }
        used.extend(service.networks.keys().cloned());
    }
    used
}

/// Create bodies of the used networks that are the stack's own.
pub fn networks(scope: &Scope<'_>) -> Vec<Value> {
    let implicit = Network::default();
    let used = used(scope.stack);
    let known = used.iter().map(|key| (key, scope.stack.networks.get(key).unwrap_or(&implicit)));
    known.filter(|(_, n)| !n.external).map(|(key, n)| create_body(scope, key, n)).collect()
}

fn create_body(scope: &Scope<'_>, key: &str, network: &Network) -> Value {
    let mut body = json!({
        "Name": network.name.clone().unwrap_or_else(|| scope.name(key)),
        "CheckDuplicate": true,
        "Driver": network.driver.as_deref().unwrap_or("overlay"),
        "Scope": "",
        "IPAM": ipam(network),
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigOnly": false,
        "ConfigFrom": null,
        "Options": if network.driver_opts.is_empty() { Value::Null } else { json!(network.driver_opts) },
        "Labels": scope.labels(&network.labels),
    });
    if let Some(ipv6) = network.enable_ipv6 {
        body["EnableIPv6"] = json!(ipv6);
    }
    body
}

fn ipam(network: &Network) -> Value {
    if network.ipam_driver.is_none() && network.subnets.is_empty() {
        return Value::Null;
    }
    let configs = network.subnets.iter().map(|subnet| {
        let mut out = Map::new();
        put(&mut out, "Subnet", json!(subnet.subnet));
        put(&mut out, "IPRange", json!(subnet.ip_range));
        put(&mut out, "Gateway", json!(subnet.gateway));
        Value::Object(out)
    });
    let mut out = Map::new();
    put(&mut out, "Driver", json!(network.ipam_driver));
    put(&mut out, "Config", configs.collect());
    Value::Object(out)
}

/// A service is known on each of its networks by its short name; a service that names no network
/// is on the stack's default one.
pub fn attachments(scope: &Scope<'_>, service: &Service) -> Value {
    let alone = [(DEFAULT.to_string(), Attachment::default())].into_iter().collect();
    let networks = if service.networks.is_empty() { &alone } else { &service.networks };
    let mut out: Vec<(String, Value)> = networks
        .iter()
        .map(|(key, attachment)| {
            let target = target(scope, key);
            let value = attach(service, &target, attachment);
            (target, value)
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().map(|(_, value)| value).collect()
}

fn target(scope: &Scope<'_>, key: &str) -> String {
    match scope.stack.networks.get(key) {
        Some(Network { name: Some(name), .. }) => name.clone(),
        Some(Network { external: true, .. }) => key.to_string(),
        Some(_) | None => scope.name(key),
    }
}

fn attach(service: &Service, target: &str, attachment: &Attachment) -> Value {
    let mut aliases = attachment.aliases.clone();
    if !["host", "bridge", "none", "default"].contains(&target) && !aliases.contains(&service.name)
    {
        aliases.push(service.name.clone());
    }
    let mut out = Map::new();
    out.insert("Target".into(), json!(target));
    put(&mut out, "Aliases", json!(aliases));
    put(&mut out, "DriverOpts", json!(attachment.driver_opts));
    Value::Object(out)
}
