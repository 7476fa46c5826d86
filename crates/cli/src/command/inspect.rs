//! `keel inspect`: everything about services or tasks.

use dockerapi::{Client, object, stamp};
use serde_json::{Value, json};

use crate::{
    args,
    command::Context,
    failure::{Failure, Outcome},
    human,
    view::{one, service::Service, task::find_service},
};

pub async fn run(context: &Context, inspect: &args::Inspect) -> Outcome {
    let client = context.client().await?;
    let mut found = Vec::new();
    for name in &inspect.names {
        found.push(raw(&client, name).await?);
    }
    if context.output.json {
        context.output.json(&json!(found))?;
        return Ok(());
    }
    let shown: Result<Vec<String>, Failure> = found.into_iter().map(describe).collect();
    context.output.line(&shown?.join("\n\n"))?;
    Ok(())
}

async fn raw(client: &Client, name: &str) -> Result<Value, Failure> {
    let missing = match client.service(name).await {
        Ok(service) => return Ok(service),
        Err(error) if error.is_not_found() => find_service(client, name).await.err(),
        Err(error) => return Err(error.into()),
    };
    match client.task(name).await {
        Ok(task) => Ok(task),
        Err(error) if error.is_not_found() => Err(missing.unwrap_or_else(|| error.into())),
        Err(error) => Err(error.into()),
    }
}

fn describe(raw: Value) -> Result<String, Failure> {
    if raw.get("ServiceID").is_some() {
        return Ok(task(&one(raw)?));
    }
    let typed: object::Service = one(raw)?;
    Ok(service(typed))
}

fn service(raw: object::Service) -> String {
    let now = stamp::now();
    let mut lines = Lines::default();
    let template = raw.spec.task_template.clone();
    let raw_template = template.clone();
    let container = template.container_spec.unwrap_or_default();
    let (update, rollback) = (raw.spec.update_config.clone(), raw.spec.rollback_config.clone());
    let (created, changed) = (raw.created_at.clone(), raw.updated_at.clone());
    let replicas = replicas(&raw.spec.mode);
    let labels = raw.spec.labels.clone();
    let shown = Service::from(raw);
    lines.add("Name", &shown.name);
    lines.add("ID", &shown.id);
    lines.add("Image", &shown.image);
    lines.add("Release", shown.release.as_deref().unwrap_or("-"));
    lines.add("Mode", shown.mode);
    lines.add("Replicas", &replicas);
    lines.add("Created", &human::ago(now, &created));
    lines.add("Changed", &human::ago(now, &changed));
    lines.add("Ports", &shown.ports.join(", "));
    if let Some(last) = &shown.update {
        lines.add("Last rollout", &format!("{}: {}", shown.rollout(), last.message));
    }
    lines.list("Command", &[container.command, container.args].concat());
    lines.list("Environment", &container.env.iter().map(|e| masked(e)).collect::<Vec<_>>());
    if let Some(check) = &container.healthcheck {
        lines.add("Health check", &check.test.join(" "));
    }
    placement(&mut lines, &raw_template);
    let restart = &template.restart_policy;
    lines.add("Restart", &restart_text(restart));
    for (name, config) in [("Update", update), ("Rollback", rollback)] {
        if let Some(config) = config {
            lines.add(name, &rollout_text(&config));
        }
    }
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.list("Labels", &labels);
    lines.0.join("\n")
}

/// How many tasks, and of a job how many at a time.
fn replicas(mode: &dockerapi::spec::Mode) -> String {
    if let Some(job) = &mode.replicated_job {
        let at_once = job.max_concurrent.unwrap_or(1);
        let total = job.total_completions.unwrap_or(at_once);
        return format!("{total} completions, {at_once} at a time");
    }
    let count = mode.replicated.as_ref().and_then(|mode| mode.replicas);
    count.map_or("-".to_owned(), |count| count.to_string())
}

