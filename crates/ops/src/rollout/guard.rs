//! Whether a service may be changed now: on a Docker Swarm a change of something else goes on with
//! an update that had paused, and ends the old task of one that is under way. Pure.

use serde_json::Value;

use crate::error::{Class, Error};

/// What to do before a service is changed.
#[derive(Debug)]
pub(super) enum Guard {
    Go,
    /// An update is under way: its end is waited for.
    Wait,
    Refuse(Error),
}

/// `current` is the service, `spec` what it shall be.
pub(super) fn before_change(name: &str, current: &Value, spec: &Value) -> Guard {
    let text = |path: &str| current.pointer(path).and_then(Value::as_str).unwrap_or("");
    // Other tasks are a release of their own: Docker begins anew with these.
    if version(&current["Spec"]) != version(spec) {
        return Guard::Go;
    }
    match text("/UpdateStatus/State") {
        "updating" | "rollback_started" => Guard::Wait,
        "paused" | "rollback_paused" => {
            let why = text("/UpdateStatus/Message");
            let what = format!("{name} is paused halfway ({why}); this change would go on with it");
            Guard::Refuse(
                Error::new("update-paused", what)
                    .hint("go back with `keel rollback`, or deploy a version that works")
                    .class(Class::Refused),
            )
        }
        _ => Guard::Go,
    }
}

/// What its tasks are; that they shall be restarted makes them no others.
fn version(spec: &Value) -> Value {
    let mut template = spec["TaskTemplate"].clone();
    if let Some(template) = template.as_object_mut() {
        template.remove("ForceUpdate");
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decided(state: &str, spec: &Value) -> Guard {
        let service = json!({
            "Spec": { "TaskTemplate": { "Image": "a:2", "ForceUpdate": 1 } },
            "UpdateStatus": { "State": state, "Message": "update paused due to failure" },
        });
        before_change("st_web", &service, spec)
    }

    #[test]
    fn more_tasks_of_a_version_that_paused_are_refused_and_another_version_is_not() {
        for spec in [
            json!({ "TaskTemplate": { "Image": "a:2", "ForceUpdate": 1 }, "Mode": 4 }),
            json!({ "TaskTemplate": { "Image": "a:2", "ForceUpdate": 2 } }),
        ] {
            let Guard::Refuse(error) = decided("paused", &spec) else { panic!("{spec}") };
            assert!(error.message.contains("update paused due to failure"), "{error}");
            assert!(matches!(decided("updating", &spec), Guard::Wait));
            assert!(matches!(decided("completed", &spec), Guard::Go));
        }
        let other = json!({ "TaskTemplate": { "Image": "a:3" } });
        assert!(matches!(decided("paused", &other), Guard::Go));
        assert!(matches!(decided("updating", &other), Guard::Go));
    }
}
