//! Real Docker Swarms of one or several nodes on one machine, for tests and demonstrations.
//!
//! Each node is a network namespace with a containerd and a dockerd of its own; a bridge joins the
//! nodes of a lab, and nothing leaves it. Read `node`, `wire`, then `teardown`. `docs/lab.md` has
//! the facts about Docker that were measured with it. This crate never ends a process or removes a
//! device that does not belong to one of its labs.

mod error;
mod node;
mod process;
mod record;
mod run;
mod swarm;
mod teardown;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::{Mutex, PoisonError},
};

pub use error::Error;
pub use node::Node;
use record::{Owner, Record};
pub use run::until;
pub use teardown::clear;

/// More nodes than this do not fit into the names.
const MOST_NODES: usize = 9;
/// A Unix socket's path has 107 bytes; Docker appends this many to the lab's folder.
const LONGEST_FOLDER: usize = 64;

/// What a lab shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least one; the first makes the swarm.
    pub managers: usize,
    pub workers: usize,
    /// Where its data lies; it must be empty or not there. `None`: a folder in the temporary one.
    pub folder: Option<PathBuf>,
    /// Whether it outlives this process, until `down`.
    pub is_kept: bool,
}

impl Options {
    /// So many nodes, all of them managers, gone with this process.
    pub fn nodes(managers: usize) -> Self {
        Self { managers, workers: 0, folder: None, is_kept: false }
    }
}

/// A running lab. Dropping it removes it, unless it is kept.
pub struct Lab {
    record: Record,
    nodes: Vec<Node>,
    children: Mutex<Vec<Child>>,
    is_ours: bool,
}

impl Lab {
    /// Says what is missing on this machine for a lab, if anything is.
    pub fn check() -> Result<(), Error> {
        run::check_components()
    }

    /// Makes a lab and waits until all its nodes are ready. What a crashed process left is
    /// removed first.
    pub fn up(options: &Options) -> Result<Self, Error> {
        Self::check()?;
        let record = reserve(options)?;
        let nodes = (0..record.nodes).map(|index| Node::new(&record, index)).collect();
        // From here on, dropping removes what was made so far.
        let mut lab = Self { record, nodes, children: Mutex::default(), is_ours: true };
        wire::make_bridge(&lab.record)?;
        for node in &lab.nodes {
            lab.launch(node)?;
        }
        lab.nodes.iter().try_for_each(Node::wait_until_up)?;
        swarm::form(&lab.nodes, options.managers)?;
        if options.is_kept {
            lab.record.owner = None;
            lab.record.save()?;
            lab.is_ours = false;
        }
        Ok(lab)
    }

