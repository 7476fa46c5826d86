//! Removing a lab, or what a node held in memory, from its record alone: whoever made it, and
//! whatever is left of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error,
    error::io,
    node::Node,
    process,
    record::Record,
    run::{run, until},
    wire,
};

/// The kernel lets go of a control group a moment after its last process.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);
const CGROUPS: &str = "/sys/fs/cgroup";

/// Everything of the lab goes; `reap` collects the caller's dead children.
pub fn lab(record: &Record, mut reap: impl FnMut()) -> Result<(), Error> {
    for index in 0..record.nodes {
        node(record, &Node::new(record, index), &mut reap)?;
    }
    wire::remove_bridge(record);
    let mut left = wire::leftovers(record)?;
    left.extend(mounts(&record.folder).into_iter().map(|path| format!("mount {path}")));
    if !left.is_empty() {
        let folder = record.folder.clone();
        return Err(Error::Leftover { folder, what: left.join(", ") });
    }
    match fs::remove_dir_all(&record.folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", &record.folder)(error))
        }
        Err(_) | Ok(()) => record.forget(),
    }
}

/// What a machine loses when its power goes: processes, mounts, network, `/run`. Its disk stays.
pub fn node(record: &Record, node: &Node, reap: impl FnMut()) -> Result<(), Error> {
    let marks = node.marks();
    let living = process::on_node(&marks);
    let mut sockets: Vec<PathBuf> =
        living.iter().flat_map(|pid| process::shim_sockets(*pid, &marks)).collect();
    sockets.dedup();
    process::kill_all(&node.name, || process::on_node(&marks), reap)?;
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    unmount(&node.folder)?;
    wire::remove_node(record, node);
    remove_cgroups(node.cgroup())?;
    let _ = fs::remove_file(node.folder.join("pid"));
    let _ = fs::remove_file(&node.socket);
    match fs::remove_dir_all(node.exec_root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("remove", node.exec_root())(error))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Mount points in the folder, the innermost last.
fn mounts(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

fn unmount(folder: &Path) -> Result<(), Error> {
    // Mounts may lie on one another; each round takes the uppermost.
    for _ in 0..10 {
        let points = mounts(folder);
        if points.is_empty() {
            return Ok(());
        }
        for point in points.iter().rev() {
            let _ = run(&["umount", "--lazy", point]);
        }
    }
    Err(Error::Leftover { folder: folder.to_owned(), what: mounts(folder).join(", ") })
}

/// The node's control groups, in the one hierarchy or in each of the old ones.
fn remove_cgroups(name: &str) -> Result<(), Error> {
    let controllers = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    let mut roots: Vec<PathBuf> = controllers.map(|entry| entry.path()).collect();
    roots.push(PathBuf::from(CGROUPS));
    for group in roots.into_iter().map(|root| root.join(name)) {
        until(&format!("the removal of {}", group.display()), CGROUP_LIMIT, || {
            remove_group(&group).map_err(|error| error.to_string())
        })?;
    }
    Ok(())
}

/// A group is removed as a folder, but never its files.
fn remove_group(group: &Path) -> std::io::Result<()> {
    if !group.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
