//! The one node: what the machine is, and what the operator set of it.

use dockerapi::{ApiError, stamp};
use orchestrator::{Availability, Event, Node};
use serde_json::{Value, json};

use super::{State, hostname, state::NodeSpec};

/// `Version.Index` of a node of which nothing was set yet.
const FIRST_INDEX: u64 = 9;
const ADDRESS: &str = "127.0.0.1";

/// The node as the orchestrator places tasks on it.
pub(super) fn facts(id: &str, spec: &NodeSpec) -> Node {
    let cpus = u64::try_from(cpus()).unwrap_or(1);
    Node {
        id: id.to_owned(),
        hostname: hostname(),
        address: ADDRESS.to_owned(),
        role: "manager".to_owned(),
        os: "linux".to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        labels: spec.labels.clone(),
        engine_labels: [].into(),
        availability: spec.availability,
        nano_cpus: Some(cpus.saturating_mul(1_000_000_000)),
        memory_bytes: Some(memory_bytes()),
    }
}

/// The machine's processors.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine's memory.
pub fn memory_bytes() -> u64 {
    let known = rustix::system::sysinfo();
    u64::from(known.mem_unit).saturating_mul(known.totalram)
}

fn word(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

impl State {
    /// The node as `GET /nodes/{id}` shows it.
    pub fn shown_node(&self) -> Value {
        let (set, facts) = (&self.node, self.world.node());
        let updated_at = set.updated_at.max(self.created_at);
        let mut shown = json!({
            "ID": self.node_id,
            "Version": { "Index": set.index.max(FIRST_INDEX) },
            "CreatedAt": stamp::text(self.created_at),
            "UpdatedAt": stamp::text(updated_at),
            "Spec": {
                "Labels": set.labels, "Role": facts.role,
                "Availability": word(set.availability),
            },
            "Description": {
                "Hostname": facts.hostname,
                "Platform": { "Architecture": facts.arch, "OS": facts.os },
                "Resources": { "NanoCPUs": facts.nano_cpus, "MemoryBytes": facts.memory_bytes },
                "Engine": { "EngineVersion": env!("CARGO_PKG_VERSION") },
            },
            "Status": { "State": "ready", "Addr": ADDRESS },
            "ManagerStatus": {
                "Leader": true, "Reachability": "reachable", "Addr": format!("{ADDRESS}:2377"),
            },
        });
        if !set.name.is_empty() {
            shown["Spec"]["Name"] = json!(set.name);
        }
        shown
    }

    /// `docker node update`: the whole spec, for the version that was read.
    pub fn update_node(&mut self, version: u64, spec: &Value) -> Result<(), ApiError> {
        if version != self.node.index.max(FIRST_INDEX) {
            let text = "rpc error: code = Unknown desc = update out of sequence";
            return Err(ApiError::internal(text));
        }
        let mut node = understood(spec)?;
        self.version_index += 1;
        node.index = self.version_index;
        node.updated_at = self.now();
        self.node = node;
        self.is_node_changed = true;
        let facts = facts(&self.node_id, &self.node);
        let attributes = json!({ "name": facts.hostname });
        self.step(Event::NodeChanged(facts));
        let id = self.node_id.clone();
        self.event("node", "update", &id, attributes);
        Ok(())
    }
}

fn understood(spec: &Value) -> Result<NodeSpec, ApiError> {
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("");
    let availability = match text("Availability") {
        "active" => Availability::Active,
        "pause" => Availability::Pause,
        "drain" => Availability::Drain,
        other => {
            return Err(ApiError::bad_parameter(format!("invalid Availability: {other:?}")));
        }
    };
    match text("Role") {
        "manager" => {}
        "worker" => {
            return Err(ApiError::bad_parameter(
                "rpc error: code = FailedPrecondition desc = attempting to demote the last manager \
                 of the swarm",
            ));
        }
        other => return Err(ApiError::bad_parameter(format!("invalid Role: {other:?}"))),
    }
    let labels = spec.get("Labels").and_then(Value::as_object);
    let labels = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    Ok(NodeSpec {
        name: text("Name").to_owned(),
        labels: labels.collect(),
        availability,
        ..NodeSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_s_settings_are_checked_before_any_is_taken() {
        let labels = json!({ "zone": "a" });
        let spec = |role: &str, availability: &str| json!({ "Role": role, "Availability": availability, "Labels": labels });
        let node = understood(&spec("manager", "drain")).expect("valid");
        assert_eq!(node.availability, Availability::Drain);
        assert_eq!(node.labels["zone"], "a");
        let told = |spec| understood(&spec).expect_err("refused").message;
        assert!(told(spec("worker", "active")).contains("demote the last manager"));
        assert_eq!(told(spec("manager", "away")), "invalid Availability: \"away\"");
    }
}
