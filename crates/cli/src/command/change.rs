//! What the commands that change something have in common: progress, Ctrl-C, and how an outcome of
//! `ops` becomes an exit code.

use std::{io::IsTerminal, time::Duration};

use ops::{Class, deploy, explain::Cause, source::LoadError};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    failure::{Exit, Failure, Outcome, Stop},
    human,
    output::Output,
};

/// After so many Ctrl-C nothing is waited for.
const IMPATIENT: u32 = 3;

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Failed => Self::Failed,
            Class::Usage => Self::Usage,
            Class::RolledBack => Self::RolledBack,
            Class::Locked => Self::Locked,
            Class::VerifyFailed => Self::NotVerified,
            Class::Refused => Self::Refused,
            Class::Deadline => Self::Deadline,
            Class::Interrupted => Self::Interrupted,
        }
    }
}

impl From<ops::Error> for Failure {
    fn from(error: ops::Error) -> Self {
        let failure = Self::new(error.code, error.message).exit(error.class.into());
        Self { hint: error.hint, ..failure }
    }
}

impl From<ops::Error> for Stop {
    fn from(error: ops::Error) -> Self {
        Self::Failure(error.into())
    }
}

/// Counts Ctrl-C and SIGTERM; `ops` decides what the first ones mean.
pub struct Interrupts {
    pub heard: watch::Receiver<u32>,
    listening: JoinHandle<()>,
}

impl Interrupts {
    pub fn listen(output: Output) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new("signals", format!("listen for signals: {error}")))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let (count, heard) = watch::channel(0);
        let listening = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
                let times = *count.borrow();
                if times == 1 {
                    output.note("interrupted: stopping in order; once more to stop waiting");
                }
                if times >= IMPATIENT {
                    output.note(
                        "interrupted: left as it is now; the engine goes on with what it was \
                         told. See `keel ps`; the same command again takes over from here",
                    );
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
        Ok(Self { heard, listening })
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A stack file that cannot be used, with each place in it.
pub fn unusable(error: LoadError, output: Output) -> Stop {
    let problems = match error {
        LoadError::Error(error) => return (*error).into(),
        LoadError::Diagnostics(problems) => problems.0,
    };
    let in_colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for problem in &problems {
        let text = if in_colour { problem.rendered_in_colour() } else { problem.rendered() };
        output.note(&text);
    }
    let errors: Vec<_> = problems.iter().filter(|p| p.severity == stack::Severity::Error).collect();
    let file = errors.first().map(|p| p.file.display().to_string()).unwrap_or_default();
    let places = problems.iter().map(|problem| {
        json!({
            "code": problem.code, "message": problem.message, "hint": problem.hint,
            "file": problem.file, "line": problem.line, "column": problem.column,
            "is_error": problem.severity == stack::Severity::Error,
        })
    });
    let count = human::count(errors.len(), "error");
    Failure::new("stack-file", format!("`{file}` has {count}; nothing was changed"))
        .hint("correct the file and repeat the command")
        .about(json!({ "diagnostics": places.collect::<Vec<_>>() }))
        .into()
}

/// How a release or a rollback ended: for people, for scripts, and as an exit code.
pub fn ended(outcome: &deploy::Outcome, output: Output, undo: &str) -> Outcome {
    if output.json {
        output.json(&json!(outcome))?;
    }
    let Some(class) = outcome.class else {
        let text = verdict(outcome, undo);
        if output.quiet && !output.json {
            output.line(&outcome.version)?;
        } else if !output.json {
            output.line(&text)?;
        }
        return Ok(());
    };
    if let Some(cause) = &outcome.cause {
        tell(cause, output);
    }
    output.failure_line(&left(outcome));
    Err(Stop::Shown(class.into()))
}

fn verdict(outcome: &deploy::Outcome, undo: &str) -> String {
    let (stack, version) = (&outcome.stack, &outcome.version);
    let took = human::took(Duration::from_millis(outcome.milliseconds));
    match outcome.verdict {
        "unchanged" => {
            format!("nothing to change: {stack} is as it should be already ({took})")
        }
        "planned" => format!("this is what would change in {stack}; nothing was changed"),
        _ => format!("release {version} of {stack} is live ({took}); {undo}"),
    }
}

/// The cause with the task's last words.
fn tell(cause: &Cause, output: Output) {
    let failure = Failure::new(cause.code, cause.message.clone()).hint(cause.hint.clone());
    let task = cause.task.as_deref().map(|task| task.chars().take(12).collect::<String>());
    if !cause.log.is_empty() {
        let whose = task.map_or_else(String::new, |task| format!(" of task {task}"));
        output.note(&format!("last lines{whose} ({}):", cause.service));
        for line in &cause.log {
            output.note(&format!("  | {line}"));
        }
    }
    Output { json: false, ..output }.failure(&failure);
}

/// What state was left.
fn left(outcome: &deploy::Outcome) -> String {
    let took = human::took(Duration::from_millis(outcome.milliseconds));
    let version = &outcome.version;
    match (&outcome.left, outcome.verdict) {
        (Some(left), _) => format!("release {version} failed after {took}; {left}; see `keel ps`"),
        (None, "interrupted") => {
            format!("interrupted after {took}; everything is as it was before release {version}")
        }
        (None, _) => {
            format!("release {version} was taken back after {took}; everything is as it was before")
        }
    }
}
