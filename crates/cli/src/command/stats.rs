//! `keel stats`: requests, failures and latencies per service, resource use per task.

use serde_json::{Value, json};

use crate::{
    args,
    command::Context,
    failure::Outcome,
    human, table,
    view::{
        stats::{self, Stats},
        text,
    },
};

pub async fn run(context: &Context, stats: &args::Stats) -> Outcome {
    let client = context.client().await?;
    let seen = stats::look(&client, stats.service.as_deref()).await?;
    if context.output.json {
        context.output.json(&json!(seen))?;
        return Ok(());
    }
    context.output.line(&render(&seen))?;
    if let Some(failures) = seen.listen_failures.as_object() {
        for (port, why) in failures {
            let why = why.as_str().unwrap_or_default();
            context.output.note(&format!("port {port} is not open: {why}"));
        }
    }
    Ok(())
}

fn render(seen: &Stats) -> String {
    let number = |value: &Value, path: &str| {
        value
            .pointer(path)
            .and_then(Value::as_u64)
            .map_or_else(|| "-".to_owned(), |n| n.to_string())
    };
    let millis = |value: &Value, path: &str| {
        let found = value.pointer(path).and_then(Value::as_f64);
        found.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"))
    };
    let header = ["SERVICE", "REQUESTS", "2XX", "4XX", "5XX", "FAILED", "IN FLIGHT", "P50", "P99"];
    let services = seen.services.iter().map(|service| {
        [
            text(service, "service").or_else(|| text(service, "name")).unwrap_or_default(),
            number(service, "/requests"),
            number(service, "/responses/2xx"),
            number(service, "/responses/4xx"),
            number(service, "/responses/5xx"),
            failures(service),
            in_flight(service),
            millis(service, "/p50_ms"),
            millis(service, "/p99_ms"),
        ]
    });
    let services = table::render(header, services);
    let header = ["TASK", "CPU", "MEMORY", "PROCESSES", "TRAFFIC"];
    let tasks = seen.tasks.iter().map(|task| {
        [
            short(&task.name),
            format!("{:.1} %", task.cpu_percent),
            match task.memory_limit_bytes {
                Some(limit) => {
                    format!("{} / {}", human::bytes(task.memory_bytes), human::bytes(limit))
                }
                None => human::bytes(task.memory_bytes),
            },
            task.processes.to_string(),
            task.traffic.clone(),
        ]
    });
    format!("{services}\n\n{}", table::render(header, tasks))
}

/// Requests under way, over all endpoints of the service.
fn in_flight(service: &Value) -> String {
    let endpoints = service.get("endpoints").and_then(Value::as_array);
    let of = |endpoint: &Value| endpoint.get("in_flight").and_then(Value::as_u64);
    endpoints.into_iter().flatten().filter_map(of).sum::<u64>().to_string()
}

/// All causes together but the client's own.
fn failures(service: &Value) -> String {
    let causes = ["no_endpoint", "connect", "cut"];
    let of = |cause| service.pointer(&format!("/failures/{cause}")).and_then(Value::as_u64);
    causes.into_iter().filter_map(of).sum::<u64>().to_string()
}

/// `ala_api.1` of `ala_api.1.<id>`.
fn short(name: &str) -> String {
    name.rsplit_once('.').map_or(name, |(short, _)| short).to_owned()
}
