//! Putting the parts together: one state folder, one lock, one engine.
//!
//! ```text
//! STATE/lock          held by the engine that runs, with its process id
//! STATE/state.db      everything that survives; state.db.last-good is a copy of the last start
//! STATE/secrets.key   what the secrets in state.db are sealed with
//! STATE/images        the image store
//! STATE/tasks/ID      one folder per task
//! STATE/volumes/NAME  named volumes
//! STATE/certs.d/HOST/ca.crt, STATE/registries.json   what the operator says about registries
//! STATE/run           sockets
//! ```

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    api::{Api, Execs},
    cgroup::Cgroups,
    control::{self, Inputs},
    driver::{
        process::{DriverConfig, ProcessDriver},
        vault::{self, Vault},
    },
    image,
    registry::{self, Registry},
    store::{Store, StoreError},
    traffic,
};

/// Asks the ingress for its counters.
pub type StatsSource =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync + 'static>;

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub state: PathBuf,
    /// The `keel` binary, for the supervisors.
    pub keel: PathBuf,
    /// Resource limits that this machine cannot keep are accepted and not kept.
    pub ignores_limits: bool,
    pub registries: registry::Options,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another keel (process {pid}) runs on `{state}`")]
    Locked { state: PathBuf, pid: String },
    #[error("make `{path}`: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Images(#[from] image::Error),
    #[error(transparent)]
    Listen(#[from] net::ListenError),
}

impl Error {
    /// A stable name for the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "state-locked",
            Self::Folder { .. } => "state-folder",
            Self::Store(StoreError::Corrupt { .. }) => "state-corrupt",
            Self::Store(StoreError::Newer { .. }) => "state-newer",
            Self::Store(StoreError::Key { .. }) => "secrets-key",
            Self::Store(StoreError::Io { .. }) => "state-write",
            Self::Images(_) => "image-store",
            Self::Listen(_) => "listen",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { .. } => {
                "use it as it is, or end it with `keel daemon --stop` first".to_owned()
            }
            Self::Folder { .. } => {
                "choose another folder with --state-dir, or make this one writable".to_owned()
            }
            Self::Store(StoreError::Corrupt { path, .. }) => {
                let (path, copy) = (path.display(), path.with_extension("db.last-good"));
                format!(
                    "keep the damaged file (`mv {path} {path}.damaged`), restore the copy of the last \
                     start (`cp {} {path}`) and start again; running tasks go on meanwhile",
                    copy.display()
                )
            }
            Self::Store(StoreError::Newer { .. }) => "use the newer keel again".to_owned(),
            Self::Store(StoreError::Key { .. }) => {
                "put the key of this state back; running tasks go on meanwhile".to_owned()
            }
            Self::Store(StoreError::Io { .. }) | Self::Images(_) => {
                "free space under the state folder and start again".to_owned()
            }
            Self::Listen(_) => "see who listens there with `ss -xlp`".to_owned(),
        }
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    shutdown: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
    cgroups: Cgroups,
    vault: Vault,
    _lock: File,
}

impl Engine {
    /// Starts on a state folder: adopts what runs, listens on `run/engine.sock`.
    pub fn start(
        config: &Config,
        commands: mpsc::Sender<traffic::Command>,
        traffic: mpsc::Receiver<traffic::Event>,
        stats: StatsSource,
    ) -> Result<Self, Error> {
        let state = &config.state;
        folders(state)?;
        let lock = lock(state)?;
        let mut store = Store::open(&state.join("state.db"))?;
        control::found(&mut store)?;
        let images = Arc::new(image::Store::open(&state.join("images"))?);
        let registry = Registry::new(state.clone(), Arc::clone(&images), config.registries);
        let registry = Arc::new(registry);
        let listener = net::shared_listener(&state.join("run/engine.sock"))?;
        let (reports, reported) = mpsc::channel(1024);
        let cgroups = Cgroups::open(&vault::key(state)).ignoring(config.ignores_limits);
        tell(&cgroups);
        let vault = Vault::open(state);
        let driver_config = DriverConfig {
            cgroups: cgroups.clone(),
            tasks: state.join("tasks"),
            vault: vault.clone(),
            keel: config.keel.clone(),
            log_max_bytes: 10 << 20,
            log_max_files: 3,
        };
        let driver =
            ProcessDriver::new(driver_config, Arc::clone(&images), Arc::clone(&registry), reports);
        let (shutdown, ends) = watch::channel(false);
        let inputs = Inputs { reports: reported, traffic, shutdown: ends.clone() };
        let (control, running) = control::start(store, driver, commands, inputs)?;
        let tasks = state.join("tasks");
        let execs = Execs::new(config.keel.clone());
        let groups = cgroups.clone();
        let api =
            Api { control, images, registry, tasks, stats, ends: ends.clone(), execs, cgroups };
        let serving =
            net::serve(listener, limits(), ends, move |request| api.clone().respond(request));
        let running = vec![tokio::spawn(running), tokio::spawn(serving)];
        Ok(Self { shutdown, running, cgroups: groups, vault, _lock: lock })
    }

    /// Ends the engine; tasks and their supervisors go on.
    pub async fn shutdown(self) {
        let _ = self.shutdown.send(true);
        for part in self.running {
            let _ = part.await;
        }
        self.cgroups.close();
        self.vault.close();
    }
}

/// What limits are kept on this machine.
fn tell(cgroups: &Cgroups) {
    let kept = cgroups.kept();
    if !kept.is_empty() {
        tracing::info!(limits = kept.join(", "), "limits are kept by control groups");
    }
    if let Some(missing) = cgroups.missing() {
        tracing::warn!("limits are not kept on this machine: {missing}");
    }
}

/// Clients never get more than half of the descriptors, each having two.
fn limits() -> net::Limits {
    let usual = net::Limits::default();
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = allowed.and_then(|count| usize::try_from(count / 4).ok()).unwrap_or(usize::MAX);
    net::Limits { connections: usual.connections.min(most), ..usual }
}

/// Makes the folders. Tasks of other users (`user:`) pass through to what is theirs, and can list
/// nothing on the way; only an engine of root has such tasks.
fn folders(state: &Path) -> Result<(), Error> {
    let passable = if rustix::process::geteuid().is_root() { 0o011 } else { 0 };
    for (folder, added) in [
        ("", passable),
        ("run", 0),
        ("tasks", passable),
        ("images", passable),
        ("volumes", passable),
    ] {
        let path = state.join(folder);
        let make = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let mode = fs::metadata(&path)?.permissions().mode() | added;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            if folder == "run" { net::let_pass(&path) } else { Ok(()) }
        };
        make().map_err(|source| Error::Folder { path: path.clone(), source })?;
    }
    Ok(())
}

/// One control process per folder. The file names the process that holds it.
pub fn lock(state: &Path) -> Result<File, Error> {
    let path = state.join("lock");
    let failed = |source| Error::Folder { path: path.clone(), source };
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        return Err(Error::Locked { state: state.to_owned(), pid });
    }
    // The number is for people: without space for it the lock holds all the same.
    let _ =
        file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}
