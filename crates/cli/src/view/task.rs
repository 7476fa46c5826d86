//! Tasks, those that failed included, with the reason and the last lines that they logged.

use std::{cmp::Reverse, collections::BTreeMap};

use dockerapi::{
    Client,
    client::LogQuery,
    object::{self, TaskState},
};
use serde::Serialize;
use serde_json::Value;

use super::{RELEASE, image_name, own_tasks, text, typed};
use crate::failure::Failure;

/// Lines shown of a failed task.
const LAST_LINES: u64 = 3;
/// Failed tasks whose log is looked at; the rest are older ones of the same trouble.
const WITH_LOG: usize = 8;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    pub id: String,
    /// `ala_api.1`
    pub name: String,
    pub service: String,
    pub slot: u64,
    pub image: String,
    pub release: Option<String>,
    pub node: String,
    pub desired_state: String,
    pub state: String,
    /// When it came into that state.
    pub since: String,
    pub created_at: String,
    pub message: String,
    pub error: Option<String>,
    pub exit_code: Option<i64>,
    pub pid: Option<i64>,
    /// The container's id, once there is one.
    pub container: Option<String>,
    /// Where its traffic stands: `off`, `publishing`, `published`, `draining`, `drained`.
    pub traffic: Option<String>,
    pub address: Option<String>,
    /// What it needs and the node does not have, while it waits for a place.
    pub waiting: Option<String>,
    /// Why its slot is not started again.
    pub parked: Option<String>,
    /// The last lines of a failed task's log.
    pub log: Vec<String>,
}

/// Tasks of all services or of one, slot by slot; in each the live one first, then the newest.
pub async fn list(client: &Client, service: Option<&str>) -> Result<Vec<Task>, Failure> {
    let service = match service {
        Some(name) => Some(find_service(client, name).await?),
        None => None,
    };
    let wanted: Vec<_> = service.iter().map(|one| ("service", one.id.as_str())).collect();
    let tasks: Vec<object::Task> = typed(client.tasks(&wanted).await?)?;
    let services: Vec<object::Service> = match service {
        Some(one) => vec![one],
        None => typed(client.services(&[]).await?)?,
    };
    let facts = Facts {
        services: services.into_iter().map(|service| (service.id.clone(), service)).collect(),
        nodes: typed::<object::Node>(client.nodes().await?)?
            .into_iter()
            .map(|node| (node.id, node.description.hostname))
            .collect(),
        own: own_tasks(client).await?,
    };
    let mut tasks: Vec<Task> = tasks.into_iter().map(|task| facts.task(task)).collect();
    tasks.sort_by_cached_key(|task| {
        let place = (task.service.clone(), task.slot, task.node.clone());
        // The one that serves comes first, below it what was tried.
        (place, !task.is_live(), Reverse(task.created_at.clone()))
    });
    add_logs(client, &mut tasks).await;
    Ok(tasks)
}

/// A service by name or id, or the names there are.
pub async fn find_service(client: &Client, name: &str) -> Result<object::Service, Failure> {
    match client.service(name).await {
        Ok(raw) => super::one(raw),
        Err(error) if error.is_not_found() => {
            let services: Vec<object::Service> = typed(client.services(&[]).await?)?;
            let names: Vec<_> = services.into_iter().map(|service| service.spec.name).collect();
            Err(no_such_service(name, &names))
        }
        Err(error) => Err(error.into()),
    }
}

fn no_such_service(name: &str, names: &[String]) -> Failure {
    let failure = Failure::new("service-not-found", format!("no service is called `{name}`"));
    let near = names.iter().find(|known| known.ends_with(&format!("_{name}")));
    match (near, names) {
        (Some(near), _) => failure.hint(format!("there is `{near}`")),
        (None, []) => failure.hint("there are no services yet; see `keel deploy --help`"),
        (None, names) => failure.hint(format!("there are: {}", names.join(", "))),
    }
}

struct Facts {
    services: BTreeMap<String, object::Service>,
    nodes: BTreeMap<String, String>,
    own: BTreeMap<String, Value>,
}

impl Facts {
    fn task(&self, raw: object::Task) -> Task {
        let service = self.services.get(&raw.service_id);
        let name = service.map_or(raw.service_id.as_str(), |service| &service.spec.name);
        let node = self.nodes.get(&raw.node_id).cloned().unwrap_or_else(|| raw.node_id.clone());
        let slot = if raw.slot == 0 { raw.node_id.clone() } else { raw.slot.to_string() };
        let own = self.own.get(&raw.id);
        let own_text = |key: &str| own.and_then(|own| text(own, key));
        let container = raw.status.container_status.unwrap_or_default();
        let has_ended = !matches!(
            raw.status.state,
            TaskState::New
                | TaskState::Allocated
                | TaskState::Pending
                | TaskState::Assigned
                | TaskState::Accepted
                | TaskState::Preparing
                | TaskState::Ready
                | TaskState::Starting
                | TaskState::Running
        );
        let release = own_text("ReleaseVersion").or_else(|| {
            // Docker's tasks carry no labels of the service; its current release stands for those
            // that are wanted.
            let label = service?.spec.labels.get(RELEASE)?;
            (raw.desired_state == TaskState::Running).then(|| label.clone())
        });
        Task {
            name: format!("{name}.{slot}"),
            service: name.to_owned(),
            slot: raw.slot,
            image: raw
                .spec
                .container_spec
                .map_or_else(String::new, |container| image_name(&container.image).to_owned()),
            release,
            node,
            desired_state: raw.desired_state.to_string(),
            state: raw.status.state.to_string(),
            since: raw.status.timestamp,
            created_at: raw.created_at,
            message: raw.status.message,
            error: Some(raw.status.err).filter(|error| !error.is_empty()),
            exit_code: (has_ended && !container.container_id.is_empty())
                .then_some(container.exit_code),
            pid: Some(container.pid).filter(|pid| *pid > 0 && !has_ended),
            container: Some(container.container_id).filter(|id| !id.is_empty()),
            traffic: own_text("Traffic"),
            address: own_text("Address"),
            waiting: own_text("Waiting"),
            parked: own_text("Parked"),
            log: Vec::new(),
            id: raw.id,
        }
    }
}

impl Task {
    /// Wanted, and not at its end.
    fn is_live(&self) -> bool {
        matches!(self.desired_state.as_str(), "ready" | "running" | "complete")
            && !matches!(
                self.state.as_str(),
                "complete" | "shutdown" | "failed" | "rejected" | "orphaned" | "remove"
            )
    }
}

/// What failed tasks said last. A log that cannot be read is no reason to show nothing.
async fn add_logs(client: &Client, tasks: &mut [Task]) {
    let query = LogQuery { tail: Some(LAST_LINES), ..LogQuery::default() };
    for task in tasks.iter_mut().filter(|task| task.state == "failed").take(WITH_LOG) {
        let Ok(mut log) = client.task_logs(&task.id, &query).await else { continue };
        while let Ok(Some(line)) = log.next().await {
            task.log.push(line.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_service_is_answered_with_those_there_are() {
        let names = ["ala_api".to_owned(), "ala_db".to_owned()];
        let hint = |name| no_such_service(name, &names).hint.expect("a hint");
        assert_eq!(hint("api"), "there is `ala_api`");
        assert_eq!(hint("web"), "there are: ala_api, ala_db");
    }
}
