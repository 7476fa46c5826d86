//! The state from the store, or a new one.

use std::collections::BTreeMap;

use dockerapi::{convert, stamp};
use orchestrator::{Needs, ServiceId, TaskId, Time, World};
use serde_json::{Value, json};

use super::state::{KINDS, NodeSpec, Service, State};
use crate::store::{Store, StoreError, Write};

/// The node's own record.
pub const NODE_KIND: &str = "meta";
/// Tasks kept per slot, as `docker swarm init` sets it.
const TASK_HISTORY: usize = 5;

/// Reads everything back.
pub(super) fn state(store: &Store) -> Result<State, StoreError> {
    let meta = |id: &str| -> Result<Value, StoreError> {
        let text = store.get(NODE_KIND, id)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    };
    let identity = meta("identity")?;
    let counters = meta("counters")?;
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let text = |key: &str| identity.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut services = BTreeMap::new();
    let mut known = Vec::new();
    for (id, body) in store.all("service")? {
        let value: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        let part = |key: &str| value.get(key).cloned().unwrap_or(Value::Null);
        if let Ok(world) = serde_json::from_value::<orchestrator::Service>(part("world")) {
            let api = serde_json::from_value(part("api")).unwrap_or(Service {
                index: 1,
                created_at: world.created_at,
                updated_at: world.updated_at,
            });
            services.insert(ServiceId(id), api);
            known.push(with_needs(world));
        }
    }
    let tasks = store.all("task")?;
    let tasks = tasks.iter().filter_map(|(_, body)| serde_json::from_str(body).ok()).collect();
    let node_id = text("node");
    let node: NodeSpec = serde_json::from_value(meta("node")?).unwrap_or_default();
    let world = World::restore(
        number(&identity, "seed"),
        number(&counters, "ids_issued"),
        vec![node_id.clone()],
        TASK_HISTORY,
        known,
        tasks,
    )
    .with_node(super::node::facts(&node_id, &node));
    let mut objects = BTreeMap::new();
    for kind in KINDS {
        let all = store.all(kind)?;
        let all =
            all.into_iter().filter_map(|(id, body)| Some((id, serde_json::from_str(&body).ok()?)));
        objects.insert(kind, all.collect());
    }
    let networks = objects.entry("network").or_insert_with(BTreeMap::new);
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let (id, network) = predefined(name, driver, Time(number(&identity, "created_at")));
        networks.insert(id, network);
    }
    let containers = store.all("container")?;
    let containers = containers
        .into_iter()
        .filter_map(|(id, body)| Some((TaskId(id), serde_json::from_str(&body).ok()?)))
        .collect();
    Ok(State {
        world,
        containers,
        removed: Default::default(),
        changed_containers: Default::default(),
        container_actions: Vec::new(),
        services,
        objects,
        node_id,
        is_in_swarm: State::is_in_swarm(&identity),
        seed: number(&identity, "seed"),
        identity_to_save: None,
        node,
        cluster_id: text("cluster"),
        created_at: Time(number(&identity, "created_at")),
        version_index: number(&counters, "version_index").max(10),
        is_ingress_connected: false,
        listen_failures: BTreeMap::new(),
        last_time: Time(0),
        actions: Vec::new(),
        are_routes_changed: false,
        events: Vec::new(),
        changed_objects: Default::default(),
        is_node_changed: false,
    })
}

/// A network that every engine has, and nobody can take away.
fn predefined(name: &str, driver: &str, created_at: Time) -> (String, Value) {
    let id: String = name.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect();
    let network = json!({
        "Name": name, "Id": id, "Created": stamp::text(created_at), "Scope": "local",
        "Driver": driver, "EnableIPv6": false, "Internal": false, "Attachable": false,
        "Ingress": false, "Options": {}, "Labels": {}, "IPAM": { "Driver": "default" },
    });
    (id, network)
}

/// A service that was saved before placement was understood needs what its spec says.
fn with_needs(mut service: orchestrator::Service) -> orchestrator::Service {
    let spec = &mut service.spec;
    if spec.task.needs == Needs::default()
        && let Ok(wire) = serde_json::from_str(&spec.raw)
    {
        spec.task.needs = convert::needs(&wire).unwrap_or_default();
    }
    service
}

/// Gives a new store its identity and the network that every swarm has.
pub(crate) fn found(store: &mut Store) -> Result<(), StoreError> {
    if store.get(NODE_KIND, "identity")?.is_some() {
        return Ok(());
    }
    let mut seed = [0_u8; 8];
    // Without randomness from the system, the time still tells two engines apart.
    let seed = match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_le_bytes(seed) >> 1,
        Err(_) => stamp::now().0,
    };
    let now = stamp::now();
    let identity = json!({
        "seed": seed, "node": random_id(), "cluster": random_id(), "created_at": now.0,
    });
    let (network, ingress) = ingress_network(now);
    store.save(&[
        Write { kind: NODE_KIND, id: "identity".to_owned(), body: Some(identity.to_string()) },
        Write { kind: "network", id: network, body: Some(ingress.to_string()) },
    ])
}

/// The network that every swarm has.
pub(super) fn ingress_network(now: Time) -> (String, Value) {
    let id = random_id();
    let network = json!({
        "Name": "ingress", "Id": id, "Created": stamp::text(now), "Scope": "swarm",
        "Driver": "overlay", "Ingress": true, "Labels": {},
    });
    (id, network)
}

/// 25 characters of `[0-9a-z]`.
pub fn random_id() -> String {
    let mut bytes = [0_u8; 25];
    if getrandom::fill(&mut bytes).is_err() {
        let now = stamp::now().0.to_le_bytes();
        bytes[..8].copy_from_slice(&now);
    }
    bytes.iter().map(|b| char::from_digit(u32::from(*b) % 36, 36).unwrap_or('0')).collect()
}
