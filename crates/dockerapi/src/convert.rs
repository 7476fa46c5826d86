//! From a service spec on the wire to what the orchestrator understands, with Docker's defaults
//! and Docker's words for what is wrong (`moby/daemon/cluster/convert/service.go`,
//! `swarmkit/manager/controlapi/service.go`).

mod definition;
mod field;
mod needs;

use std::time::Duration;

use orchestrator::{
    FailureAction, Mode, RestartCondition, RestartPolicy, ServiceSpec, TaskSpec, UpdateConfig,
    UpdateOrder,
};
use serde_json::Value;

pub use self::{
    definition::{definition, without_placement},
    field::spell,
    needs::needs,
};
use crate::{error::ApiError, spec, stamp::parse_duration};

/// Label: how long a slot's new task may take to become ready in a rollout.
pub const PROGRESS_DEADLINE: &str = "evenkeel.progress_deadline";
/// Label: path for health probes over HTTP instead of a command.
pub const HEALTH_HTTP: &str = "evenkeel.health.http";

/// Reads and validates a spec.
pub fn service(raw: &Value) -> Result<(spec::ServiceSpec, ServiceSpec), ApiError> {
    let wire: spec::ServiceSpec = serde_json::from_value(raw.clone())
        .map_err(|error| ApiError::bad_parameter(format!("invalid service spec: {error}")))?;
    let container =
        wire.task_template.container_spec.as_ref().ok_or_else(|| {
            ApiError::bad_parameter("mismatched Runtime and *Spec fields".to_owned())
        })?;
    if container.image.is_empty() {
        return Err(ApiError::invalid("ContainerSpec: image reference must be provided"));
    }
    check_name(&wire.name)?;
    check_health(container.healthcheck.as_ref())?;
    check_ports(&wire.endpoint_spec)?;
    let mode = mode(&wire.mode)?;
    if mode.is_job() && wire.update_config.is_some() {
        return Err(ApiError::invalid("Jobs may not have an update config"));
    }
    let restart = restart(&wire.task_template.restart_policy)?;
    let progress = match wire.labels.get(PROGRESS_DEADLINE) {
        None => UpdateConfig::default().progress_deadline,
        Some(text) => parse_duration(text).ok_or_else(|| {
            let what = "is not a duration such as 90s";
            ApiError::bad_parameter(format!("label {PROGRESS_DEADLINE}: `{text}` {what}"))
        })?,
    };
    let update = update(wire.update_config.as_ref(), progress)?;
    let rollback = self::update(wire.rollback_config.as_ref(), progress)?;
    let has_check = container.healthcheck.as_ref().is_some_and(|check| {
        !check.test.is_empty() && check.test.first().map(String::as_str) != Some("NONE")
    });
    let task = TaskSpec {
        definition: definition(raw).into(),
        restart,
        has_health_check: has_check || wire.labels.contains_key(HEALTH_HTTP),
        has_traffic: wire.endpoint_spec.ports.iter().any(|port| port.published_port != 0),
        needs: needs(&wire)?,
    };
    let converted = ServiceSpec {
        name: wire.name.clone(),
        mode,
        task,
        update,
        rollback,
        raw: raw.to_string().into(),
    };
    Ok((wire, converted))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let has_ends = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    if name.is_empty() || name.len() > 63 || !name.chars().all(is_fine) || !has_ends {
        return Err(ApiError::invalid("name must be valid as a DNS name component"));
    }
    Ok(())
}

