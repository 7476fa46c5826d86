//! `keel ingress --upgrade`: this binary's ingress goes on in place of the one that runs.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{last_lines, own_binary, process};
use crate::{
    args,
    failure::{Exit, Failure, Outcome},
    human,
    output::Output,
    place,
};

/// How long another ingress may take until it serves. One that is refused gives up before.
const SERVES: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(5);
/// What long-lived connections get when nobody says more.
pub(super) const STAY: Duration = Duration::from_secs(3600);

pub(super) fn run(state: &Path, ingress: &args::Ingress, output: Output) -> Outcome {
    let Some(old) = process::listening_on(&place::ingress_socket(state)) else {
        let text = format!("no ingress runs on `{}`", state.display());
        return Err(Failure::new("no-ingress", text)
            .hint("`keel daemon --background` starts one")
            .into());
    };
    let spawn = process::Ingress {
        keel: own_binary()?,
        state: state.to_owned(),
        address: ingress.publish_address,
        certificates: ingress.node_certificates.clone(),
    };
    let new = replace(&spawn, &old, ingress.cut_after, ingress.workers)?.id();
    if output.json {
        output.json(&json!({ "pid": new, "before": old.pid }))?;
    } else {
        let stay = human::rough(ingress.cut_after);
        output.success(&format!(
            "the ingress of this binary serves (process {new}); the one before (process {}) \
             finishes what it has, for {stay} at most",
            old.pid
        ));
    }
    Ok(())
}

/// Starts an ingress that takes over, and waits until it serves.
pub(super) fn replace(
    spawn: &process::Ingress,
    old: &process::Held,
    stay: Duration,
    workers: Option<usize>,
) -> Result<Child, Failure> {
    let (socket, log) = (place::ingress_socket(&spawn.state), place::ingress_log(&spawn.state));
    let listener = || process::listening_on(&socket).map(|process| process.pid);
    let offset = log.metadata().map_or(0, |file| file.len());
    let failed = |what: String| {
        let lines = last_lines(&log, offset);
        let said = if lines.is_empty() {
            String::new()
        } else {
            format!("; its log:\n  {}", lines.join("\n  "))
        };
        let now = if listener() == Some(old.pid) {
            "the one before serves on"
        } else {
            "nobody listens on its socket"
        };
        Failure::new("ingress-not-upgraded", format!("{what}; {now}{said}"))
            .hint(format!("the whole log is in `{}`", log.display()))
    };
    let mut child = spawn
        .start_in_place(stay, workers)
        .map_err(|error| failed(format!("start the new ingress: {error}")))?;
    let pid = i32::try_from(child.id()).ok();
    let deadline = Instant::now() + SERVES;
    loop {
        if pid.is_some() && listener() == pid {
            return Ok(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(failed(format!("the new ingress ended ({status}) before it served")));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let seconds = SERVES.as_secs();
            let text = format!("the new ingress did not serve within {seconds} s");
            return Err(failed(text).exit(Exit::Deadline));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Replaces the ingress that runs when it is another binary than this one.
pub(super) fn replace_other(spawn: &process::Ingress) -> Result<Option<Child>, Failure> {
    match process::listening_on(&place::ingress_socket(&spawn.state)) {
        Some(old) if is_other_binary(old.pid) => replace(spawn, &old, STAY, None).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// Versions may be equal where binaries are not: the file itself is compared.
fn is_other_binary(pid: i32) -> bool {
    let file = |path: String| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    match (file(format!("/proc/{pid}/exe")), file("/proc/self/exe".to_owned())) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    }
}
