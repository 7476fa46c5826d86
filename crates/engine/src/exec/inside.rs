//! A command that runs inside a task's control group: a process of ours enters it, becomes the
//! task's user, and then becomes the command.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use serde::{Deserialize, Serialize};

use crate::{cgroup, supervisor::Job};

/// The first argument of `keel` that says: enter a group and run what follows.
pub const COMMAND: &str = "inside-group";
/// This very binary, also when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// What is to be entered, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inside {
    doors: Vec<PathBuf>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Inside {
    /// The way into a task's group; none when it has no limits that only a group keeps.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let group = job.group.as_ref().filter(|_| job.limits.needs_group())?;
        Some(Self { doors: group.doors(), uid: job.uid, gid: job.gid })
    }

    /// Where a command line that starts with `program` really starts.
    pub(crate) fn before(&self, program: &str) -> (String, Vec<String>) {
        let order = serde_json::to_string(self).unwrap_or_default();
        (OURSELVES.to_owned(), vec![COMMAND.to_owned(), order, program.to_owned()])
    }
}

/// Enters the group and becomes the command.
pub fn become_command(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let order = arguments.next().unwrap_or_default();
    let order: Option<Inside> = serde_json::from_slice(order.as_encoded_bytes()).ok();
    let (Some(order), Some(program)) = (order, arguments.next()) else { return ExitCode::FAILURE };
    if let Err(error) = cgroup::join(&order.doors) {
        eprintln!("{error}");
        return ExitCode::from(126);
    }
    let mut command = Command::new(&program);
    command.args(arguments);
    if let (Some(uid), Some(gid)) = (order.uid, order.gid) {
        command.uid(uid).gid(gid);
    }
    let error = command.exec();
    let (code, text) = super::refusal(&program.to_string_lossy(), &error);
    eprintln!("{text}");
    ExitCode::from(u8::try_from(code).unwrap_or(126))
}
