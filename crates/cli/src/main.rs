//! `keel`: one binary that releases a containerised app with zero failed requests, and proves it.
//!
//! Reading order: `args` (what can be typed), `run` (from arguments to exit code), `command` (one
//! file per command), `target` (which engine), `daemon` (the long-lived processes), `view` (what is shown, as plain values),
//! `output` and `failure` (how it is said). This crate wires the others together; what a release
//! is and how it is judged is in `ops`.

mod args;
mod command;
mod daemon;
mod failure;
mod human;
mod output;
mod place;
mod progress;
mod run;
mod table;
mod target;
mod view;

use std::{ffi::OsStr, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let first = arguments.next();
    // One supervisor per task: nothing else of this binary is touched on its way.
    if first.as_deref() == Some(OsStr::new("supervise"))
        && let Some(folder) = arguments.next()
    {
        return engine::supervisor::run(Path::new(&folder));
    }
    if first.as_deref() == Some(OsStr::new(engine::exec::terminal::COMMAND)) {
        return engine::exec::terminal::become_command(arguments);
    }
    if first.as_deref() == Some(OsStr::new(engine::exec::inside::COMMAND)) {
        return engine::exec::inside::become_command(arguments);
    }
    let is_script = Path::new(&name).file_name() == Some(OsStr::new("swarm-deploy"));
    let rest = first.into_iter().chain(arguments).collect();
    run::run(if is_script { args::Invoked::AsScript } else { args::Invoked::AsKeel }, rest)
}
