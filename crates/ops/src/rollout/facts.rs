//! Asking the engine for everything that a verdict is made of.

use std::collections::BTreeMap;

use dockerapi::ClientError;
use serde_json::Value;

use super::Context;
use crate::judge::{Facts, Verdict};

impl Context<'_> {
    pub(super) async fn facts(&self, name: &str) -> Result<Facts, ClientError> {
        let service = self.patiently(|| self.client.service(name)).await?;
        let id = service["ID"].as_str().unwrap_or(name).to_owned();
        let of_service = [("service", id.as_str())];
        let tasks = self.patiently(|| self.client.tasks(&of_service)).await?;
        let newest = [("service", id.as_str()), ("_up-to-date", "true")];
        let up_to_date = self.patiently(|| self.client.tasks(&newest)).await?;
        let ids = up_to_date.iter().filter_map(|task| Some(task["ID"].as_str()?.to_owned()));
        Ok(Facts { service, tasks, up_to_date: ids.collect(), own: self.own_tasks().await })
    }

    /// What our own engine says of its tasks; nothing on another engine.
    pub(super) async fn own_tasks(&self) -> BTreeMap<String, Value> {
        let answer = self.patiently(|| self.client.get("/evenkeel/v1/tasks")).await;
        let list = match answer {
            Ok(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        list.into_iter().filter_map(|t| Some((t["ID"].as_str()?.to_owned(), t))).collect()
    }
}

impl Facts {
    /// All wanted tasks are as the spec says and serve, whatever way they came there.
    pub(super) fn is_settled(&self) -> bool {
        let mut facts = self.clone();
        let state = facts.service.pointer("/UpdateStatus/State").and_then(Value::as_str);
        let is_over = matches!(
            state,
            None | Some("completed" | "rollback_completed" | "rollback_paused" | "paused")
        );
        if let Some(service) = facts.service.as_object_mut() {
            service.remove("UpdateStatus");
        }
        is_over && matches!(facts.verdict(), Verdict::Converged | Verdict::Failed { .. })
    }
}
