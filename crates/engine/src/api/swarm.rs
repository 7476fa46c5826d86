//! The swarm of this one node: its beginning, its settings, its end.

use dockerapi::{ApiError, stamp};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Api, Call, empty, json as respond};
use crate::control::State;

/// Whoever asks for a token is to see that there is nothing to join.
const NO_TOKEN: &str = "none-the-embedded-engine-is-one-node-use-Docker-Swarm-for-more";

/// Which requests need a swarm.
pub(super) fn needs_swarm(method: &str, parts: &[&str]) -> bool {
    match parts {
        ["services" | "tasks" | "nodes" | "configs" | "secrets", ..] => true,
        ["swarm"] => true,
        ["swarm", "update" | "unlockkey"] => true,
        _ => method == "POST" && matches!(parts, ["swarm", "unlock"]),
    }
}

/// Docker's words.
pub(super) fn no_manager() -> ApiError {
    ApiError::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
         connect this node to swarm and try again.",
    )
}

/// The cluster as it is shown.
pub(super) fn cluster(state: &State) -> Value {
    json!({
        "ID": state.cluster_id, "Version": { "Index": 9 },
        "CreatedAt": stamp::text(state.created_at), "UpdatedAt": stamp::text(state.created_at),
        "Spec": {
            "Name": "default", "Labels": {},
            "Orchestration": { "TaskHistoryRetentionLimit": 5 },
            "Raft": {}, "Dispatcher": {}, "CAConfig": {}, "TaskDefaults": {},
            "EncryptionConfig": { "AutoLockManagers": false },
        },
        "RootRotationInProgress": false, "DataPathPort": 4789, "SubnetSize": 24,
    })
}

/// The part of `GET /info` that tells of the swarm.
pub(super) fn info(state: &State) -> Value {
    if !state.is_in_swarm {
        return json!({
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false,
            "Error": "", "RemoteManagers": null,
        });
    }
    json!({
        "NodeID": state.node_id, "NodeAddr": "127.0.0.1", "LocalNodeState": "active",
        "ControlAvailable": true, "Error": "",
        "RemoteManagers": [{ "NodeID": state.node_id, "Addr": "127.0.0.1:2377" }],
        "Nodes": 1, "Managers": 1, "Cluster": cluster(state),
    })
}

impl Api {
    pub(super) async fn swarm_route(&self, method: &str, parts: &[&str], call: Call) -> Answer {
        match (method, parts) {
            ("GET", ["swarm"]) => {
                let shown = self.control.read(|state| {
                    let mut shown = cluster(state);
                    shown["JoinTokens"] = json!({ "Worker": NO_TOKEN, "Manager": NO_TOKEN });
                    shown
                });
                Ok(respond(&shown.await?))
            }
            ("POST", ["swarm", "init"]) => self.init_swarm(call).await,
            ("POST", ["swarm", "leave"]) => self.leave_swarm(&call).await,
            ("POST", ["swarm", "join"]) => match self.control.is_in_swarm() {
                true => Err(already_a_swarm()),
                false => Err(ApiError::not_supported(
                    "the embedded engine is one node and joins no other; for more nodes use Docker \
                     Swarm, or begin a swarm of this node with `docker swarm init`",
                )),
            },
            ("GET", ["swarm", "unlockkey"]) => Ok(respond(&json!({ "UnlockKey": "" }))),
            ("POST", ["swarm", "unlock"]) => {
                Err(ApiError::internal("rpc error: code = Unknown desc = swarm is not locked"))
            }
            ("POST", ["swarm", "update"]) => Err(ApiError::not_supported(
                "the settings of the embedded engine's swarm are fixed: one node, no tokens, no \
                 lock, 5 ended tasks kept for each slot; use Docker Swarm for others",
            )),
            _ => Err(super::route::unknown()),
        }
    }

    /// Answers the new node's id.
    async fn init_swarm(&self, call: Call) -> Answer {
        // The address is for other nodes, and there will be none.
        let asked = call.json().await?;
        if asked["AutoLockManagers"] == true
            || asked["Spec"]["EncryptionConfig"]["AutoLockManagers"] == true
        {
            return Err(ApiError::not_supported(
                "the embedded engine does not lock its swarm; leave out `--autolock`",
            ));
        }
        let init = self.control.write(|state| {
            if state.is_in_swarm {
                return Err(already_a_swarm());
            }
            Ok(state.begin_swarm())
        });
        Ok(respond(&json!(init.await?)))
    }

    async fn leave_swarm(&self, call: &Call) -> Answer {
        let is_forced = call.is_set("force");
        let leave = self.control.write(move |state| {
            if !state.is_in_swarm {
                return Err(ApiError::unavailable("This node is not part of a swarm"));
            }
            if !is_forced {
                return Err(ApiError::unavailable(
                    "You are attempting to leave the swarm on a node that is participating as a \
                     manager. Removing the last manager erases all current state of the swarm. \
                     Use `--force` to ignore this message. ",
                ));
            }
            state.leave_swarm();
            Ok(())
        });
        leave.await?;
        Ok(empty(StatusCode::OK))
    }
}

fn already_a_swarm() -> ApiError {
    ApiError::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
         join another one.",
    )
}

#[cfg(test)]
mod tests {
    use super::needs_swarm;

    #[test]
    fn containers_volumes_and_images_need_no_swarm() {
        for path in ["services", "tasks", "nodes", "configs", "secrets", "swarm"] {
            assert!(needs_swarm("GET", &[path]), "{path}");
        }
        for path in ["containers", "volumes", "images", "networks", "info", "events", "exec"] {
            assert!(!needs_swarm("GET", &[path, "json"]), "{path}");
        }
        assert!(!needs_swarm("POST", &["swarm", "init"]));
        assert!(!needs_swarm("POST", &["swarm", "leave"]));
        assert!(needs_swarm("POST", &["swarm", "update"]));
    }
}
