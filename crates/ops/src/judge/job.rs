//! What came of a job: every completion is there, or it will never be. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Facts, Verdict, text};

/// Failures after which a job without a limit of attempts is given up on.
const FAILURES: usize = 3;

/// Whether a service spec is a job's.
pub fn is_job(spec: &Value) -> bool {
    ["ReplicatedJob", "GlobalJob"].iter().any(|mode| spec["Mode"][*mode].is_object())
}

impl Facts {
    pub fn is_job(&self) -> bool {
        is_job(&self.service["Spec"])
    }

    /// Completions that are asked for; for a global job one on each node that has a task of it.
    pub(super) fn completions(&self) -> u64 {
        let mode = &self.service["Spec"]["Mode"];
        let job = &mode["ReplicatedJob"];
        let number = |key: &str| job[key].as_u64();
        match job.is_object() {
            true => number("TotalCompletions").or(number("MaxConcurrent")).unwrap_or(1),
            false => (self.places(|_| true).len() as u64).max(1),
        }
    }

    /// Tasks of the iteration under way; earlier ones say nothing.
    fn of_iteration(&self) -> impl Iterator<Item = &Value> {
        let wanted = self.service.pointer("/JobStatus/JobIteration/Index").and_then(Value::as_u64);
        self.tasks.iter().filter(move |task| {
            let own = task.get("JobIteration").filter(|iteration| iteration.is_object());
            own.is_some_and(|own| own["Index"].as_u64().unwrap_or(0) == wanted.unwrap_or(0))
        })
    }

    /// Slots and nodes of its tasks.
    fn places(&self, is: impl Fn(&Value) -> bool) -> BTreeSet<(u64, &str)> {
        let is_global = self.service["Spec"]["Mode"]["GlobalJob"].is_object();
        let place = |task| {
            let node = if is_global { text(task, "/NodeID") } else { "" };
            (task["Slot"].as_u64().unwrap_or(0), node)
        };
        self.of_iteration().filter(|task| is(task)).map(place).collect()
    }

    pub(super) fn job_verdict(&self) -> Verdict {
        let wanted = self.completions();
        let done = self.places(|task| text(task, "/Status/State") == "complete").len() as u64;
        let state = text(&self.service, "/UpdateStatus/State");
        if (wanted == 0 || done >= wanted) && state != "paused" || state == "completed" {
            return Verdict::Converged;
        }
        let failed = |reason: &str, task: Option<&Value>| Verdict::Failed {
            reason: reason.to_owned(),
            task: task.map(|task| text(task, "/ID").to_owned()),
        };
        let is_failure =
            |task: &&Value| matches!(text(task, "/Status/State"), "failed" | "rejected");
        let failures: Vec<&Value> = self.of_iteration().filter(is_failure).collect();
        let newest = failures.iter().copied().max_by_key(|task| text(task, "/CreatedAt"));
        let parked = failures.iter().copied().find_map(|task| {
            Some((self.own.get(text(task, "/ID"))?.get("Parked")?.as_str()?, task))
        });
        if let Some((why, task)) = parked {
            return failed(why, Some(task));
        }
        if state == "paused" {
            return failed(text(&self.service, "/UpdateStatus/Message"), newest);
        }
        if let Some(task) = failures.iter().find(|t| text(t, "/Status/State") == "rejected") {
            return failed(text(task, "/Status/Err"), Some(task));
        }
        let limit = self.service.pointer("/Spec/TaskTemplate/RestartPolicy/MaxAttempts");
        // Our engine counts attempts and says when they are used up; Docker's never stops.
        let is_counted = limit.and_then(Value::as_u64).unwrap_or(0) > 0 && !self.own.is_empty();
        if failures.len() >= FAILURES && !is_counted {
            return failed("its tasks fail again and again", newest);
        }
        if let Some((why, task)) = self.misplaced() {
            return failed(&why, Some(task));
        }
        Verdict::Pending { ready: done, wanted }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(tasks: Value) -> Facts {
        let mode = json!({ "ReplicatedJob": { "MaxConcurrent": 1, "TotalCompletions": 2 } });
        Facts {
            service: json!({
                "Spec": { "Mode": mode }, "JobStatus": { "JobIteration": { "Index": 3 } },
            }),
            tasks: serde_json::from_value(tasks).expect("a list"),
            ..Facts::default()
        }
    }

    fn task(slot: u64, iteration: u64, state: &str) -> Value {
        json!({
            "ID": format!("{slot}.{iteration}"), "Slot": slot, "Status": { "State": state },
            "JobIteration": { "Index": iteration },
        })
    }

    #[test]
    fn a_job_is_done_when_every_completion_of_this_iteration_is_there() {
        let earlier = json!([task(1, 2, "complete"), task(2, 2, "complete")]);
        assert_eq!(facts(earlier).verdict(), Verdict::Pending { ready: 0, wanted: 2 });
        let half = json!([task(1, 3, "complete"), task(2, 3, "running")]);
        assert_eq!(facts(half).verdict(), Verdict::Pending { ready: 1, wanted: 2 });
        let whole = json!([task(1, 3, "complete"), task(2, 3, "failed"), task(2, 3, "complete")]);
        assert_eq!(facts(whole).verdict(), Verdict::Converged);
    }

    #[test]
    fn a_job_whose_attempts_are_used_up_has_failed_with_the_reason() {
        let mut facts = facts(json!([task(1, 3, "failed"), task(2, 3, "running")]));
        assert_eq!(facts.verdict(), Verdict::Pending { ready: 0, wanted: 2 });
        facts.own.insert("1.3".to_owned(), json!({ "Parked": "slot 1 stopped: 1 restart" }));
        let failed = Verdict::Failed {
            reason: "slot 1 stopped: 1 restart".to_owned(),
            task: Some("1.3".to_owned()),
        };
        assert_eq!(facts.verdict(), failed);
    }
}
