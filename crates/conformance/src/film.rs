//! Looks at a service and its tasks, kept in the order in which they were seen.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exam::text;

/// One look. The tasks are of one moment; the service is of one just before.
#[derive(Debug)]
pub struct Shot {
    pub at: Instant,
    pub service: Value,
    /// Oldest first.
    pub tasks: Vec<Task>,
}

/// What scenarios ask of a task.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub slot: u64,
    pub desired: String,
    pub state: String,
    pub message: String,
    pub error: String,
    pub exit_code: Option<i64>,
    /// Seconds since 1970: when it was made, and when it came to its state.
    pub made: f64,
    pub since: f64,
}

impl Shot {
    pub fn new(service: Value, tasks: Vec<Value>) -> Self {
        Self { at: Instant::now(), service, tasks: tasks.iter().map(Task::new).collect() }
    }

    /// The update's state; empty when there is none.
    pub fn update(&self) -> String {
        text(&self.service["UpdateStatus"]["State"])
    }

    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Ids of the tasks that are wanted and run.
    pub fn serving(&self) -> Vec<String> {
        self.tasks.iter().filter(|task| task.is_serving()).map(|task| task.id.clone()).collect()
    }

    /// Tasks that are none of these.
    pub fn others<'a>(&'a self, known: &'a [String]) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter(|task| !known.contains(&task.id))
    }
}

impl Task {
    fn new(raw: &Value) -> Self {
        let status = &raw["Status"];
        Self {
            id: text(&raw["ID"]),
            slot: raw["Slot"].as_u64().unwrap_or(0),
            desired: text(&raw["DesiredState"]),
            state: text(&status["State"]),
            message: text(&status["Message"]),
            error: text(&status["Err"]),
            exit_code: status["ContainerStatus"]["ExitCode"].as_i64(),
            made: seconds(&raw["CreatedAt"]),
            since: seconds(&status["Timestamp"]),
        }
    }

    pub fn is_serving(&self) -> bool {
        self.desired == "running" && self.state == "running"
    }

    /// It is to go, or has gone.
    pub fn is_leaving(&self) -> bool {
        matches!(self.desired.as_str(), "shutdown" | "remove") || self.is_over()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "complete" | "shutdown" | "failed" | "rejected")
    }
}

/// How long a task was seen in a state.
pub fn time_in(shots: &[Shot], id: &str, state: &str) -> Duration {
    let is_so = |shot: &&Shot| shot.task(id).is_some_and(|task| task.state == state);
    let mut seen = shots.iter().filter(is_so);
    let first = seen.next();
    first.map_or(Duration::ZERO, |first| seen.next_back().unwrap_or(first).at - first.at)
}

/// Seconds since 1970 of Docker's dates.
pub fn seconds(stamp: &Value) -> f64 {
    let stamp: Option<jiff::Timestamp> = stamp.as_str().and_then(|text| text.parse().ok());
    stamp.map_or(0.0, |stamp| stamp.as_duration().as_secs_f64())
}
