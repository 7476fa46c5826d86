//! A task's copies of its secrets and configs: in memory where the machine has a file system
//! there, so that no disk ever sees them, and gone when the task ends.
//!
//! ```text
//! root   /run/evenkeel/KEY/TASK, else /dev/shm/evenkeel-0/KEY/TASK
//! users  $XDG_RUNTIME_DIR/evenkeel/KEY/TASK, else /dev/shm/evenkeel-UID/KEY/TASK
//! else   STATE/tasks/TASK/files, on disk
//! ```
//!
//! `KEY` is the engine's own: two engines on one machine do not see each other's.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use dockerapi::spec::ContainerSpec;
use orchestrator::TaskId;
use rustix::fs::statfs;
use sha2::{Digest, Sha256};

use super::{mount::Mounted, plan, user::User};
use crate::image;

/// `f_type` of tmpfs and ramfs (`linux/magic.h`).
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Where the copies of all tasks of an engine are.
#[derive(Clone, Debug)]
pub struct Vault {
    /// None: in the task's own folder, on disk.
    folder: Option<PathBuf>,
}

/// What tells the engines of a machine apart, made from where their state is.
pub(crate) fn key(state: &Path) -> String {
    let state = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Vault {
    /// The first place in memory that there is; said in the log when there is none.
    pub fn open(state: &Path) -> Self {
        let uid = rustix::process::geteuid();
        let own = match uid.is_root() {
            true => Some(PathBuf::from("/run/evenkeel")),
            false => std::env::var_os("XDG_RUNTIME_DIR")
                .filter(|folder| !folder.is_empty())
                .map(|folder| PathBuf::from(folder).join("evenkeel")),
        };
        let shared = PathBuf::from(format!("/dev/shm/evenkeel-{}", uid.as_raw()));
        let mode = if uid.is_root() { 0o711 } else { 0o700 };
        for place in own.into_iter().chain([shared]) {
            match make(&place, &key(state), mode) {
                Ok(Some(folder)) => return Self { folder: Some(folder) },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(place = %place.display(), %error, "not used for secrets");
                }
            }
        }
        tracing::warn!(
            "no file system in memory: the copies of secrets that tasks get lie on disk, in their \
             private folders"
        );
        Self { folder: None }
    }

    /// On disk, whatever the machine has.
    #[cfg(test)]
    pub(super) fn on_disk() -> Self {
        Self { folder: None }
    }

    /// The root of a task's copies, given the task's own folder.
    pub(super) fn root(&self, folder: &Path) -> PathBuf {
        let name = folder.file_name().unwrap_or_default();
        self.folder.as_ref().map_or_else(|| folder.join("files"), |vault| vault.join(name))
    }

    /// Takes the copies of a task away; those on disk go with the task's folder.
    pub(super) fn remove(&self, task: &TaskId) {
        let Some(vault) = &self.folder else { return };
        match fs::remove_dir_all(vault.join(&task.0)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%task, %error, "the copies of its secrets cannot be removed");
            }
            _ => {}
        }
    }

    /// Removes the folders of the engine when nothing is in them.
    pub(crate) fn close(&self) {
        if let Some(vault) = &self.folder {
            let _ = fs::remove_dir(vault);
            let _ = vault.parent().map(fs::remove_dir);
        }
    }

    /// Takes away what an engine that crashed left behind.
    pub(super) fn sweep(&self, living: &BTreeSet<TaskId>) {
        for entry in self.folder.iter().flat_map(fs::read_dir).flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !living.contains(&TaskId(name)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// `PLACE/KEY`, when it is in memory and nobody else's.
fn make(place: &Path, key: &str, mode: u32) -> io::Result<Option<PathBuf>> {
    let above = place.parent().unwrap_or(place);
    let kind = match statfs(above) {
        // As wide as on every 64-bit Linux.
        Ok(known) => known.f_type,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !MEMORY.contains(&kind) {
        return Ok(None);
    }
    let folder = place.join(key);
    for path in [place, folder.as_path()] {
        match fs::DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // In a folder for everybody, somebody else may have been first.
        let known = fs::symlink_metadata(path)?;
        if !known.is_dir() || known.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("{} is somebody else's", path.display())));
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(Some(folder))
}

/// Where the task finds its copies: the usual folders, and configs at their targets.
pub(super) fn mounted(spec: &ContainerSpec, root: &Path) -> Vec<Mounted> {
    let at = |path: &str| Mounted {
        target: PathBuf::from(path),
        source: root.join(path.trim_start_matches('/')),
    };
    let usual = ["/run/secrets", "/run/configs"].map(at);
    let is_elsewhere =
        |path: &String| !usual.iter().any(|m| Path::new(path).starts_with(&m.target));
    let named: Vec<String> = plan::files(spec).map(|(path, _)| path).filter(is_elsewhere).collect();
    named.iter().map(|path| at(path)).chain(usual.clone()).collect()
}

/// One copy that is to be made.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    /// As the reference names them; root's are the task's user's.
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Makes the copies under `root`. A folder of the vault appears whole or not at all.
pub(super) fn fill(root: &Path, copies: &[Copy], user: Option<User>) -> io::Result<()> {
    if copies.is_empty() {
        return Ok(());
    }
    let is_on_disk = root.ends_with("files");
    let beside = if is_on_disk { root.to_owned() } else { root.with_extension("new") };
    if !is_on_disk {
        let _ = fs::remove_dir_all(&beside);
    }
    let made = copies.iter().try_for_each(|copy| write(&beside, copy, user)).and_then(|()| {
        if let Some(user) = user {
            chown(&beside, Some(user.uid), Some(user.gid))?;
        }
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o700))?;
        if is_on_disk {
            return Ok(());
        }
        // Left by an engine that crashed before the task was known.
        let _ = fs::remove_dir_all(root);
        fs::rename(&beside, root)
    });
    if made.is_err() && !is_on_disk {
        let _ = fs::remove_dir_all(&beside);
    }
    made
}

