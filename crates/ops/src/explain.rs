//! Why a task failed, in one sentence, with what to do. Pure.

use serde::Serialize;

/// A cause that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// A stable name: `health-never-ready`.
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    pub service: String,
    pub task: Option<String>,
    /// The task's last log lines, oldest first.
    pub log: Vec<String>,
}

/// What is known of the failed task.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub service: String,
    pub task: Option<String>,
    /// `Status.Err`.
    pub error: String,
    /// What its last failed probe said.
    pub detail: Option<String>,
    /// It had been healthy (or running, without a health check) before.
    pub was_ready: bool,
    /// What the engine said of the update.
    pub reason: String,
    pub log: Vec<String>,
}

/// Names the cause.
pub fn explain(failure: Failure) -> Cause {
    let Failure { service, task, error, detail, was_ready, reason, log } = failure;
    let probe = detail.map(|detail| format!("; the probe said: {detail}")).unwrap_or_default();
    let look = format!("see `keel logs {service}` and `keel ps {service}`");
    let lower = error.to_lowercase();
    let (code, message, hint) = if lower.contains("no such image") {
        ("image-missing", error.clone(), "see `keel images`; build it with `keel build`".to_owned())
    } else if lower.contains("progress deadline") {
        (
            "progress-deadline",
            format!("a new task of {service} was {}", &error["task: ".len().min(error.len())..]),
            look,
        )
    } else if lower.contains("unhealthy") && was_ready {
        let message = format!("a new task of {service} turned unhealthy after it was ready{probe}");
        ("health-lost", message, look)
    } else if lower.contains("unhealthy") {
        let message = format!("a new task of {service} never became healthy{probe}");
        ("health-never-ready", message, look)
    } else if lower.contains("starting container failed: exec") {
        let hint = "check `entrypoint` and `command` of the service".to_owned();
        ("command-not-found", format!("{service}: {error}"), hint)
    } else if lower.contains("non-zero exit") && was_ready {
        let message = format!("a new task of {service} crashed after it was ready ({error})");
        ("task-crashed", message, look)
    } else if lower.contains("non-zero exit") {
        let message = format!("a new task of {service} crashed while starting ({error})");
        ("task-crashed-at-start", message, look)
    } else if lower.contains("ended with exit code 0") {
        let hint = "what shall run once is a job: `deploy: {mode: replicated-job}`".to_owned();
        ("task-ended", format!("{service}: {error}"), hint)
    } else {
        let what = if error.is_empty() { reason } else { error };
        ("task-failed", format!("{service}: {what}"), look)
    };
    Cause { code, message, hint, service, task, log }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: &str, was_ready: bool) -> &'static str {
        let failure = Failure {
            service: "ala_api".to_owned(),
            error: error.to_owned(),
            was_ready,
            ..Failure::default()
        };
        explain(failure).code
    }

    #[test]
    fn each_way_to_fail_has_its_own_name() {
        assert_eq!(code("No such image: x:1", false), "image-missing");
        assert_eq!(
            code("task: not ready within 20s (progress deadline)", false),
            "progress-deadline"
        );
        let unhealthy = "task: non-zero exit (143): dockerexec: unhealthy container";
        assert_eq!(code(unhealthy, false), "health-never-ready");
        assert_eq!(code(unhealthy, true), "health-lost");
        assert_eq!(code("task: non-zero exit (1)", true), "task-crashed");
        assert_eq!(code("task: non-zero exit (1)", false), "task-crashed-at-start");
        assert_eq!(code("starting container failed: exec", false), "command-not-found");
        let limit = "starting container failed: set its ulimit nofile to 9:9: not permitted";
        assert_eq!(code(limit, false), "task-failed");
        let ended = "its task ended with exit code 0, and a service is there to stay";
        assert_eq!(code(ended, false), "task-ended");
        assert_eq!(code("", false), "task-failed");
    }
}
