//! Who carries the requests to a stack: on a Swarm with an ingress of ours, the published ports are
//! taken from Docker's routing mesh, and a task is stopped only once it is drained. Pure but for the
//! question which of these it is.

use std::{collections::BTreeMap, time::Duration};

use dockerapi::{
    Client,
    publish::{self, Port, QUIET_SIGNAL, Stop, protocol_of},
    stamp::parse_duration,
};
use orchestrator::traffic::Protocol;
use serde_json::{Value, json};

use super::Wanted;
use crate::{
    error::Error,
    progress::{Progress, Said},
};

/// Label of a service that stays with the routing mesh.
const OPT_OUT: &str = "evenkeel.ingress";
const GRACE: Duration = Duration::from_secs(10);
const UPGRADED: Duration = Duration::from_secs(30);
const MONITOR: Duration = Duration::from_secs(5);
/// What an old task may stay beyond two monitor times, so that a replacement which crashes can be
/// replaced in its turn before the old one has to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether an ingress of ours is in front of this Swarm: the engine's own daemon says so, or a node
/// is labelled with it.
async fn is_ours(client: &Client) -> Result<bool, Error> {
    if let Ok(ready) = client.get("/evenkeel/v1/ready").await {
        return Ok(ready["engine"] == "swarm" && ready["ingress"] == true);
    }
    let nodes = client.nodes().await?;
    let label = |node: &Value| node.pointer("/Spec/Labels")?.get(publish::NODE).cloned();
    Ok(nodes.iter().any(|node| label(node).is_some()))
}

/// Makes the specs of a stack what this Swarm's ingress needs; says so where there is none.
pub(super) async fn adapt(
    client: &Client,
    wanted: &mut Wanted,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let publishes = wanted.lowered.services.iter().any(|service| takes_over(&service.spec));
    if !publishes {
        return Ok(());
    }
    if !is_ours(client).await? {
        let text = "no ingress of keel is in front of this Swarm: Docker's routing mesh carries \
                    the requests, does not drain tasks and hides the clients' addresses; run \
                    `keel daemon --swarm --background` on each node";
        progress.say(Said::Warning { text: text.to_owned() });
        return Ok(());
    }
    for service in &mut wanted.lowered.services {
        let image = client.image(&service.image).await.unwrap_or_default();
        let signal = image.pointer("/Config/StopSignal").and_then(Value::as_str).unwrap_or("");
        route(&mut service.spec, signal);
    }
    Ok(())
}

/// It has ports that the ingress takes over.
pub(crate) fn takes_over(spec: &Value) -> bool {
    spec.pointer("/Labels").and_then(|labels| labels.get(OPT_OUT)) != Some(&json!("false"))
        && ports(spec).any(is_taken)
}

fn ports(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.pointer("/EndpointSpec/Ports").and_then(Value::as_array).into_iter().flatten()
}

/// Published through the mesh, TCP, and with a port of its own.
fn is_taken(port: &Value) -> bool {
    let text = |key: &str| port.get(key).and_then(Value::as_str).unwrap_or("");
    matches!(text("PublishMode"), "" | "ingress")
        && matches!(text("Protocol"), "" | "tcp")
        && number(port, "PublishedPort").is_some()
}

fn number(port: &Value, key: &str) -> Option<u16> {
    let number = port.get(key)?.as_u64().and_then(|number| u16::try_from(number).ok())?;
    (number != 0).then_some(number)
}

