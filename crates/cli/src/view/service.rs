//! Services with their replicas.

use dockerapi::{Client, object, spec};
use serde::Serialize;

use super::{RELEASE, STACK, image_name, of_stack, typed};
use crate::failure::Failure;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub stack: Option<String>,
    pub mode: &'static str,
    pub running: u64,
    pub desired: u64,
    /// Of a job: completions, and how many are asked for.
    pub completed: Option<[u64; 2]>,
    pub image: String,
    pub release: Option<String>,
    /// `*:5000->8080/tcp`
    pub ports: Vec<String>,
    pub update: Option<Update>,
}

/// The last rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Update {
    pub state: String,
    pub message: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
}

/// Since when engines count a service's tasks (Docker 20.10).
const SERVICE_STATUS: (u32, u32) = (1, 41);

/// All services, by name.
pub async fn list(client: &Client, stack: Option<&str>) -> Result<Vec<Service>, Failure> {
    let label = of_stack(stack);
    let wanted: Vec<_> = label.iter().map(|label| ("label", label.as_str())).collect();
    let mut list: Vec<object::Service> = typed(client.services(&wanted).await?)?;
    if !client.speaks(SERVICE_STATUS) {
        let tasks: Vec<object::Task> = typed(client.tasks(&[("desired-state", "running")]).await?)?;
        for service in &mut list {
            service.service_status = Some(counted(service, &tasks));
        }
    }
    let mut services: Vec<Service> = list.into_iter().map(Service::from).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(services)
}

/// What an engine that is too old to say it itself would say.
fn counted(service: &object::Service, tasks: &[object::Task]) -> object::ServiceStatus {
    let own = || tasks.iter().filter(|task| task.service_id == service.id);
    let running = own().filter(|task| task.status.state == object::TaskState::Running).count();
    let replicas = service.spec.mode.replicated.as_ref().and_then(|mode| mode.replicas);
    let desired = replicas.map_or_else(|| own().count() as u64, u64::from);
    object::ServiceStatus {
        running_tasks: running as u64,
        desired_tasks: desired,
        ..Default::default()
    }
}

impl From<object::Service> for Service {
    fn from(raw: object::Service) -> Self {
        let status = raw.service_status.unwrap_or_default();
        let labels = &raw.spec.labels;
        let container = raw.spec.task_template.container_spec.unwrap_or_default();
        let ports = raw.endpoint.ports.iter().filter(|port| port.published_port != 0);
        Self {
            id: raw.id,
            stack: labels.get(STACK).cloned(),
            release: labels.get(RELEASE).cloned(),
            name: raw.spec.name,
            mode: mode(&raw.spec.mode),
            completed: completed(&raw.spec.mode, &status),
            running: status.running_tasks,
            desired: status.desired_tasks,
            image: image_name(&container.image).to_owned(),
            ports: ports
                .map(|port| {
                    let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
                    format!("*:{}->{}/{protocol}", port.published_port, port.target_port)
                })
                .collect(),
            update: raw.update_status.map(|update| Update {
                state: update.state.to_string(),
                message: update.message,
                started_at: update.started_at,
                completed_at: update.completed_at,
            }),
        }
    }
}

fn mode(mode: &spec::Mode) -> &'static str {
    if mode.replicated_job.is_some() {
        "replicated job"
    } else if mode.global_job.is_some() {
        "global job"
    } else if mode.global.is_some() {
        "global"
    } else {
        "replicated"
    }
}

fn completed(mode: &spec::Mode, status: &object::ServiceStatus) -> Option<[u64; 2]> {
    let done = status.completed_tasks;
    if let Some(job) = &mode.replicated_job {
        let total = job.total_completions.or(job.max_concurrent).unwrap_or(1);
        return Some([done, total]);
    }
    mode.global_job.as_ref().map(|_| [done, done + status.desired_tasks])
}

impl Service {
    /// `2/3`; of a job also how often it completed.
    pub fn replicas(&self) -> String {
        let running = format!("{}/{}", self.running, self.desired);
        match self.completed {
            Some([done, total]) => format!("{running} ({done}/{total} completed)"),
            None => running,
        }
    }

    /// Where the last rollout stands, in words.
    pub fn rollout(&self) -> String {
        match &self.update {
            // A job that will not complete is told so by the engine.
            Some(update) if self.completed.is_some() && update.state == "paused" => {
                "failed".to_owned()
            }
            Some(update) if !update.state.is_empty() => update.state.replace('_', " "),
            _ => "-".to_owned(),
        }
    }
}
