//! Groups on folders that look like the kernel's, and on the kernel's own where they are ours.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use super::*;

fn task(id: &str) -> TaskId {
    TaskId(id.to_owned())
}

fn limits() -> Limits {
    Limits { nano_cpus: 250_000_000, memory_bytes: 64 << 20, pids: 7, ..Limits::default() }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("readable").trim().to_owned()
}

/// A folder that looks like the top of version 2 with these controllers.
fn fake(controllers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("cgroup.controllers"), controllers).expect("written");
    fs::write(folder.path().join("cgroup.procs"), "").expect("written");
    folder
}

#[test]
fn version_2_is_told_limits_in_its_own_files() {
    let top = fake("cpuset cpu io memory pids\n");
    let layout =
        Layout { v2: Some((top.path().to_owned(), top.path().into())), ..Layout::default() };
    let cgroups = Cgroups::on(&layout, "key", true);
    assert_eq!(cgroups.kept(), ["cpus", "memory", "pids"]);
    assert_eq!((cgroups.missing(), cgroups.refusal(&limits())), (None, None));
    assert_eq!(read(&top.path().join("cgroup.subtree_control")), "+cpu +memory +pids");
    assert_eq!(read(&top.path().join("evenkeel/key/cgroup.subtree_control")), "+cpu +memory +pids");
    let group = cgroups.group(&task("one")).expect("a group");
    group.make(&limits()).expect("made");
    let folder = top.path().join("evenkeel/key/one");
    assert_eq!(read(&folder.join("cpu.max")), "25000 100000");
    assert_eq!(read(&folder.join("memory.max")), "67108864");
    assert_eq!(read(&folder.join("pids.max")), "7");
    assert_eq!(group.doors(), [folder.join("cgroup.procs")]);
    fs::write(folder.join("memory.events"), "low 0\noom 3\noom_kill 2\n").expect("written");
    fs::write(folder.join("memory.current"), "1000\n").expect("written");
    fs::write(folder.join("memory.stat"), "file 9\ninactive_file 300\n").expect("written");
    fs::write(
        folder.join("cpu.stat"),
        "usage_usec 5\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
    )
    .expect("written");
    let used = group.used();
    assert_eq!(group.oom_kills(), 2);
    assert_eq!((used.memory_bytes, used.cache_bytes), (Some(1000), 300));
    assert_eq!(used.memory_limit_bytes, Some(64 << 20));
    assert_eq!((used.cpu, used.pids_limit), (Some(std::time::Duration::from_micros(5)), Some(7)));
    assert_eq!((used.throttling.periods, used.throttling.throttled_periods), (4, 3));
}

#[test]
fn what_is_not_there_is_refused_with_the_reason() {
    let top = fake("cpu pids\n");
    let layout =
        Layout { v2: Some((top.path().to_owned(), top.path().into())), ..Layout::default() };
    let cgroups = Cgroups::on(&layout, "key", true);
    assert_eq!(cgroups.kept(), ["cpus", "pids"]);
    let refusal = cgroups.refusal(&limits()).expect("refused");
    assert!(refusal.starts_with("limits of memory cannot be kept"), "{refusal}");
    let nothing = Cgroups::on(&Layout::default(), "key", false);
    assert!(nothing.group(&task("one")).is_none());
    let refusal = nothing.refusal(&limits()).expect("refused");
    assert!(refusal.contains("cpus, memory, pids") && refusal.contains("not root"), "{refusal}");
    assert_eq!(nothing.refusal(&Limits::default()), None);
    // Only when that was asked for, and then they are told and left out.
    let nothing = nothing.ignoring(true);
    assert_eq!(nothing.refusal(&limits()), None);
    assert!(nothing.lacking(&limits()).is_some());
    assert_eq!(nothing.keepable(limits()), Limits::default());
}

/// The kernel's own groups; none where this machine or user has none, which is said.
fn real(key: &str) -> Option<Cgroups> {
    let cgroups = Cgroups::open(key);
    if cgroups.kept() != ["cpus", "memory", "pids"] {
        eprintln!("no control groups for this user here: {:?}", cgroups.missing());
        return None;
    }
    Some(cgroups)
}

#[test]
fn the_kernel_keeps_the_limits_and_nothing_is_left_of_a_group() {
    let Some(cgroups) = real("tests-limits") else { return };
    let group = cgroups.group(&task("one")).expect("a group");
    group.make(&limits()).expect("made");
    let used = group.used();
    assert_eq!((used.memory_limit_bytes, used.pids_limit), (Some(64 << 20), Some(7)));
    // It waits until it is inside: then it and its child are there, and both can be killed.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read go; sleep 600 & echo born; wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("runs");
    for door in group.doors() {
        fs::write(door, child.id().to_string()).expect("enters");
    }
    drop(child.stdin.take());
    let mut born = [0; 5];
    child.stdout.as_mut().expect("piped").read_exact(&mut born).expect("said");
    assert_eq!(group.used().pids, Some(2));
    cgroups.sweep(&BTreeSet::new());
    assert!(group.folders().iter().all(|folder| folder.exists()), "one with processes stays");
    let reaped = std::thread::spawn(move || child.wait());
    group.kill();
    assert!(!reaped.join().expect("waited").expect("ended").success());
    group.remove();
    assert!(group.folders().iter().all(|folder| !folder.exists()));
    // A crashed engine's leftover, empty.
    let left = cgroups.group(&task("left")).expect("a group");
    left.make(&Limits::default()).expect("made");
    cgroups.sweep(&BTreeSet::from([task("left")]));
    assert!(left.folders().iter().all(|folder| folder.exists()));
    cgroups.sweep(&BTreeSet::new());
    assert!(left.folders().iter().all(|folder| !folder.exists()));
    cgroups.close();
    assert!(cgroups.places().iter().all(|place| !place.exists()));
}
