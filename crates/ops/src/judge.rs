//! What came of a change, from this release's tasks only. Pure.

mod job;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

pub use self::job::is_job;

/// Everything that is known of one service at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `GET /services/{id}`.
    pub service: Value,
    /// All its tasks, `GET /tasks`.
    pub tasks: Vec<Value>,
    /// Ids of the tasks that are as the spec says.
    pub up_to_date: BTreeSet<String>,
    /// Task id → what our own engine says of it; empty on others.
    pub own: BTreeMap<String, Value>,
}

/// One task as it is shown while a release goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    pub slot: u64,
    pub task: String,
    /// Made by this release.
    pub is_new: bool,
    pub state: String,
    pub desired: String,
    pub error: Option<String>,
}

/// Where a change stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On its way.
    Pending { ready: u64, wanted: u64 },
    /// All wanted tasks are of this release and serve.
    Converged,
    /// The engine gave up. `task` is the one it gave up on.
    Failed { reason: String, task: Option<String> },
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

impl Facts {
    pub fn wanted(&self) -> u64 {
        if self.is_job() {
            return self.completions();
        }
        match self.service.pointer("/Spec/Mode/Replicated/Replicas") {
            Some(replicas) => replicas.as_u64().unwrap_or(1),
            None => 1,
        }
    }

    fn is_serving(&self, task: &Value) -> bool {
        let id = text(task, "/ID");
        let is_running =
            text(task, "/Status/State") == "running" && text(task, "/DesiredState") == "running";
        let own = self.own.get(id).and_then(|own| own.get("IsServing")).and_then(Value::as_bool);
        is_running && own.unwrap_or(true)
    }

    /// Where the engine says its update stands; empty when there was none.
    pub fn update_state(&self) -> &str {
        text(&self.service, "/UpdateStatus/State")
    }

    /// Ids of this release's tasks that serve.
    pub fn serving(&self) -> BTreeSet<String> {
        let serving = |task: &&Value| self.is_new(task) && self.is_serving(task);
        self.tasks.iter().filter(serving).map(|task| text(task, "/ID").to_owned()).collect()
    }

    /// Ids of this release's tasks in one of these states.
    pub fn new_in(&self, states: &[&str]) -> BTreeSet<String> {
        let is_in =
            |task: &&Value| self.is_new(task) && states.contains(&text(task, "/Status/State"));
        self.tasks.iter().filter(is_in).map(|task| text(task, "/ID").to_owned()).collect()
    }

    fn is_new(&self, task: &Value) -> bool {
        self.up_to_date.contains(text(task, "/ID"))
    }

    /// Once the engine takes a service back, the spec in force is the old one, and what differs from
    /// it is the release's.
    fn is_of_release(&self, task: &Value) -> bool {
        let is_back = text(&self.service, "/UpdateStatus/State").starts_with("rollback");
        self.is_new(task) != is_back
    }