/// Where it may run and what is kept for it.
fn placement(lines: &mut Lines, template: &dockerapi::spec::TaskTemplate) {
    let placement = template.placement.clone().unwrap_or_default();
    lines.list("Placement", &placement.constraints);
    if placement.max_replicas > 0 {
        lines.add("Per node", &format!("at most {}", placement.max_replicas));
    }
    let reserved = template.resources.clone().and_then(|resources| resources.reservations);
    let Some(reserved) = reserved else { return };
    if reserved.memory_bytes > 0 {
        lines.add("Reserved", &format!("{} of memory", human::bytes(reserved.memory_bytes)));
    }
    if reserved.nano_cpus > 0 {
        lines.add(
            "Reserved",
            &format!("{} CPUs", std::time::Duration::from_nanos(reserved.nano_cpus).as_secs_f64()),
        );
    }
}

fn task(raw: &object::Task) -> String {
    let now = stamp::now();
    let mut lines = Lines::default();
    let container = raw.spec.container_spec.clone().unwrap_or_default();
    lines.add("Task", &raw.id);
    lines.add("Service", &raw.service_id);
    lines.add("Slot", &raw.slot.to_string());
    lines.add("Image", &container.image);
    lines.add("Wanted", raw.desired_state.as_str());
    let since = human::ago(now, &raw.status.timestamp);
    lines.add("State", &format!("{} since {since}: {}", raw.status.state, raw.status.message));
    lines.add("Error", &raw.status.err);
    if let Some(status) = &raw.status.container_status {
        lines.add("Process", &status.pid.to_string());
        lines.add("Exit code", &status.exit_code.to_string());
    }
    lines.0.join("\n")
}

fn restart_text(policy: &dockerapi::spec::RestartPolicy) -> String {
    let condition = if policy.condition.is_empty() { "any" } else { &policy.condition };
    let delay = nanos(policy.delay.unwrap_or(5_000_000_000));
    let attempts = match policy.max_attempts {
        Some(count) if count > 0 => {
            let window = policy.window.filter(|window| *window > 0);
            let within = window.map_or_else(String::new, |window| format!(" in {}", nanos(window)));
            format!(", at most {count} times{within}")
        }
        _ => String::new(),
    };
    format!("{condition}, after {delay}{attempts}")
}

fn rollout_text(config: &dockerapi::spec::UpdateConfig) -> String {
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let order = or(&config.order, "stop-first");
    let action = or(&config.failure_action, "pause");
    let at_a_time = match config.parallelism {
        0 => "all at a time".to_owned(),
        count => format!("{count} at a time"),
    };
    let positive = |value: i64| nanos(u64::try_from(value).unwrap_or(0));
    let monitor = match config.monitor {
        0 => "monitored for 5s".to_owned(),
        // Less than anybody could notice: `monitor: 0s` of a stack file.
        1..1_000_000 => "not monitored".to_owned(),
        nanos => format!("monitored for {}", positive(nanos)),
    };
    let delay = positive(config.delay);
    format!("{order}, {at_a_time}, delay {delay}, {monitor}, on failure {action}")
}

fn nanos(nanos: u64) -> String {
    format!("{}s", std::time::Duration::from_nanos(nanos).as_secs_f64())
}

/// Values of variables that look like secrets are not shown.
fn masked(entry: &str) -> String {
    let Some((name, _)) = entry.split_once('=') else { return entry.to_owned() };
    let upper = name.to_uppercase();
    let is_secret = ["PASSWORD", "SECRET", "TOKEN", "KEY", "PASSPHRASE", "CREDENTIAL"]
        .iter()
        .any(|word| upper.contains(word));
    let has_password = entry
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split_once('@').is_some_and(|(user, _)| user.contains(':')));
    if is_secret || has_password { format!("{name}=(hidden)") } else { entry.to_owned() }
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(format!("{name:<13} {value}"));
        }
    }

    fn list(&mut self, name: &str, values: &[String]) {
        for (at, value) in values.iter().enumerate() {
            self.add(if at == 0 { name } else { "" }, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        assert_eq!(masked("JWT_SECRET=abc"), "JWT_SECRET=(hidden)");
        assert_eq!(masked("DB=postgres://u:p@h/d"), "DB=(hidden)");
        assert_eq!(masked("PORT=5000"), "PORT=5000");
    }
}