fn check_ports(endpoint: &spec::EndpointSpec) -> Result<(), ApiError> {
    let mut seen = std::collections::BTreeSet::new();
    for port in &endpoint.ports {
        if port.publish_mode == "host" && port.published_port == 0 {
            let why = "a port in host mode needs a published port on the embedded engine";
            return Err(ApiError::invalid(format!("EndpointSpec: {why}")));
        }
        if endpoint.mode == "dnsrr" && port.publish_mode != "host" {
            let why = "port published with ingress mode can't be used with dnsrr mode";
            return Err(ApiError::invalid(format!("EndpointSpec: {why}")));
        }
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        if port.published_port != 0 && !seen.insert((port.published_port, protocol)) {
            return Err(ApiError::invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}

/// Docker's least time for health checks (`moby/daemon/container.go`).
fn check_health(check: Option<&spec::Healthcheck>) -> Result<(), ApiError> {
    let Some(check) = check else { return Ok(()) };
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    match times.iter().find(|(_, nanos)| (1..1_000_000).contains(nanos)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(ApiError::bad_parameter(format!("{name} in Healthcheck cannot be less than 1ms")))
        }
    }
}

fn mode(wire: &spec::Mode) -> Result<Mode, ApiError> {
    let kinds = [
        wire.replicated.is_some(),
        wire.global.is_some(),
        wire.replicated_job.is_some(),
        wire.global_job.is_some(),
    ];
    if kinds.iter().filter(|is_set| **is_set).count() > 1 {
        return Err(ApiError::bad_parameter("must specify only one service mode"));
    }
    if wire.global_job.is_some() {
        return Ok(Mode::GlobalJob);
    }
    if let Some(job) = &wire.replicated_job {
        let count = |what: &str, number: u64| {
            u32::try_from(number).map_err(|_| {
                ApiError::bad_parameter(format!("{what}: {number} is more than the engine runs"))
            })
        };
        let max_concurrent = job.max_concurrent.unwrap_or(1);
        let total = job.total_completions.unwrap_or(max_concurrent);
        return Ok(Mode::ReplicatedJob {
            max_concurrent: count("MaxConcurrent", max_concurrent.max(1))?,
            total: count("TotalCompletions", total)?,
        });
    }
    if wire.global.is_some() {
        return Ok(Mode::Global);
    }
    let replicas = wire.replicated.as_ref().and_then(|r| r.replicas).unwrap_or(1);
    Ok(Mode::Replicated { replicas })
}

fn restart(wire: &spec::RestartPolicy) -> Result<RestartPolicy, ApiError> {
    let defaults = RestartPolicy::default();
    let condition = match wire.condition.as_str() {
        "" | "any" => RestartCondition::Any,
        "on-failure" => RestartCondition::OnFailure,
        "none" => RestartCondition::None,
        other => {
            return Err(ApiError::bad_parameter(format!("invalid RestartCondition: {other:?}")));
        }
    };
    Ok(RestartPolicy {
        condition,
        delay: wire.delay.map_or(defaults.delay, Duration::from_nanos),
        max_attempts: wire.max_attempts.unwrap_or(defaults.max_attempts),
        window: wire.window.map_or(defaults.window, Duration::from_nanos),
    })
}

fn update(
    wire: Option<&spec::UpdateConfig>,
    progress_deadline: Duration,
) -> Result<UpdateConfig, ApiError> {
    let defaults = UpdateConfig { progress_deadline, ..UpdateConfig::default() };
    let Some(wire) = wire else { return Ok(defaults) };
    let positive = |what: &str, nanos: i64| {
        u64::try_from(nanos)
            .map(Duration::from_nanos)
            .map_err(|_| ApiError::invalid(format!("TaskSpec: update-{what} cannot be negative")))
    };
    if !(0.0..=1.0).contains(&wire.max_failure_ratio) {
        let why = "update-maxfailureratio cannot be less than 0 or bigger than 1";
        return Err(ApiError::invalid(format!("TaskSpec: {why}")));
    }
    let failure_action = match wire.failure_action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        other => {
            return Err(ApiError::bad_parameter(format!(
                "unrecognized update failure action {other}"
            )));
        }
    };
    let order = match wire.order.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        other => {
            return Err(ApiError::bad_parameter(format!("unrecognized update order {other}")));
        }
    };
    let monitor = positive("monitor", wire.monitor)?;
    Ok(UpdateConfig {
        parallelism: u32::try_from(wire.parallelism).unwrap_or(u32::MAX),
        delay: positive("delay", wire.delay)?,
        failure_action,
        monitor: if monitor.is_zero() { defaults.monitor } else { monitor },
        max_failure_ratio: wire.max_failure_ratio as f32,
        order,
        progress_deadline,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({ "Name": "a", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } } })
    }

    #[test]
    fn absent_settings_are_dockers_defaults() {
        let (_, spec) = service(&minimal()).expect("valid");
        assert_eq!(spec.update.monitor, Duration::from_secs(5));
        assert_eq!(spec.update.parallelism, 1);
        assert_eq!(spec.mode, Mode::Replicated { replicas: 1 });
        assert_eq!(spec.task.restart.delay, Duration::from_secs(5));
    }

    #[test]
    fn a_job_runs_once_at_a_time_and_as_often_unless_told_otherwise() {
        let job = |value: Value| {
            let mut spec = minimal();
            spec["Mode"] = value;
            service(&spec).expect("valid").1.mode
        };
        let replicated = |max_concurrent, total| Mode::ReplicatedJob { max_concurrent, total };
        assert_eq!(job(json!({ "ReplicatedJob": {} })), replicated(1, 1));
        let both = json!({ "ReplicatedJob": { "MaxConcurrent": 2, "TotalCompletions": 5 } });
        assert_eq!(job(both), replicated(2, 5));
        assert_eq!(job(json!({ "ReplicatedJob": { "MaxConcurrent": 3 } })), replicated(3, 3));
        assert_eq!(job(json!({ "GlobalJob": {} })), Mode::GlobalJob);
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        let with = |key: &str, value: Value| {
            let mut spec = minimal();
            spec[key] = value;
            service(&spec).expect_err("refused").message
        };
        assert!(with("Name", json!("bad name!")).contains("valid as a DNS name component"));
        assert!(with("TaskTemplate", json!({})).contains("mismatched Runtime"));
        let no_image = with("TaskTemplate", json!({ "ContainerSpec": {} }));
        assert!(no_image.contains("image reference must be provided"));
        let two = with("Mode", json!({ "Replicated": {}, "Global": {} }));
        assert_eq!(two, "must specify only one service mode");
        let condition = json!({
            "ContainerSpec": { "Image": "a" }, "RestartPolicy": { "Condition": "always" },
        });
        assert_eq!(with("TaskTemplate", condition), r#"invalid RestartCondition: "always""#);
        let twice = json!({ "Ports": [
            { "PublishedPort": 1, "TargetPort": 2 },
            { "PublishedPort": 1, "TargetPort": 3, "Protocol": "tcp" },
        ] });
        assert!(with("EndpointSpec", twice).contains("duplicate published ports provided"));
        let hasty = json!({
            "ContainerSpec": { "Image": "a", "Healthcheck": { "Test": ["NONE"], "Timeout": 5 } },
        });
        assert_eq!(with("TaskTemplate", hasty), "Timeout in Healthcheck cannot be less than 1ms");
        let job = json!({
            "Name": "a", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } },
            "Mode": { "ReplicatedJob": {} }, "UpdateConfig": { "Parallelism": 1 },
        });
        let refused = service(&job).expect_err("refused").message;
        assert!(refused.ends_with("Jobs may not have an update config"), "{refused}");
        let negative = with("UpdateConfig", json!({ "Delay": -1 }));
        assert!(negative.contains("update-delay cannot be negative"));
    }
}
