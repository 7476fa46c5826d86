//! Removing a lab, or what a node held in memory, from its record alone: whoever made it, and
//! whatever is left of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error,
    node::Node,
    process,
    record::Record,
    run::{run, until},
    wire,
};

/// The kernel lets go of a control group, and of a mount, a moment after its last process.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const CGROUPS: &str = "/sys/fs/cgroup";
/// Wherever its data root is, Docker 20.10 keeps a folder per overlay network here.
const BALANCERS: &str = "/var/lib/docker/network/files";
const BALANCER: &[u8] = b"lb_";
/// Letters and digits of a network's id in a swarm.
const ID_LENGTH: usize = 25;

/// Everything of the lab goes; `reap` collects the caller's dead children.
pub fn lab(record: &Record, mut reap: impl FnMut()) -> Result<(), Error> {
    for index in 0..record.nodes {
        let one = Node::new(record, index);
        node(record, &one, &mut reap)?;
        remove_balancers(&one);
    }
    wire::remove_bridge(record);
    let mut left = wire::leftovers(record)?;
    left.extend(mounts(&record.folder).into_iter().map(|path| format!("mount {path}")));
    if !left.is_empty() {
        let folder = record.folder.clone();
        return Err(Error::Leftover { folder, what: left.join(", ") });
    }
    remove(&record.folder)?;
    record.forget()
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
    remove(&node.exec_root())
}

/// What a Docker daemon of nobody's lab left when it ended: shims whose containers it forgot, and
/// mounts, of which a network would keep its number from the next daemon.
pub fn clear(folder: &Path) -> Result<(), Error> {
    let whose = format!("the daemon in {}", folder.display());
    process::kill_all(&whose, || process::of_daemon(folder), || ())?;
    unmount(folder)
}

/// Removes a folder. What was mounted there is busy for a moment longer, in namespaces that are
/// just ending.
fn remove(folder: &Path) -> Result<(), Error> {
    until(&format!("the removal of {}", folder.display()), BUSY_LIMIT, || match fs::remove_dir_all(
        folder,
    ) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        Err(_) | Ok(()) => Ok(()),
    })
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

/// Removes the folders of the overlay networks that the node's own store names.
fn remove_balancers(node: &Node) {
    let store = fs::read(node.data_root().join("network/files/local-kv.db")).unwrap_or_default();
    for name in balancers(&store) {
        // Most are not there: nodes of a lab share their networks.
        let _ = fs::remove_dir_all(Path::new(BALANCERS).join(name));
    }
}

fn balancers(store: &[u8]) -> BTreeSet<String> {
    let is_id = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let length = BALANCER.len() + ID_LENGTH;
    let named = store
        .windows(length)
        .filter(|word| word.strip_prefix(BALANCER).is_some_and(|id| id.iter().all(is_id)));
    named.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The node's control groups, in the one hierarchy or in each of the old ones.
fn remove_cgroups(name: &str) -> Result<(), Error> {
    let controllers = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
    let mut roots: Vec<PathBuf> = controllers.map(|entry| entry.path()).collect();
    roots.push(PathBuf::from(CGROUPS));
    for group in roots.into_iter().map(|root| root.join(name)) {
        until(&format!("the removal of {}", group.display()), BUSY_LIMIT, || {
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

#[cfg(test)]
mod tests {
    use super::balancers;

    #[test]
    fn only_whole_network_ids_name_a_folder_to_remove() {
        let store = b"..lb_v6wukmcas2v2s8hc7ln2l3b9b\"..lb_../../etc/passwd/xxxxxxxxxxx.lb_short";
        let found: Vec<String> = balancers(store).into_iter().collect();
        assert_eq!(found, ["lb_v6wukmcas2v2s8hc7ln2l3b9b"]);
    }
}
