//! What the spec of a service asks for beside the orchestrator's part.

use std::time::Duration;

use dockerapi::{ApiError, convert, spec, stamp};
use orchestrator::Mode;
use serde_json::Value;

use crate::template;

/// Tasks of one service.
const MOST_TASKS: u32 = 5000;

/// The published TCP ports of a service.
pub fn ports(service: &orchestrator::ServiceSpec) -> Vec<spec::Port> {
    let raw: Value = serde_json::from_str(&service.raw).unwrap_or(Value::Null);
    let endpoint: spec::EndpointSpec =
        serde_json::from_value(raw.get("EndpointSpec").cloned().unwrap_or(Value::Null))
            .unwrap_or_default();
    endpoint
        .ports
        .into_iter()
        .filter(|port| port.published_port != 0 && port.protocol != "udp")
        .collect()
}

/// A label of the service's raw spec.
pub fn label(service: &orchestrator::ServiceSpec, key: &str) -> Option<String> {
    let raw: Value = serde_json::from_str(&service.raw).ok()?;
    Some(raw.get("Labels")?.get(key)?.as_str()?.to_owned())
}

/// How long requests in flight and upgraded connections get when a task is drained.
pub fn drain_times(service: Option<&orchestrator::Service>) -> [Duration; 2] {
    let seconds = Duration::from_secs;
    let Some(service) = service else { return [seconds(10), seconds(30)] };
    let definition: spec::Definition =
        serde_json::from_str(&service.spec.task.definition).unwrap_or_default();
    let grace = definition.task_template.container_spec.and_then(|c| c.stop_grace_period);
    let upgraded = label(&service.spec, "evenkeel.drain.upgraded")
        .and_then(|text| stamp::parse_duration(&text))
        .unwrap_or(seconds(30));
    [grace.map_or(seconds(10), Duration::from_nanos), upgraded]
}

/// Reads and checks a posted spec.
pub fn convert(raw: &Value) -> Result<orchestrator::ServiceSpec, ApiError> {
    let (wire, spec) = convert::service(raw)?;
    template::check_service(&wire).map_err(ApiError::invalid)?;
    check_count(spec.mode)?;
    Ok(spec)
}

/// A number that was meant otherwise would keep the engine busy with its tasks for minutes.
fn check_count(mode: Mode) -> Result<(), ApiError> {
    let (what, count) = match mode {
        Mode::Replicated { replicas } => ("replicas", replicas),
        Mode::ReplicatedJob { max_concurrent, total } => ("completions", total.max(max_concurrent)),
        Mode::Global | Mode::GlobalJob => return Ok(()),
    };
    if count > MOST_TASKS {
        return Err(ApiError::invalid(format!(
            "Mode: {count} {what} are more than the embedded engine runs of one service; ask for \
             at most {MOST_TASKS}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_of_more_tasks_than_the_engine_runs_is_refused() {
        let spec = |mode: Value| {
            let task = json!({ "ContainerSpec": { "Image": "a:1" } });
            convert(&json!({ "Name": "a", "TaskTemplate": task, "Mode": mode }))
        };
        for fine in [
            json!({ "Replicated": { "Replicas": 5000 } }),
            json!({ "ReplicatedJob": { "MaxConcurrent": 10, "TotalCompletions": 5000 } }),
            json!({ "Global": {} }),
        ] {
            assert!(spec(fine.clone()).is_ok(), "{fine}");
        }
        for (mode, what) in [
            (json!({ "Replicated": { "Replicas": 5001 } }), "5001 replicas are more"),
            (json!({ "ReplicatedJob": { "MaxConcurrent": 9999 } }), "9999 completions are more"),
            (json!({ "ReplicatedJob": { "TotalCompletions": 5001 } }), "5001 completions"),
        ] {
            let error = spec(mode).expect_err(what);
            assert_eq!(error.status, 400);
            assert!(error.message.contains(what) && error.message.contains("at most 5000"));
        }
    }
}
