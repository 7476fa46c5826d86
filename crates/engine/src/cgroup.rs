//! Control groups: one per task, below one of the engine's own, so that limits are kept and use is
//! measured by the kernel. Written directly to its files.
//!
//! ```text
//! v1  HIERARCHY/evenkeel/KEY/TASK    in each hierarchy of cpu, cpuacct, memory, pids (root only)
//! v2  BASE/evenkeel/KEY/TASK         BASE: the top for root, else the highest that is delegated
//!     …/KEY/supervisors              where supervisors stay, so that no task's limit is theirs
//! ```
//!
//! Reading order: `layout` (what the machine has), this file (the engine's part), `group` (a task's).

mod group;
mod layout;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use orchestrator::TaskId;

pub use group::{Group, Throttling};
pub(crate) use group::{Used, back_to, join, where_am_i};
use layout::Layout;

use crate::limits::Limits;

/// Where supervisors are.
const SUPERVISORS: &str = "supervisors";

/// What an engine can do with control groups on this machine.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    is_v2: bool,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    /// Why something is missing.
    why: String,
    /// Limits that cannot be kept are accepted all the same.
    does_ignore: bool,
}

impl Cgroups {
    /// Looks at what the machine has and makes the engine's own groups. `key` tells it from others.
    pub fn open(key: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let layout = Layout::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let is_root = rustix::process::geteuid().is_root();
        Self::on(&layout, key, is_root)
    }

    fn on(layout: &Layout, key: &str, is_root: bool) -> Self {
        let own = Path::new("evenkeel").join(key);
        let mut why = String::new();
        if let Some((top, current)) = &layout.v2 {
            match unified(top, current, &own, is_root) {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => why = error.to_string(),
            }
        }
        if !is_root {
            let text = "the engine is not root, and no control group is delegated to it (a systemd \
                        unit does that with `Delegate=yes`)";
            return Self { why: text.to_owned(), ..Self::default() };
        }
        let mut found = Self::default();
        for (name, place) in [
            ("cpu", &mut found.cpu),
            ("cpuacct", &mut found.cpuacct),
            ("memory", &mut found.memory),
            ("pids", &mut found.pids),
        ] {
            let Some(hierarchy) = layout.v1.get(name) else { continue };
            let folder = hierarchy.join(&own);
            match fs::create_dir_all(folder.join(SUPERVISORS)) {
                Ok(()) => *place = Some(folder),
                Err(error) => why = format!("make {}: {error}", folder.display()),
            }
        }
        if why.is_empty() {
            why = "the machine has no such controller mounted".to_owned();
        }
        found.why = why;
        found
    }

    /// Accepts limits that cannot be kept, and keeps the others.
    pub fn ignoring(mut self, does_ignore: bool) -> Self {
        self.does_ignore = does_ignore;
        self
    }