/// Takes a service's ports from the mesh, and has its tasks drained before their stop signal.
/// `signal` is the image's own stop signal, empty when it has none.
fn route(spec: &mut Value, signal: &str) {
    if !takes_over(spec) {
        return;
    }
    let labels: BTreeMap<String, String> = spec
        .get("Labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    let taken: Vec<Port> = ports(spec)
        .filter(|port| is_taken(port))
        .filter_map(|port| {
            let published = number(port, "PublishedPort")?;
            let named = labels.get(&format!("evenkeel.port.{published}.protocol"));
            let protocol = named.and_then(|name| protocol_of(name)).unwrap_or(Protocol::Http);
            Some(Port { published, target: number(port, "TargetPort")?, protocol })
        })
        .collect();
    if let Some(ports) = spec.pointer_mut("/EndpointSpec/Ports").and_then(Value::as_array_mut) {
        ports.retain(|port| !is_taken(port));
    }
    for port in &taken {
        let (key, value) = port.label();
        spec["Labels"][key] = json!(value);
    }
    let nanos = |path: &str| spec.pointer(path).and_then(Value::as_u64).filter(|nanos| *nanos > 0);
    let grace = nanos("/TaskTemplate/ContainerSpec/StopGracePeriod");
    let grace = grace.map_or(GRACE, Duration::from_nanos);
    let monitor = nanos("/UpdateConfig/Monitor").map_or(MONITOR, Duration::from_nanos);
    let upgraded = labels.get(publish::DRAIN_UPGRADED).and_then(|text| parse_duration(text));
    let drain = upgraded.unwrap_or(UPGRADED).max(grace);
    let own = spec.pointer("/TaskTemplate/ContainerSpec/StopSignal").and_then(Value::as_str);
    let own = own.filter(|own| !own.is_empty()).unwrap_or(signal);
    let stop = Stop {
        signal: if own.is_empty() { "SIGTERM" } else { own }.to_owned(),
        grace,
        within: monitor * 2 + PATIENCE + drain,
    };
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    container["StopSignal"] = json!(QUIET_SIGNAL);
    container["StopGracePeriod"] =
        json!(u64::try_from((stop.within + grace).as_nanos()).unwrap_or(u64::MAX));
    if !container.get("Labels").is_some_and(Value::is_object) {
        container["Labels"] = json!({});
    }
    for (key, value) in stop.labels() {
        container["Labels"][key] = json!(value);
    }
}

/// Undoes [`route`]: ports and stop signal are Docker's again, and no label of ours is left.
pub(crate) fn unroute(spec: &mut Value) {
    let labels: BTreeMap<String, String> = spec
        .get("Labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    let ports = publish::ports(&labels);
    if !ports.is_empty() {
        if !spec.pointer("/EndpointSpec/Ports").is_some_and(Value::is_array) {
            spec["EndpointSpec"]["Ports"] = json!([]);
        }
        if let Some(list) = spec.pointer_mut("/EndpointSpec/Ports").and_then(Value::as_array_mut) {
            list.extend(ports.iter().map(|port| {
                json!({
                    "Protocol": "tcp", "PublishMode": "ingress",
                    "PublishedPort": port.published, "TargetPort": port.target,
                })
            }));
        }
    }
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    let own: BTreeMap<String, String> = container
        .get("Labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    if let Some(stop) = Stop::of(&own) {
        container["StopSignal"] = json!(stop.signal);
        container["StopGracePeriod"] =
            json!(u64::try_from(stop.grace.as_nanos()).unwrap_or(u64::MAX));
    }
    if let Some(labels) = container.get_mut("Labels") {
        without_ours(labels);
    }
    if let Some(labels) = spec.get_mut("Labels") {
        without_ours(labels);
    }
}

fn without_ours(labels: &mut Value) {
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !key.starts_with("evenkeel."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "Name": "ala_api",
            "Labels": { "evenkeel.drain.upgraded": "20s", "evenkeel.port.5432.protocol": "tcp" },
            "TaskTemplate": { "ContainerSpec": { "Image": "api:1", "StopGracePeriod": 15_000_000_000_u64 } },
            "UpdateConfig": { "Monitor": 5_000_000_000_u64 },
            "EndpointSpec": { "Ports": [
                { "Protocol": "tcp", "PublishedPort": 5000, "TargetPort": 5000, "PublishMode": "ingress" },
                { "PublishedPort": 5432, "TargetPort": 5432 },
                { "Protocol": "udp", "PublishedPort": 53, "TargetPort": 53 },
                { "Protocol": "tcp", "PublishedPort": 9, "TargetPort": 9, "PublishMode": "host" },
            ] },
        })
    }

    #[test]
    fn the_mesh_keeps_what_the_ingress_cannot_carry() {
        let mut spec = spec();
        route(&mut spec, "");
        let left: Vec<_> = ports(&spec).filter_map(|port| number(port, "PublishedPort")).collect();
        assert_eq!(left, [53, 9]);
        assert_eq!(spec["Labels"]["evenkeel.publish.5000"], "5000/http");
        assert_eq!(spec["Labels"]["evenkeel.publish.5432"], "5432/tcp");
    }

    #[test]
    fn the_real_stop_signal_waits_for_the_drain_and_has_its_whole_grace_left() {
        let mut spec = spec();
        route(&mut spec, "SIGQUIT");
        let container = &spec["TaskTemplate"]["ContainerSpec"];
        assert_eq!(container["StopSignal"], QUIET_SIGNAL);
        let labels = serde_json::from_value(container["Labels"].clone()).expect("labels");
        let stop = Stop::of(&labels).expect("a stop");
        assert_eq!(stop.signal, "SIGQUIT");
        assert_eq!(stop.grace, Duration::from_secs(15));
        assert_eq!(stop.within, Duration::from_secs(5 + 5 + 10 + 20));
        assert_eq!(container["StopGracePeriod"], 55_000_000_000_u64);
    }

    #[test]
    fn a_service_that_opted_out_or_publishes_nothing_stays_as_it_is() {
        let mut out = spec();
        out["Labels"][OPT_OUT] = json!("false");
        let mut quiet = spec();
        quiet["EndpointSpec"] = json!({});
        for spec in [out, quiet] {
            let mut routed = spec.clone();
            route(&mut routed, "");
            assert_eq!(routed, spec);
        }
    }

    #[test]
    fn what_is_given_back_is_docker_s_again() {
        let mut spec = spec();
        route(&mut spec, "SIGQUIT");
        unroute(&mut spec);
        let mut published: Vec<_> =
            ports(&spec).filter_map(|port| number(port, "PublishedPort")).collect();
        published.sort_unstable();
        assert_eq!(published, [9, 53, 5000, 5432]);
        let container = &spec["TaskTemplate"]["ContainerSpec"];
        assert_eq!(container["StopSignal"], "SIGQUIT");
        assert_eq!(container["StopGracePeriod"], 15_000_000_000_u64);
        assert!(!spec.to_string().contains("evenkeel."), "{spec}");
    }

    #[test]
    fn what_was_routed_once_is_not_routed_again() {
        let mut once = spec();
        route(&mut once, "");
        let mut twice = once.clone();
        route(&mut twice, "");
        assert_eq!(once, twice);
    }
}
