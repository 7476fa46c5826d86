//! What one look at a Docker Swarm cannot tell: whether its tasks stay up. Docker says `completed`
//! of tasks that crash again and again (`failure_action: continue`), leaves out a failure that comes
//! while it waits for its last tasks, and waits without end for a task that never runs. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dockerapi::{convert::PROGRESS_DEADLINE, stamp::parse_duration};

use super::monitor;
use crate::judge::{Facts, Verdict};

/// Failures after which a version is given up on where the settings say to go on.
const FAILURES: usize = 3;
const OVER: [&str; 3] = ["failed", "rejected", "complete"];
const COMING: [&str; 8] =
    ["new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"];

/// What was seen of one service since its change. Times are since the first look.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// Tasks that served or had ended when the change began: they say nothing of it.
    earlier: Option<BTreeSet<String>>,
    failed: BTreeSet<String>,
    up_since: BTreeMap<String, Duration>,
    coming_since: BTreeMap<String, Duration>,
}

impl Vigil {
    /// The verdict on what is seen now and what was seen before.
    pub(super) fn see(&mut self, now: Duration, facts: &Facts) -> Verdict {
        let verdict = facts.verdict();
        if facts.is_job() {
            return verdict;
        }
        self.remember(now, facts);
        if matches!(verdict, Verdict::Failed { .. }) {
            return verdict;
        }
        if let Some((task, reason)) = self.late(now, facts) {
            return Verdict::Failed { reason, task: Some(task) };
        }
        if facts.update_state() != "completed" {
            return verdict;
        }
        if self.is_too_many(facts) {
            let count = self.failed.len();
            let reason = format!("{count} of its new tasks ended, and Docker called it completed");
            return Verdict::Failed { reason, task: self.failed.last().cloned() };
        }
        match verdict {
            Verdict::Converged if !self.are_proven(now, facts) => {
                Verdict::Pending { ready: facts.wanted(), wanted: facts.wanted() }
            }
            other => other,
        }
    }

    fn remember(&mut self, now: Duration, facts: &Facts) {
        let over = facts.new_in(&OVER);
        let Some(earlier) = &self.earlier else {
            self.earlier = Some(over.into_iter().chain(facts.serving()).collect());
            return;
        };
        self.failed.extend(over.difference(earlier).cloned());
        keep(&mut self.up_since, facts.serving().difference(earlier).cloned().collect(), now);
        keep(&mut self.coming_since, facts.new_in(&COMING), now);
    }

    /// A task that should have been ready by now.
    fn late(&self, now: Duration, facts: &Facts) -> Option<(String, String)> {
        let label = facts.service["Spec"]["Labels"][PROGRESS_DEADLINE].as_str()?;
        let within = parse_duration(label)?;
        let (task, _) = self.coming_since.iter().find(|(_, since)| now >= **since + within)?;
        let seconds = within.as_secs_f64();
        Some((task.clone(), format!("task: not ready within {seconds}s (progress deadline)")))
    }

    /// More ended than the update's settings allow.
    fn is_too_many(&self, facts: &Facts) -> bool {
        let update = &facts.service["Spec"]["UpdateConfig"];
        if update["FailureAction"] == "continue" {
            return self.failed.len() >= FAILURES;
        }
        let allowed = update["MaxFailureRatio"].as_f64().unwrap_or(0.0);
        let all = facts.wanted().max(1) as f64;
        !self.failed.is_empty() && self.failed.len() as f64 / all > allowed
    }

    /// Every task of this change has stayed up for the monitor time.
    fn are_proven(&self, now: Duration, facts: &Facts) -> bool {
        self.up_since.values().all(|since| now >= *since + monitor(facts))
    }
}

/// Forgets what is not there any more, and notes what is new.
fn keep(since: &mut BTreeMap<String, Duration>, there: BTreeSet<String>, now: Duration) {
    since.retain(|id, _| there.contains(id));
    for id in there {
        since.entry(id).or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(state: &str, action: &str, tasks: &[(&str, &str)]) -> Facts {
        let task = |(id, state): &(&str, &str)| {
            let desired = if *state == "failed" { "shutdown" } else { "running" };
            json!({ "ID": id, "Slot": 1, "Status": { "State": state }, "DesiredState": desired })
        };
        Facts {
            service: json!({
                "Spec": {
                    "Mode": { "Replicated": { "Replicas": 1 } },
                    "Labels": { "evenkeel.progress_deadline": "10s" },
                    "UpdateConfig": { "Monitor": 4_000_000_000_u64, "FailureAction": action },
                },
                "UpdateStatus": { "State": state, "Message": "" },
            }),
            tasks: tasks.iter().map(task).collect::<Vec<Value>>(),
            up_to_date: tasks.iter().map(|(id, _)| (*id).to_owned()).collect(),
            own: BTreeMap::new(),
        }
    }

    fn seen(vigil: &mut Vigil, seconds: u64, facts: &Facts) -> Verdict {
        vigil.see(Duration::from_secs(seconds), facts)
    }

    #[test]
    fn a_service_that_nobody_changed_is_judged_at_once() {
        let tasks = [("a", "running"), ("b", "failed")];
        let verdict = seen(&mut Vigil::default(), 0, &facts("completed", "pause", &tasks));
        assert_eq!(verdict, Verdict::Converged);
    }

    #[test]
    fn a_new_task_must_stay_up_for_the_monitor_time() {
        let mut vigil = Vigil::default();
        seen(&mut vigil, 0, &facts("updating", "pause", &[]));
        let up = facts("completed", "pause", &[("a", "running")]);
        assert_eq!(seen(&mut vigil, 1, &up), Verdict::Pending { ready: 1, wanted: 1 });
        assert_eq!(seen(&mut vigil, 5, &up), Verdict::Converged);
    }

    #[test]
    fn a_failure_that_docker_did_not_count_is_one() {
        let mut vigil = Vigil::default();
        seen(&mut vigil, 0, &facts("updating", "pause", &[]));
        let tasks = [("a", "failed"), ("b", "running")];
        let going = seen(&mut vigil, 1, &facts("updating", "pause", &tasks));
        assert!(matches!(going, Verdict::Pending { .. }), "Docker may act yet: {going:?}");
        let over = seen(&mut vigil, 9, &facts("completed", "pause", &tasks));
        assert!(matches!(over, Verdict::Failed { task: Some(id), .. } if id == "a"));
    }

    #[test]
    fn going_on_after_failures_ends_with_the_third() {
        let mut vigil = Vigil::default();
        seen(&mut vigil, 0, &facts("updating", "continue", &[]));
        let two = [("a", "failed"), ("b", "failed"), ("c", "running")];
        let verdict = seen(&mut vigil, 1, &facts("completed", "continue", &two));
        assert_eq!(verdict, Verdict::Pending { ready: 1, wanted: 1 });
        let three = [("a", "failed"), ("b", "failed"), ("c", "failed")];
        let verdict = seen(&mut vigil, 2, &facts("completed", "continue", &three));
        assert!(matches!(verdict, Verdict::Failed { .. }), "{verdict:?}");
    }

    #[test]
    fn a_task_that_never_runs_is_given_up_after_its_progress_deadline() {
        let mut vigil = Vigil::default();
        let coming = facts("updating", "pause", &[("a", "starting")]);
        seen(&mut vigil, 0, &coming);
        seen(&mut vigil, 1, &coming);
        assert!(matches!(seen(&mut vigil, 10, &coming), Verdict::Pending { .. }));
        let verdict = seen(&mut vigil, 11, &coming);
        assert!(matches!(verdict, Verdict::Failed { reason, .. } if reason.contains("10s")));
    }
}
