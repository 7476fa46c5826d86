//! What a service logs in with at its registry: kept beside the service and never shown
//! (`docker service create --with-registry-auth`).

use orchestrator::ServiceId;
use serde_json::{Value, json};

use super::state::State;
use crate::registry::Credential;

const KIND: &str = "registry-auth";

/// Which login an update leaves a service with, as Docker's `registryAuthFrom` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFrom {
    /// The one it has.
    Spec,
    /// The one it had before its last update.
    Previous,
}

/// Changes the login of a service that is created or updated. `sent` is the header's value; empty
/// when there was none.
pub fn put(state: &mut State, id: &ServiceId, sent: &str, from: AuthFrom) {
    let known = state.objects[KIND].get(&id.0).cloned().unwrap_or(Value::Null);
    let next = changed(&known, sent, from);
    if next != known {
        state.put_object(KIND, &id.0, next);
    }
}

fn changed(known: &Value, sent: &str, from: AuthFrom) -> Value {
    if sent.is_empty() && known.is_null() {
        return Value::Null;
    }
    let spec = match (sent, from) {
        ("", AuthFrom::Spec) => known["Spec"].clone(),
        ("", AuthFrom::Previous) => known["PreviousSpec"].clone(),
        (sent, _) => json!(sent),
    };
    json!({ "Spec": spec, "PreviousSpec": known["Spec"] })
}

/// The login of a service's tasks.
pub(super) fn of(state: &State, id: &ServiceId) -> Credential {
    let known = state.objects[KIND].get(&id.0);
    let header = known.and_then(|known| known["Spec"].as_str()).unwrap_or("");
    // It was read when it came.
    Credential::decode(header).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_without_a_login_keeps_the_one_there_is_or_goes_back_to_the_one_before() {
        let one = changed(&Value::Null, "one", AuthFrom::Spec);
        let two = changed(&one, "two", AuthFrom::Spec);
        assert_eq!(two, json!({ "Spec": "two", "PreviousSpec": "one" }));
        assert_eq!(changed(&two, "", AuthFrom::Spec)["Spec"], "two");
        assert_eq!(changed(&two, "", AuthFrom::Previous)["Spec"], "one");
        assert_eq!(changed(&Value::Null, "", AuthFrom::Spec), Value::Null);
    }
}