fn write(root: &Path, copy: &Copy, user: Option<User>) -> io::Result<()> {
    let make = |folder: &Path| fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
    let Some(path) = image::path::resolve(root, Path::new(&copy.path)) else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    path.parent().map_or(Ok(()), make)?;
    let mut file =
        fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
    io::Write::write_all(&mut file, &copy.bytes)?;
    if rustix::process::geteuid().is_root() {
        let uid = copy.uid.filter(|uid| *uid != 0).or(user.map(|user| user.uid));
        let gid = copy.gid.filter(|gid| *gid != 0).or(user.map(|user| user.gid));
        chown(&path, uid, gid)?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(copy.mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(path: &str, bytes: &[u8], mode: u32) -> Copy {
        Copy { path: path.to_owned(), bytes: bytes.to_owned(), mode, uid: None, gid: None }
    }

    #[test]
    fn copies_have_their_exact_bytes_and_mode_and_go_with_their_task() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault { folder: Some(folder.path().to_owned()) };
        let root = vault.root(Path::new("/state/tasks/one"));
        assert_eq!(root, folder.path().join("one"));
        let bytes: Vec<u8> = (0..=255).collect();
        let copies = [copy("/run/secrets/key", &bytes, 0o440), copy("/etc/app.conf", b"", 0o444)];
        fill(&root, &copies, None).expect("filled");
        let path = root.join("run/secrets/key");
        assert_eq!(fs::read(&path).expect("readable"), bytes);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&root)), (0o440, 0o700));
        vault.sweep(&BTreeSet::from([TaskId("one".to_owned())]));
        assert!(root.exists());
        vault.sweep(&BTreeSet::new());
        assert!(!root.exists());
        fill(&root, &copies, None).expect("filled again");
        fill(&root, &copies, None).expect("filled anew");
        vault.remove(&TaskId("one".to_owned()));
        assert!(!root.exists());
    }

    #[test]
    fn a_place_that_is_not_in_memory_or_not_ours_is_not_taken() {
        let disk = Path::new(env!("CARGO_MANIFEST_DIR")).join("vault");
        assert_eq!(make(&disk, "key", 0o700).expect("looked at"), None);
        assert_eq!(make(Path::new("/nowhere/at/all"), "key", 0o700).expect("looked at"), None);
        let Ok(folder) = tempfile::Builder::new().tempdir_in("/dev/shm") else { return };
        let place = folder.path().join("evenkeel");
        let made = make(&place, "key", 0o700).expect("made");
        assert_eq!(made, Some(place.join("key")));
        fs::remove_dir_all(&place).expect("removed");
        std::os::unix::fs::symlink("/tmp", &place).expect("linked");
        make(&place, "key", 0o700).expect_err("a link leads elsewhere");
    }

    #[test]
    fn secrets_and_configs_are_found_where_the_task_looks_for_them() {
        let reference = |name: &str| dockerapi::spec::Reference {
            file: dockerapi::spec::ReferenceFile { name: name.to_owned(), ..Default::default() },
            ..Default::default()
        };
        let spec = ContainerSpec {
            secrets: vec![reference("password"), reference("/etc/key")],
            configs: vec![reference("/etc/app/app.conf")],
            ..ContainerSpec::default()
        };
        let root = Vault::on_disk().root(Path::new("/t/one"));
        let mounts = mounted(&spec, &root);
        let find = |path: &str| super::super::mount::resolve(&mounts, Path::new(path));
        assert_eq!(find("/run/secrets/password"), Some("/t/one/files/run/secrets/password".into()));
        assert_eq!(find("/etc/key"), Some("/t/one/files/etc/key".into()));
        assert_eq!(find("/etc/app/app.conf"), Some("/t/one/files/etc/app/app.conf".into()));
        assert_eq!(find("/run/configs/app.conf"), Some("/t/one/files/run/configs/app.conf".into()));
        assert_eq!(find("/etc/passwd"), None);
    }
}
