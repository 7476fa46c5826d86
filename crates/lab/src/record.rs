//! What exists of each lab, written down before it is made, so that anyone can remove it.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{Error, error::io, process, run};

/// Where the records of all labs of this machine lie. Gone after a reboot, as the labs are.
const REGISTRY: &str = "/run/evenkeel-lab";
/// Cleaning up after a crashed lab happens under the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(120);

/// A lab: everything else (names of devices, namespaces, paths) follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Prefix of everything the lab makes; at most 12 characters.
    pub name: String,
    pub folder: PathBuf,
    /// The lab's own /24: its `.1` is the bridge, `.10` the first node.
    pub network: Ipv4Addr,
    pub nodes: usize,
    /// Who made it; the lab goes when its owner is gone. `None`: kept until `down`.
    pub owner: Option<Owner>,
}

/// A process, told apart from a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    pub started: u64,
}

impl Owner {
    pub fn me() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { pid, started: process::start_time(pid)? })
    }

    pub fn is_alive(&self) -> bool {
        process::start_time(self.pid) == Some(self.started)
    }
}

impl Record {
    pub fn is_abandoned(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| !owner.is_alive())
    }

    pub fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.network.octets();
        Ipv4Addr::new(a, b, c, host)
    }

    pub fn save(&self) -> Result<(), Error> {
        let path = self.path();
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(io("write", &beside))?;
        fs::rename(&beside, &path).map_err(io("write", &path))
    }

    pub fn forget(&self) -> Result<(), Error> {
        fs::remove_file(self.path()).map_err(io("remove", self.path()))
    }

    fn path(&self) -> PathBuf {
        Path::new(REGISTRY).join(format!("{}.json", self.name))
    }
}

/// Every lab of this machine, whoever made it.
pub fn all() -> Vec<Record> {
    let Ok(entries) = fs::read_dir(REGISTRY) else { return Vec::new() };
    let mut records: Vec<Record> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok())
        .collect();
    records.sort_by(|a, b| a.name.cmp(&b.name));
    records
}

/// The lab in this folder.
pub fn of(folder: &Path) -> Result<Record, Error> {
    let folder = absolute(folder)?;
    let found = all().into_iter().find(|record| record.folder == folder);
    found.ok_or(Error::NoSuchLab { folder })
}

pub fn absolute(folder: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(folder).map_err(io("find", folder))?;
    Ok(path.canonicalize().unwrap_or(path))
}

/// A name nobody uses: the prefix, the creator's process number, a counter.
pub fn free_name(taken: &[Record]) -> Result<String, Error> {
    let pid = std::process::id();
    (0..99)
        .map(|number| format!("kl{pid}x{number}"))
        .find(|name| taken.iter().all(|record| record.name != *name))
        .ok_or(Error::Options {
            wanted: "another one".to_owned(),
            reason: "this process has 99 of them already",
        })
}

/// Choosing names and addresses, and cleaning up, is for one at a time.
pub fn lock() -> Result<File, Error> {
    fs::create_dir_all(REGISTRY).map_err(io("make", REGISTRY))?;
    let path = Path::new(REGISTRY).join("lock");
    let file = File::create(&path).map_err(io("open", &path))?;
    run::until("the lock of the labs", LOCK_LIMIT, || {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| error.to_string())
    })?;
    Ok(file)
}