    /// Live tasks and this release's failed ones.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self
            .tasks
            .iter()
            .filter(|task| {
                let is_failed = matches!(text(task, "/Status/State"), "failed" | "rejected");
                matches!(text(task, "/DesiredState"), "ready" | "running" | "complete")
                    || (is_failed && self.is_of_release(task))
            })
            .map(|task| Slot {
                slot: task.get("Slot").and_then(Value::as_u64).unwrap_or(0),
                task: text(task, "/ID").to_owned(),
                is_new: self.is_of_release(task),
                state: text(task, "/Status/State").to_owned(),
                desired: text(task, "/DesiredState").to_owned(),
                error: self.waiting(task).or_else(|| {
                    Some(text(task, "/Status/Err")).filter(|e| !e.is_empty()).map(str::to_owned)
                }),
            })
            .collect();
        slots.sort_by(|a, b| (a.slot, a.is_new, &a.task).cmp(&(b.slot, b.is_new, &b.task)));
        slots
    }

    /// The newest task of this release that failed.
    pub fn failed_task(&self) -> Option<&Value> {
        self.tasks
            .iter()
            .filter(|task| matches!(text(task, "/Status/State"), "failed" | "rejected"))
            .max_by_key(|task| text(task, "/CreatedAt").to_owned())
    }

    /// Why a task has no place on the node yet, in as many words as there are.
    fn waiting(&self, task: &Value) -> Option<String> {
        let is_pending = text(task, "/Status/State") == "pending";
        let own = self.own.get(text(task, "/ID")).and_then(|own| own.get("Waiting")?.as_str());
        let told = own.unwrap_or(text(task, "/Status/Err"));
        Some(told).filter(|told| is_pending && !told.is_empty()).map(str::to_owned)
    }

    /// What this release's tasks wait for, of those that do.
    pub fn waits(&self) -> Option<String> {
        self.tasks.iter().filter(|task| self.is_new(task)).find_map(|task| self.waiting(task))
    }

    /// A task that no node will ever take as things are: no other task's end changes that.
    fn misplaced(&self) -> Option<(String, &Value)> {
        let lasting = ["scheduling constraints not satisfied", "unsupported platform"];
        let is_lasting = |task: &&Value| {
            let error = text(task, "/Status/Err");
            lasting.iter().any(|reason| error.contains(reason))
        };
        let mut new = self.tasks.iter().filter(|task| self.is_new(task));
        let task = new.find(is_lasting)?;
        Some((self.waiting(task)?, task))
    }

    /// A task of this release that ended well and that nobody will replace.
    fn done(&self) -> Option<&str> {
        let restart = text(&self.service, "/Spec/TaskTemplate/RestartPolicy/Condition");
        if !matches!(restart, "none" | "on-failure") {
            return None;
        }
        let is_live = |slot: &Value| {
            let mut of_slot = self.tasks.iter().filter(|task| task.get("Slot") == Some(slot));
            of_slot.any(|task| matches!(text(task, "/DesiredState"), "ready" | "running"))
        };
        let is_done = |task: &&Value| {
            self.is_new(task)
                && text(task, "/Status/State") == "complete"
                && task.get("Slot").is_some_and(|slot| !is_live(slot))
        };
        self.tasks.iter().find(is_done).map(|task| text(task, "/ID"))
    }

    pub fn verdict(&self) -> Verdict {
        if self.is_job() {
            return self.job_verdict();
        }
        let state = self.update_state();
        let message = text(&self.service, "/UpdateStatus/Message");
        let named = message.split_whitespace().last().filter(|word| word.len() == 25);
        let failed = |reason: &str| Verdict::Failed {
            reason: reason.to_owned(),
            task: named
                .map(str::to_owned)
                .or_else(|| Some(text(self.failed_task()?, "/ID").to_owned())),
        };
        if let Some(task) = self.done() {
            let reason = "its task ended with exit code 0, and a service is there to stay";
            return Verdict::Failed { reason: reason.to_owned(), task: Some(task.to_owned()) };
        }
        match state {
            "paused" => return failed(message),
            "rollback_started" | "rollback_paused" | "rollback_completed" => {
                return failed("the engine took the service back to its last good version");
            }
            _ => {}
        }
        let wanted = self.wanted();
        let new = self.tasks.iter().filter(|task| self.is_new(task));
        let ready = new.clone().filter(|task| self.is_serving(task)).count() as u64;
        let parked = new.clone().find_map(|task| {
            let why = self.own.get(text(task, "/ID"))?.get("Parked")?.as_str()?;
            (text(task, "/Status/State") != "running").then_some((why, text(task, "/ID")))
        });
        if let Some((why, task)) = parked {
            return Verdict::Failed { reason: why.to_owned(), task: Some(task.to_owned()) };
        }
        let refused = new.clone().filter(|task| text(task, "/Status/State") == "rejected");
        // In an update the engine counts it, and acts.
        let is_tried_again =
            refused.clone().count() == 1 && state.is_empty() && refused.clone().all(is_passing);
        if let Some(task) = refused.clone().next().filter(|_| !is_tried_again) {
            let reason = text(task, "/Status/Err").to_owned();
            return Verdict::Failed { reason, task: Some(text(task, "/ID").to_owned()) };
        }
        if let Some((reason, task)) = self.misplaced() {
            return Verdict::Failed { reason, task: Some(text(task, "/ID").to_owned()) };
        }
        let failures = new.filter(|task| text(task, "/Status/State") == "failed").count();
        if failures >= 3 && state.is_empty() {
            return failed("its tasks fail again and again");
        }
        let old = self.tasks.iter().filter(|task| {
            !self.is_new(task) && matches!(text(task, "/DesiredState"), "ready" | "running")
        });
        let is_over = state.is_empty() || state == "completed";
        if is_over && ready == wanted && old.count() == 0 {
            return Verdict::Converged;
        }
        Verdict::Pending { ready, wanted }
    }
}

