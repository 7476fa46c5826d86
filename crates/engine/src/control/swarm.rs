//! The swarm's beginning and end: an engine is in one from its first start, until somebody leaves.

use dockerapi::stamp;
use orchestrator::{Action, Event, ServiceId, TaskId};
use serde_json::{Value, json};

use super::{State, load, name_of, random_id, state::NodeSpec};

impl State {
    /// A new swarm with a new node; its id. Takes effect with the next save.
    pub fn begin_swarm(&mut self) -> String {
        let now = self.now();
        let (node, cluster) = (random_id(), random_id());
        self.identity_to_save = Some(json!({
            "seed": self.seed, "node": node, "cluster": cluster, "created_at": now.0,
            "is_left": false,
        }));
        let (id, network) = load::ingress_network(now);
        self.put_object("network", &id, network);
        self.is_in_swarm = true;
        node
    }

    /// Everything that a swarm has goes; containers outside it, volumes and images stay.
    pub fn leave_swarm(&mut self) {
        let live: Vec<TaskId> = self
            .world
            .tasks()
            .filter(|task| !task.observed.is_end())
            .map(|task| task.id.clone())
            .collect();
        let services: Vec<(ServiceId, String)> = self
            .world
            .services()
            .filter(|service| !service.is_removed)
            .map(|service| (service.id.clone(), service.spec.name.clone()))
            .collect();
        for (id, name) in services {
            self.step(Event::ServiceRemoved { id: id.clone() });
            self.put_service(&id);
            self.event("service", "remove", &id.0, json!({ "name": name }));
        }
        // Nobody waits for open connections: the stop signal comes now.
        self.actions.extend(live.into_iter().map(|task| Action::Stop { task }));
        for kind in ["config", "secret", "network"] {
            let all = self.objects[kind].iter();
            let gone = all.filter(|(_, object)| kind != "network" || object["Scope"] == "swarm");
            let gone: Vec<(String, String)> =
                gone.map(|(id, object)| (id.clone(), name_of(object).to_owned())).collect();
            for (id, name) in gone {
                self.delete_object(kind, &id);
                self.event(kind, "remove", &id, json!({ "name": name }));
            }
        }
        self.is_in_swarm = false;
        // The next swarm's node is another one.
        self.node = NodeSpec::default();
        self.is_node_changed = true;
        self.identity_to_save = Some(json!({
            "seed": self.seed, "node": self.node_id, "cluster": self.cluster_id,
            "created_at": self.created_at.0, "is_left": true,
        }));
        tracing::info!(at = %stamp::text(self.now()), "left the swarm");
    }

    /// What `identity` says of the swarm.
    pub(super) fn is_in_swarm(identity: &Value) -> bool {
        identity.get("is_left").and_then(Value::as_bool) != Some(true)
    }
}