    /// A kept lab, found by its folder.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self::of(record::of(folder)?))
    }

    /// All labs of this machine. Dropping them changes nothing.
    pub fn all() -> Vec<Self> {
        record::all().into_iter().map(Self::of).collect()
    }

    fn of(record: Record) -> Self {
        let nodes = (0..record.nodes).map(|index| Node::new(&record, index)).collect();
        Self { record, nodes, children: Mutex::default(), is_ours: false }
    }

    /// Removes the lab and says what could not be removed.
    pub fn down(mut self) -> Result<(), Error> {
        self.is_ours = false;
        let _lock = record::lock()?;
        teardown::lab(&self.record, || self.reap())
    }

    pub fn folder(&self) -> &Path {
        &self.record.folder
    }

    /// Prefix of the lab's devices, namespaces and control groups.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Whether the process that made it is gone, so that the next `up` removes it.
    pub fn is_abandoned(&self) -> bool {
        self.record.is_abandoned()
    }

    /// The machine's own address in the lab's network.
    pub fn gateway(&self) -> std::net::Ipv4Addr {
        self.record.address(1)
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this index; panics as a slice does when there is none.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// A node lost as by power failure: every process on it dies, also those a test runs there,
    /// and its network is gone. Its disk stays for `start_daemon`.
    pub fn kill_node(&self, index: usize) -> Result<(), Error> {
        teardown::node(&self.record, self.node(index), || self.reap())
    }

    /// Ends dockerd as a service manager does, and with it its containers.
    pub fn stop_daemon(&self, index: usize) -> Result<(), Error> {
        let node = self.node(index);
        node.stop()?;
        let marks = node.marks();
        process::kill_all(&node.name, || process::of_docker(&marks), || self.reap())
    }

    /// Starts the daemon of a stopped or killed node, and waits until it answers.
    pub fn start_daemon(&self, index: usize) -> Result<(), Error> {
        let node = self.node(index);
        if node.dockerd_pid().is_none() {
            self.launch(node)?;
        }
        node.wait_until_up()
    }

    /// Pulls the node's cable.
    pub fn cut(&self, index: usize) -> Result<(), Error> {
        wire::set_cable(&self.record, index, "down")
    }

    /// Plugs it in again.
    pub fn join(&self, index: usize) -> Result<(), Error> {
        wire::set_cable(&self.record, index, "up")
    }

    /// `docker load` of an archive on one node.
    pub fn load_image(&self, index: usize, archive: &Path) -> Result<(), Error> {
        let path = archive.display().to_string();
        self.node(index).docker(&["load", "--quiet", "--input", &path]).map(drop)
    }

    /// `docker load` of an archive on every node.
    pub fn load_image_everywhere(&self, archive: &Path) -> Result<(), Error> {
        (0..self.nodes.len()).try_for_each(|index| self.load_image(index, archive))
    }

    fn launch(&self, node: &Node) -> Result<(), Error> {
        fs::create_dir_all(&node.folder).map_err(error::io("make", &node.folder))?;
        if !node.namespace_path().exists() {
            wire::make_node(&self.record, node)?;
        }
        let started = node.spawn()?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).extend(started);
        Ok(())
    }

    /// Collects the daemons that ended.
    fn reap(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        let removed = record::lock().and_then(|_lock| teardown::lab(&self.record, || self.reap()));
        if let Err(error) = removed {
            eprintln!("lab: {error}");
        }
    }
}

/// Chooses name, folder and network of a new lab and writes them down.
fn reserve(options: &Options) -> Result<Record, Error> {
    let count = options.managers + options.workers;
    let refused = |reason| {
        let wanted = format!("{} managers and {} workers", options.managers, options.workers);
        Err(Error::Options { wanted, reason })
    };
    if options.managers == 0 {
        return refused("a swarm needs a manager");
    }
    if count > MOST_NODES {
        return refused("nine nodes at most");
    }
    let _lock = record::lock()?;
    remove_abandoned();
    let taken = record::all();
    let name = record::free_name(&taken)?;
    let folder = match &options.folder {
        Some(folder) => record::absolute(folder)?,
        None => record::absolute(&std::env::temp_dir())?.join(&name),
    };
    check_folder(&folder)?;
    let network = wire::free_network(&taken)?;
    let record = Record { name, folder, network, nodes: count, owner: Owner::me() };
    record.save()?;
    fs::create_dir_all(&record.folder).map_err(error::io("make", &record.folder))?;
    Ok(record)
}

/// A lab of a process that is gone is nobody's. One that resists does not keep others from theirs.
fn remove_abandoned() {
    for record in record::all().iter().filter(|record| record.is_abandoned()) {
        if let Err(error) = teardown::lab(record, || ()) {
            eprintln!("lab: leftover of process {:?}: {error}", record.owner);
        }
    }
}

fn check_folder(folder: &Path) -> Result<(), Error> {
    let refused = |reason: String| Err(Error::Folder { folder: folder.to_owned(), reason });
    let text = folder.to_string_lossy();
    if text.len() > LONGEST_FOLDER {
        return refused(format!(
            "longer than {LONGEST_FOLDER} bytes: sockets in it would not work"
        ));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.chars().all(is_plain) {
        return refused("only letters, digits and `/._-` work everywhere".to_owned());
    }
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(false) => refused("not empty; `lab down` removes a lab with its folder".to_owned()),
        Ok(true) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error::io("read", folder)(error)),
    }
}
