//! What the demo found, as a table for people and as JSON.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::{
    human,
    step::{Entry, Killed, Script, Step},
};

/// Between the answer and the moment in which the load writes it down.
const SLACK_MS: u64 = 50;

/// One run from the first release to the last step.
#[derive(Debug, Serialize)]
pub struct Report {
    pub requests: u64,
    pub failed: u64,
    pub cut_by_kill: u64,
    /// The requests that a killed process or node had in its hands, each by name.
    pub cut: Vec<Value>,
    pub lost_writes: u64,
    pub duplicated_writes: u64,
    pub websockets: u64,
    pub websockets_cut: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub rate: f64,
    pub rude: bool,
    /// Of the Docker Swarm; none on the embedded engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    pub complete: bool,
    pub steps: Vec<Step>,
    pub failures: Vec<Value>,
}

/// The same with an application that finishes its requests on SIGTERM, and with one that does not.
#[derive(Debug, Serialize)]
pub struct Both {
    pub requests: u64,
    pub failed: u64,
    pub cut_by_kill: u64,
    pub lost_writes: u64,
    pub duplicated_writes: u64,
    pub websockets: u64,
    pub websockets_cut: u64,
    pub graceful: Report,
    pub rude: Report,
}

impl Report {
    /// Joins what the load saw with what was done. Requests cut by the death of what was killed on
    /// purpose are told apart; cut by any other death they count as failed.
    pub fn new(load: &Value, script: Script, rude: bool, nodes: Option<usize>) -> Result<Self> {
        let count = |key: &str| {
            load.get(key).and_then(Value::as_u64).with_context(|| format!("load report: no {key}"))
        };
        let number = |key: &str| load.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let killed = &script.killed;
        let split = |key: &str, is_cut: fn(&Killed, &Value) -> bool| -> (Vec<Value>, Vec<Value>) {
            let list = load.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            list.into_iter().partition(|one| is_cut(killed, one))
        };
        let (answered, wrongly_answered) = split("cut", Killed::has_cut_request);
        let (dropped, mut failures) = split("failures", Killed::has_cut_connection);
        let (sockets, wrong_sockets) = split("websocket_cuts", Killed::has_cut_socket);
        let failed = count("failed")? + wrongly_answered.len() as u64;
        failures.extend(wrongly_answered);
        failures.extend(wrong_sockets);
        let websockets_cut = count("websockets_cut")?.saturating_sub(sockets.len() as u64);
        let failed = failed.saturating_sub(dropped.len() as u64);
        let cut = [answered, dropped, sockets].concat();
        Ok(Self {
            requests: count("requests")?,
            failed,
            cut_by_kill: cut.len() as u64,
            cut,
            lost_writes: count("lost_writes")?,
            duplicated_writes: count("duplicated_writes")?,
            websockets: count("websockets")?,
            websockets_cut,
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
            max_ms: number("max_ms"),
            rate: number("rate_achieved"),
            rude,
            nodes,
            complete: script.is_complete,
            steps: script.steps,
            failures,
        })
    }

    /// Everything held.
    pub fn is_good(&self) -> bool {
        self.failed == 0
            && self.lost_writes == 0
            && self.duplicated_writes == 0
            && self.websockets_cut == 0
            && self.rate >= 300.0
            && self.complete
            && self.steps.iter().all(|step| step.is_good)
    }

    pub fn print(&self, took: Duration, path: &Path) {
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(4);
        println!("\n{:width$}  {:>9}  {:>8}  {:>4}  verdict", "step", "time", "requests", "exit");
        for step in &self.steps {
            let time = human(Duration::from_secs_f64(step.seconds));
            let (name, exit, verdict) = (&step.name, step.exit_code, &step.verdict);
            let mark = if step.is_good { "" } else { "  ✗ not as expected" };
            println!("{name:width$}  {time:>9}  {:>8}  {exit:>4}  {verdict}{mark}", step.requests);
        }
        println!();
        let rows = [
            ("requests", self.requests.to_string()),
            ("failed", self.failed.to_string()),
            ("cut by what was killed", self.cut_by_kill.to_string()),
            ("lost writes", self.lost_writes.to_string()),
            ("duplicated writes", self.duplicated_writes.to_string()),
            ("WebSockets", format!("{}, cut {}", self.websockets, self.websockets_cut)),
            (
                "latency",
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms",
                    self.p50_ms, self.p99_ms, self.max_ms
                ),
            ),
        ];
        for (name, value) in rows {
            println!("{name:27} {value}");
        }
        for failure in self.failures.iter().take(10) {
            println!("  failed: {failure}");
        }
        let verdict = if self.is_good() { "all of it held" } else { "NOT all of it held" };
        println!("\n{verdict}, in {}; report: {}", human(took), path.display());
    }
}

impl Both {
    pub fn new(graceful: Report, rude: Report) -> Self {
        let sum = |of: fn(&Report) -> u64| of(&graceful) + of(&rude);
        Self {
            requests: sum(|run| run.requests),
            failed: sum(|run| run.failed),
            cut_by_kill: sum(|run| run.cut_by_kill),
            lost_writes: sum(|run| run.lost_writes),
            duplicated_writes: sum(|run| run.duplicated_writes),
            websockets: sum(|run| run.websockets),
            websockets_cut: sum(|run| run.websockets_cut),
            graceful,
            rude,
        }
    }

