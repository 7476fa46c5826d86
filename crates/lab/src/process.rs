//! Finding and ending the processes of a node, by number and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{Error, run};

const END_LIMIT: Duration = Duration::from_secs(20);

/// What tells a node's processes from all others.
#[derive(Clone, Debug)]
pub struct Marks {
    /// The network namespace: the daemon, its shims, and whatever a test runs there.
    pub namespace: PathBuf,
    /// The control group of its containers' processes, as a path component.
    pub cgroup: String,
    /// The node's folder, in the arguments of Docker's own processes.
    pub folder: PathBuf,
}

/// When a process started, in clock ticks since boot; `None` when it is gone or only a zombie.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state and start time are fields 3 and 22.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Whether a process is one of Docker's or of a container, or only runs on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belonging {
    Docker,
    Guest,
}

/// Everything that lives on the node.
pub fn on_node(marks: &Marks) -> BTreeSet<u32> {
    belonging(marks).map(|(pid, _)| pid).collect()
}

/// The daemon, its shims and the containers, but nothing else that runs on the node.
pub fn of_docker(marks: &Marks) -> BTreeSet<u32> {
    let is_docker = |&(_, belongs): &(u32, Belonging)| belongs == Belonging::Docker;
    belonging(marks).filter(is_docker).map(|(pid, _)| pid).collect()
}

/// The processes of a Docker daemon, shims included, that has its files in this folder.
pub fn of_daemon(folder: &Path) -> BTreeSet<u32> {
    all().filter(|pid| start_time(*pid).is_some() && is_dockers_own(*pid, folder)).collect()
}

/// Every process but this one.
fn all() -> impl Iterator<Item = u32> {
    let me = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid| *pid != me)
}

fn belonging(marks: &Marks) -> impl Iterator<Item = (u32, Belonging)> {
    let inode = fs::metadata(&marks.namespace).ok().map(|metadata| metadata.ino());
    all().filter_map(move |pid| {
        start_time(pid)?;
        if is_contained(pid, &marks.cgroup) || is_dockers_own(pid, &marks.folder) {
            return Some((pid, Belonging::Docker));
        }
        let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        let is_guest = inode.is_some_and(|inode| link == Path::new(&format!("net:[{inode}]")));
        is_guest.then_some((pid, Belonging::Guest))
    })
}

fn is_contained(pid: u32, cgroup: &str) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.split('/').any(|part| part == cgroup))
}

fn is_dockers_own(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.split('\0');
    let program = words.next().map(Path::new).and_then(Path::file_name);
    let is_docker = program.and_then(|name| name.to_str()).is_some_and(|name| {
        matches!(name, "dockerd" | "containerd" | "docker-proxy")
            || name.starts_with("containerd-shim")
    });
    let inside = format!("{}/", folder.display());
    is_docker && words.any(|word| word.contains(&inside))
}

/// Kills what `find` finds until it finds nothing more. `reap` is called in between.
pub fn kill_all(
    what: &str,
    find: impl Fn() -> BTreeSet<u32>,
    mut reap: impl FnMut(),
) -> Result<(), Error> {
    run::until(&format!("the end of {what}"), END_LIMIT, || {
        reap();
        let left = find();
        left.iter().for_each(|pid| signal(*pid, Signal::KILL));
        if left.is_empty() { Ok(()) } else { Err(format!("still there: {left:?}")) }
    })
}

pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Sockets of shims lie outside of the lab's folder; this finds those of the node by asking one of
/// its processes. The processes of containers, which live in namespaces of their own, know none.
pub fn shim_sockets(pid: u32, marks: &Marks) -> Vec<PathBuf> {
    if is_contained(pid, &marks.cgroup) {
        return Vec::new();
    }
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let paths = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    paths.filter(|path| path.starts_with("/run/containerd/s/")).map(PathBuf::from).collect()
}
