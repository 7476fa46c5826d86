//! Starting the task inside its limits: the supervisor enters the task's control group and takes
//! its limits on, starts it, and leaves again. So there is no moment at which the task runs outside.

use std::{fs, io};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs},
};

use super::Job;
use crate::{
    cgroup::{back_to, join, where_am_i},
    limits::{Limits, Ulimit, may_raise},
};

const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// A supervisor is spared while there is anything else, as Docker's shims are, where that may be.
const SPARED: &str = "-999";

/// Calls `start` inside the task's limits.
pub(super) fn within<T>(job: &Job, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = where_am_i();
    let old = fs::read_to_string(OOM_SCORE).unwrap_or_default();
    let mut kept = Vec::new();
    let started = enter(job, &mut kept).and_then(|()| start());
    for (resource, limit) in kept.into_iter().rev() {
        restore(resource, limit);
    }
    if let Some(group) = &job.group {
        back_to(group, &before);
        // One place was the supervisor's own until now.
        if job.limits.pids != 0 {
            let _ = group.make(&job.limits);
        }
    }
    let _ = fs::write(OOM_SCORE, if may_raise() { SPARED } else { old.trim() });
    started
}

fn enter(job: &Job, kept: &mut Vec<(Resource, Rlimit)>) -> io::Result<()> {
    if let Some(group) = &job.group {
        let inside = match job.limits.pids {
            0 => job.limits.clone(),
            pids => Limits { pids: pids.saturating_add(1), ..job.limits.clone() },
        };
        group.make(&inside).map_err(|error| named("limit its control group", &error))?;
        join(&group.doors())?;
    }
    if let Some(score) = job.limits.oom_score_adj {
        fs::write(OOM_SCORE, score.to_string())
            .map_err(|error| named(&format!("set its oom_score_adj to {score}"), &error))?;
    }
    drop_capabilities(&job.limits)?;
    if job.limits.no_new_privileges {
        set_no_new_privs(true)?;
    }
    for ulimit in &job.limits.ulimits {
        let Some(resource) = resource(&ulimit.name) else { continue };
        kept.push((resource, getrlimit(resource)));
        take_on(resource, ulimit)?;
    }
    Ok(())
}

/// What the machine refused, with its own words. Not of the kinds that mean the program itself.
fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// Capabilities are root's; the set that bounds them is not given back by a new program.
fn drop_capabilities(limits: &Limits) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() || limits.drops.is_empty() {
        return Ok(());
    }
    let is_all = limits.drops.iter().any(|name| name == "ALL");
    let keeps = |name: &str| limits.keeps.iter().any(|kept| kept == name || kept == "ALL");
    for (name, capability) in CapabilitySet::all().iter_names() {
        if (is_all && !keeps(name)) || limits.drops.iter().any(|dropped| dropped == name) {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Err(rustix::io::Errno::INVAL) | Ok(()) => {}
                Err(error) => return Err(named(&format!("drop CAP_{name}"), &error.into())),
            }
        }
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

fn take_on(resource: Resource, ulimit: &Ulimit) -> io::Result<()> {
    let number = |limit: i64| u64::try_from(limit).ok();
    let (current, mut maximum) = (number(ulimit.soft), number(ulimit.hard));
    if !may_raise() && matches!(resource, Resource::Fsize | Resource::Cpu) {
        // It could not be taken back, and the log would end with it.
        maximum = getrlimit(resource).maximum;
    }
    setrlimit(resource, Rlimit { current, maximum }).map_err(|error| {
        let Ulimit { name, soft, hard } = ulimit;
        named(&format!("set its ulimit {name} to {soft}:{hard}"), &error.into())
    })
}

/// As it was, or what is left of it.
fn restore(resource: Resource, old: Rlimit) {
    if setrlimit(resource, old).is_err() {
        let maximum = getrlimit(resource).maximum;
        let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let current = if most(old.current) > most(maximum) { maximum } else { old.current };
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }
}
