//! Traffic and resource use, as keel's own engine and its ingress count them.

use std::{collections::BTreeMap, time::Duration};

use dockerapi::Client;
use serde::Serialize;
use serde_json::Value;

use super::{is_unknown, text};
use crate::failure::Failure;

/// Time between the two looks that processor use is computed from.
const BETWEEN: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Counters of each service as the ingress keeps them.
    pub services: Vec<Value>,
    pub tasks: Vec<TaskUse>,
    /// Published ports that could not be opened, with the reason.
    pub listen_failures: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskUse {
    pub id: String,
    pub name: String,
    pub service: String,
    pub traffic: String,
    pub cpu_percent: f64,
    pub cpu_nanos: u64,
    pub memory_bytes: u64,
    /// What it may use, where that is kept.
    pub memory_limit_bytes: Option<u64>,
    /// How long it waited, since its start, for its share of the processors.
    pub throttled_nanos: u64,
    pub processes: u64,
}

/// Two looks, a moment apart.
pub async fn look(client: &Client, service: Option<&str>) -> Result<Stats, Failure> {
    let before = cpu_by_task(&read(client).await?);
    let started = tokio::time::Instant::now();
    tokio::time::sleep(BETWEEN).await;
    let now = read(client).await?;
    let passed = started.elapsed();
    let is_wanted = |value: &Value| {
        let name = text(value, "service").or_else(|| text(value, "name"));
        service.is_none_or(|service| name.as_deref() == Some(service))
    };
    let list = |key: &str| now.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let tasks = list("tasks").into_iter().filter(is_wanted);
    Ok(Stats {
        services: list("services").into_iter().filter(is_wanted).collect(),
        tasks: tasks.map(|task| task_use(&task, &before, passed)).collect(),
        listen_failures: now.get("listen_failures").cloned().unwrap_or_default(),
    })
}

async fn read(client: &Client) -> Result<Value, Failure> {
    client.get("/evenkeel/v1/stats").await.map_err(|error| {
        if is_unknown(&error) {
            Failure::new("not-keels-engine", "this engine is Docker's; it counts no requests")
                .hint("for processor and memory use, `docker stats`")
        } else {
            error.into()
        }
    })
}

fn cpu_by_task(stats: &Value) -> BTreeMap<String, u64> {
    let tasks = stats.get("tasks").and_then(Value::as_array);
    tasks
        .into_iter()
        .flatten()
        .filter_map(|t| Some((text(t, "id")?, number(t, "cpu_nanos"))))
        .collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn task_use(task: &Value, before: &BTreeMap<String, u64>, passed: Duration) -> TaskUse {
    let word = |key: &str| text(task, key).unwrap_or_default();
    let cpu_nanos = number(task, "cpu_nanos");
    let id = word("id");
    let used = cpu_nanos.saturating_sub(before.get(&id).copied().unwrap_or(cpu_nanos));
    let part = Duration::from_nanos(used).as_secs_f64() / passed.as_secs_f64().max(0.001);
    TaskUse {
        name: word("name"),
        service: word("service"),
        traffic: word("traffic"),
        cpu_percent: (part * 1000.0).round() / 10.0,
        cpu_nanos,
        memory_bytes: number(task, "memory_bytes"),
        memory_limit_bytes: task.get("memory_limit_bytes").and_then(Value::as_u64),
        throttled_nanos: number(task, "throttled_nanos"),
        processes: number(task, "processes"),
        id,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn processor_use_is_what_was_used_between_the_two_looks() {
        let look = |nanos: u64| json!({ "id": "t", "name": "a.1", "cpu_nanos": nanos });
        let before = cpu_by_task(&json!({ "tasks": [look(1_000_000_000)] }));
        let second = Duration::from_secs(1);
        assert_eq!(task_use(&look(1_500_000_000), &before, second).cpu_percent, 50.0);
        assert_eq!(task_use(&look(7), &BTreeMap::new(), second).cpu_percent, 0.0);
    }
}