    /// What is kept, for the log: `cpus, memory, pids`.
    pub fn kept(&self) -> Vec<&'static str> {
        let all = [("cpus", &self.cpu), ("memory", &self.memory), ("pids", &self.pids)];
        all.into_iter().filter(|(_, place)| place.is_some()).map(|(name, _)| name).collect()
    }

    /// What is not kept and why; nothing when all is.
    pub fn missing(&self) -> Option<String> {
        let kept = self.kept();
        let all = ["cpus", "memory", "pids"];
        let missing: Vec<&str> = all.into_iter().filter(|name| !kept.contains(name)).collect();
        (!missing.is_empty()).then(|| format!("{}: {}", missing.join(", "), self.why))
    }

    pub(crate) fn version(&self) -> &'static str {
        if self.is_v2 { "2" } else { "1" }
    }

    /// These limits without those that cannot be kept.
    pub(crate) fn keepable(&self, mut limits: Limits) -> Limits {
        for (limit, place) in [
            (&mut limits.nano_cpus, &self.cpu),
            (&mut limits.memory_bytes, &self.memory),
            (&mut limits.pids, &self.pids),
        ] {
            if place.is_none() {
                *limit = 0;
            }
        }
        limits
    }

    /// Why these limits are refused.
    pub(crate) fn refusal(&self, limits: &Limits) -> Option<String> {
        let lacking = self.lacking(limits).filter(|_| !self.does_ignore)?;
        Some(format!(
            "{lacking}; take the limits out, or start the engine with --ignore-limits to run without"
        ))
    }

    /// Which of these limits cannot be kept here.
    pub(crate) fn lacking(&self, limits: &Limits) -> Option<String> {
        let asked = [
            ("cpus", limits.nano_cpus, &self.cpu),
            ("memory", limits.memory_bytes, &self.memory),
            ("pids", limits.pids, &self.pids),
        ];
        let missing: Vec<&str> = asked
            .into_iter()
            .filter(|(_, limit, place)| *limit != 0 && place.is_none())
            .map(|(name, ..)| name)
            .collect();
        (!missing.is_empty()).then(|| {
            format!("limits of {} cannot be kept on this machine: {}", missing.join(", "), self.why)
        })
    }

    /// The group of a task; none where the machine has no groups for us.
    pub(crate) fn group(&self, task: &TaskId) -> Option<Group> {
        let of = |place: &Option<PathBuf>| place.as_ref().map(|place| place.join(&task.0));
        let group = Group {
            is_v2: self.is_v2,
            cpu: of(&self.cpu),
            cpuacct: of(&self.cpuacct),
            memory: of(&self.memory),
            pids: of(&self.pids),
        };
        (!group.folders().is_empty()).then_some(group)
    }

    fn places(&self) -> BTreeSet<&PathBuf> {
        [&self.cpu, &self.cpuacct, &self.memory, &self.pids].into_iter().flatten().collect()
    }

    /// Removes groups of tasks that are no more, with nothing left in them.
    pub(crate) fn sweep(&self, living: &BTreeSet<TaskId>) {
        for place in self.places() {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name == SUPERVISORS || living.contains(&TaskId(name)) {
                    continue;
                }
                // Only folders are groups; one that has processes stays.
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Err(error) = fs::remove_dir(entry.path())
                {
                    let group = entry.path();
                    tracing::warn!(group = %group.display(), %error, "a group of no task of ours");
                }
            }
        }
    }

    /// Removes the engine's own groups when nothing is in them.
    pub(crate) fn close(&self) {
        for place in self.places() {
            let _ = fs::remove_dir(place.join(SUPERVISORS));
            let _ = fs::remove_dir(place);
            let _ = place.parent().map(fs::remove_dir);
        }
    }
}

/// The groups of version 2, where it has a controller that we need.
fn unified(top: &Path, current: &Path, own: &Path, is_root: bool) -> io::Result<Option<Cgroups>> {
    let base = if is_root { top.to_owned() } else { delegated(top, current) };
    let there = fs::read_to_string(base.join("cgroup.controllers"))?;
    let wanted: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| there.split_whitespace().any(|known| known == *name))
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    enable(&base, &wanted)?;
    let mut folder = base.clone();
    for part in own {
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => enable(&folder, &wanted)?,
        }
    }
    fs::create_dir_all(folder.join(SUPERVISORS))?;
    let of = |name: &str| wanted.contains(&name).then(|| folder.clone());
    Ok(Some(Cgroups {
        is_v2: true,
        cpu: of("cpu"),
        // Its use is counted in every group of version 2.
        cpuacct: Some(folder.clone()),
        memory: of("memory"),
        pids: of("pids"),
        why: "the controller is not delegated to the engine".to_owned(),
        does_ignore: false,
    }))
}

/// The highest group on the way up that is ours to make groups in.
fn delegated(top: &Path, current: &Path) -> PathBuf {
    let is_ours = |folder: &&Path| {
        let may = rustix::fs::Access::WRITE_OK;
        rustix::fs::access(*folder, may).is_ok()
            && rustix::fs::access(folder.join("cgroup.procs"), may).is_ok()
    };
    let way = current.ancestors().take_while(|folder| folder.starts_with(top));
    way.take_while(is_ours).last().unwrap_or(current).to_owned()
}

/// Gives a group's children these controllers.
fn enable(folder: &Path, controllers: &[&str]) -> io::Result<()> {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    let control = folder.join("cgroup.subtree_control");
    match fs::write(&control, text.join(" ")) {
        // No group but the top has processes and such children: they move one down.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let below = folder.join("evenkeel-before");
            fs::create_dir_all(&below)?;
            for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
                let _ = fs::write(below.join("cgroup.procs"), pid);
            }
            fs::write(&control, text.join(" "))
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