    pub fn is_good(&self) -> bool {
        self.graceful.is_good() && self.rude.is_good()
    }

    pub fn print(&self, path: &Path) {
        println!(
            "\nboth applications: {} requests, {} failed, {} cut by what was killed, {} lost and {} \
             duplicated writes, {} of {} WebSockets cut; report: {}",
            self.requests,
            self.failed,
            self.cut_by_kill,
            self.lost_writes,
            self.duplicated_writes,
            self.websockets_cut,
            self.websockets,
            path.display()
        );
    }
}

/// Puts a report in its place.
pub fn write(report: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

impl Killed {
    /// The ingress named a killed task.
    fn has_cut_request(&self, cut: &Value) -> bool {
        let task = text(cut, "task");
        self.replicas.iter().any(|replica| replica.task == task)
    }

    /// A client's own connection to a killed node.
    fn has_cut_connection(&self, failure: &Value) -> bool {
        let is_of_connection = matches!(text(failure, "cause"), "connect" | "broken" | "timeout");
        let due = failure.get("unix_ms").and_then(Value::as_u64).unwrap_or(0);
        let after = failure.get("after_ms").and_then(Value::as_f64).unwrap_or(0.0);
        let over = due + after as u64;
        is_of_connection && self.entries.iter().any(|entry| entry.had(failure, due, over))
    }

    /// A WebSocket to a killed replica, which is named by its answer, or to a killed node.
    fn has_cut_socket(&self, cut: &Value) -> bool {
        let instance = text(cut, "instance");
        let over = cut.get("unix_ms").and_then(Value::as_u64).unwrap_or(0);
        let lived = cut.get("after_ms").and_then(Value::as_f64).unwrap_or(0.0);
        let opened = over.saturating_sub(lived as u64);
        self.replicas.iter().any(|replica| replica.is_named(instance))
            || self.entries.iter().any(|entry| entry.had(cut, opened, over))
    }
}

impl Entry {
    /// It came in here before clients left, and was under way when the node was killed.
    fn had(&self, one: &Value, from: u64, to: u64) -> bool {
        let address = text(one, "entry").rsplit_once(':').and_then(|(ip, _)| ip.parse().ok());
        address == Some(self.address)
            && from <= self.left_unix_ms + SLACK_MS
            && to + SLACK_MS >= self.killed_unix_ms
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demo::step::Replica;

    fn killed() -> Killed {
        let replica =
            Replica { task: "t1".to_owned(), pid: 77, container: "abcdef1234567890".to_owned() };
        let entry =
            Entry { address: [10, 0, 0, 12].into(), killed_unix_ms: 10_000, left_unix_ms: 10_500 };
        Killed { replicas: vec![replica], entries: vec![entry] }
    }

    fn report(load: Value) -> Report {
        let mut all = json!({
            "requests": 9, "failed": 0, "lost_writes": 0, "duplicated_writes": 0,
            "websockets": 3, "websockets_cut": 0, "rate_achieved": 350.0,
        });
        let fields = load.as_object().cloned().unwrap_or_default();
        fields.into_iter().for_each(|(key, value)| all[key] = value);
        let script = Script { killed: killed(), is_complete: true, ..Script::default() };
        Report::new(&all, script, false, None).unwrap()
    }

    #[test]
    fn a_cut_by_what_was_killed_is_told_apart_and_any_other_failed() {
        let report = report(json!({ "cut": [{ "task": "t1" }, { "task": "t2" }] }));
        assert_eq!((report.cut_by_kill, report.failed, report.failures.len()), (1, 1, 1));
        assert!(!report.is_good());
    }

    #[test]
    fn only_what_was_under_way_at_a_killed_node_counts_as_cut_by_it() {
        let failure = |entry: &str, cause: &str, unix_ms: u64, after_ms: f64| json!({ "entry": entry, "cause": cause, "unix_ms": unix_ms, "after_ms": after_ms });
        let node = "10.0.0.12:80";
        let mine = failure(node, "timeout", 9_990, 20_000.0);
        let elsewhere = failure("10.0.0.11:80", "timeout", 9_990, 20_000.0);
        let before = failure(node, "broken", 9_000, 100.0);
        let after = failure(node, "connect", 10_700, 1.0);
        let answered = failure(node, "status 500", 9_990, 300.0);
        let all = [mine, elsewhere, before, after, answered];
        let report = report(json!({ "failed": 5, "failures": all }));
        assert_eq!((report.cut_by_kill, report.failed, report.failures.len()), (1, 4, 4));
    }

    #[test]
    fn sockets_to_what_was_killed_are_told_apart_by_replica_and_by_node() {
        let replica = json!({ "entry": "10.0.0.11:80", "instance": "abcdef123456-1" });
        let node = json!({ "entry": "10.0.0.12:80", "unix_ms": 15_000, "after_ms": 9_000.0 });
        let other = json!({ "entry": "10.0.0.11:80", "instance": "fedcba-1", "unix_ms": 15_000 });
        let cuts = json!({ "websockets_cut": 3, "websocket_cuts": [replica, node, other] });
        let report = report(cuts);
        assert_eq!((report.cut_by_kill, report.websockets_cut), (2, 1));
        assert!(!report.is_good());
    }
}