/// A refusal that the next task seldom meets: Docker's own races while it sets a network up.
fn is_passing(task: &Value) -> bool {
    text(task, "/Status/Err").starts_with("network sandbox join failed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, state: &str, desired: &str) -> Value {
        json!({ "ID": id, "Slot": 1, "Status": { "State": state }, "DesiredState": desired })
    }

    fn facts(state: &str, tasks: Vec<Value>, new: &[&str]) -> Facts {
        Facts {
            service: json!({
                "Spec": { "Mode": { "Replicated": { "Replicas": 1 } } },
                "UpdateStatus": { "State": state, "Message": "" },
            }),
            tasks,
            up_to_date: new.iter().map(|id| (*id).to_owned()).collect(),
            own: BTreeMap::new(),
        }
    }

    #[test]
    fn what_stays_when_the_engine_takes_a_service_back_is_never_called_new() {
        let tasks = vec![task("bad", "failed", "shutdown"), task("old", "running", "running")];
        for (state, up_to_date) in [("updating", "bad"), ("rollback_completed", "old")] {
            let slots = facts(state, tasks.clone(), &[up_to_date]).slots();
            let shown: Vec<_> = slots.iter().map(|slot| (&*slot.task, slot.is_new)).collect();
            assert_eq!(shown, [("old", false), ("bad", true)], "{state}");
        }
    }

    #[test]
    fn old_tasks_do_not_count_for_the_new_release() {
        let facts = facts("updating", vec![task("old", "running", "running")], &[]);
        assert_eq!(facts.verdict(), Verdict::Pending { ready: 0, wanted: 1 });
    }

    #[test]
    fn a_rollback_is_a_failure_even_when_everything_runs() {
        let facts = facts("rollback_completed", vec![task("old", "running", "running")], &["old"]);
        assert!(matches!(facts.verdict(), Verdict::Failed { .. }));
    }

    #[test]
    fn a_release_is_live_when_its_tasks_serve_and_no_old_one_is_wanted() {
        let tasks = vec![task("new", "running", "running"), task("old", "running", "shutdown")];
        assert_eq!(facts("completed", tasks, &["new"]).verdict(), Verdict::Converged);
    }

    #[test]
    fn a_task_that_ended_well_is_no_service() {
        let mut facts = facts("paused", vec![task("new", "complete", "shutdown")], &["new"]);
        assert!(matches!(facts.verdict(), Verdict::Failed { reason, .. } if reason.is_empty()));
        facts.service["Spec"]["TaskTemplate"] = json!({ "RestartPolicy": { "Condition": "none" } });
        let verdict = facts.verdict();
        assert!(matches!(&verdict, Verdict::Failed { reason, .. } if reason.contains("code 0")));
        facts.tasks.push(task("next", "ready", "running"));
        assert_ne!(facts.verdict(), verdict, "another one is coming");
    }

    #[test]
    fn a_network_that_was_not_there_in_time_is_tried_once_more() {
        let rejected = |id: &str, error: &str| {
            let mut task = task(id, "rejected", "shutdown");
            task["Status"]["Err"] = json!(error);
            task
        };
        let race = "network sandbox join failed: error creating vxlan interface: file exists";
        let image = "No such image: app:v1";
        for (state, errors, is_failed) in [
            ("", vec![race], false),
            ("", vec![race, race], true),
            ("", vec![image], true),
            ("updating", vec![race], true),
        ] {
            let tasks = errors.iter().enumerate().map(|(i, e)| rejected(&format!("t{i}"), e));
            let verdict = facts(state, tasks.collect(), &["t0", "t1"]).verdict();
            assert_eq!(matches!(verdict, Verdict::Failed { .. }), is_failed, "{state} {errors:?}");
        }
    }

    #[test]
    fn a_running_task_that_takes_no_requests_yet_is_not_ready() {
        let mut facts = facts("", vec![task("new", "running", "running")], &["new"]);
        facts.own.insert("new".to_owned(), json!({ "IsServing": false }));
        assert_eq!(facts.verdict(), Verdict::Pending { ready: 0, wanted: 1 });
    }
}
