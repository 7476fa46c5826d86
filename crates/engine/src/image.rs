//! The image store: content-addressed blobs, names that point at images, files unpacked once.
//!
//! ```text
//! images/blobs/sha256/HEX   configs and layers, each checked against its digest
//! images/roots/HEX/         the files of the image whose config has that digest
//! images/index.json         image id → layers, name → image id; replaced whole
//! ```

mod archive;
pub(crate) mod path;
mod unpack;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("image `{name}` is used by {by}; remove the service or release first")]
    InUse { name: String, by: String },
    #[error("the image archive is not readable: {0}")]
    Archive(String),
    #[error("a blob of the image archive does not match its digest: {0}")]
    Digest(String),
    #[error("image file `{path}` would be written outside the image; refused")]
    Escape { path: String },
    #[error("write image store `{path}`: {source}; free space under it and try again")]
    Io { path: PathBuf, source: io::Error },
}

/// An image as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…` of the config.
    pub id: String,
    pub layers: Vec<String>,
    pub size: u64,
    /// The OCI image config.
    pub config: Value,
    /// Digest of the manifest (or index) it came with, by which a pinned reference names it.
    #[serde(default)]
    pub manifest: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Image>,
    names: BTreeMap<String, String>,
}

/// The store. All methods block; call them off the async threads.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    index: Mutex<Index>,
    /// Tasks that need an image's files: task → image id.
    holds: Mutex<BTreeMap<String, String>>,
    /// Blobs come and go one change at a time, so that none goes between its coming and its index.
    blobs: Mutex<()>,
    unpacking: Mutex<()>,
}

impl Store {
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: folder.to_owned(), source };
        // What a crash left half done.
        let _ = fs::remove_dir_all(folder.join("incoming"));
        for part in ["blobs/sha256", "roots", "incoming"] {
            fs::create_dir_all(folder.join(part)).map_err(failed)?;
        }
        let index = match fs::read(folder.join("index.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::Archive(format!("{}: {error}", folder.join("index.json").display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            index: Mutex::new(index),
            holds: Mutex::default(),
            blobs: Mutex::default(),
            unpacking: Mutex::default(),
        })
    }

    /// Loads an OCI layout or a `docker save` archive; returns the names it brought, or the id of
    /// an image without a name.
    pub fn load(&self, archive: impl io::Read) -> Result<Vec<String>, Error> {
        let incoming = tempfile_in(&self.folder.join("incoming")).map_err(|e| self.io(e))?;
        let loaded = archive::receive(archive, &incoming).and_then(|files| {
            let _one_at_a_time = lock(&self.blobs);
            let images = files.import(self)?;
            let mut names = Vec::new();
            self.change(|index| {
                for (image, tags) in images {
                    if tags.is_empty() {
                        names.push(image.id.clone());
                    }
                    for tag in tags {
                        index.names.insert(normalised(&tag), image.id.clone());
                        names.push(normalised(&tag));
                    }
                    index.images.insert(image.id.clone(), image);
                }
            })?;
            Ok(names)
        });
        let _ = fs::remove_dir_all(&incoming);
        if loaded.is_err() {
            let _one_at_a_time = lock(&self.blobs);
            self.collect_garbage();
        }
        loaded
    }

    /// The image of a name, a digest (`name@sha256:…`), an id or the beginning of an id.
    pub fn get(&self, name: &str) -> Result<Image, Error> {
        find(&self.index(), name).cloned().ok_or_else(|| not_found(name))
    }

    /// As [`Self::get`]; the image then stays until the task lets it go.
    pub fn hold(&self, name: &str, task: &str) -> Result<Image, Error> {
        let index = self.index();
        let image = find(&index, name).ok_or_else(|| not_found(name))?;
        lock(&self.holds).insert(task.to_owned(), image.id.clone());
        Ok(image.clone())
    }

    pub fn release(&self, task: &str) {
        lock(&self.holds).remove(task);
    }

    /// All images with their names.
    pub fn list(&self) -> Vec<(Image, Vec<String>)> {
        let index = self.index();
        index.images.values().map(|image| (image.clone(), names_of(&index, &image.id))).collect()
    }

    pub fn tag(&self, name: &str, new: &str) -> Result<(), Error> {
        let id = self.get(name)?.id;
        self.change(|index| {
            index.names.insert(normalised(new), id);
        })
    }

    /// Takes a name away; the last one takes the image with it. `used` are images that tasks run.
    pub fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<(), Error> {
        let in_use = |by: String| Error::InUse { name: name.to_owned(), by };
        let _one_at_a_time = lock(&self.blobs);
        let mut changed = self.index();
        let image = find(&changed, name).cloned().ok_or_else(|| not_found(name))?;
        let names: Vec<String> = names_of(&changed, &image.id);
        let gone = match names.as_slice() {
            _ if names.contains(&normalised(name)) => Some(normalised(name)),
            [] => None,
            [only] => Some(only.clone()),
            many => return Err(in_use(format!("the names {}", many.join(", ")))),
        };
        if gone.as_ref().is_some_and(|gone| used.contains(gone)) {
            return Err(in_use("a service".to_owned()));
        }
        let is_last = names.len() <= 1;
        if let Some((task, _)) =
            lock(&self.holds).iter().find(|(_, id)| is_last && **id == image.id)
        {
            return Err(in_use(format!("task {task}")));
        }
        self.change_held(&mut changed, |index| {
            if let Some(gone) = gone {
                index.names.remove(&gone);
            }
            if is_last {
                index.images.remove(&image.id);
            }
        })?;
        drop(changed);
        self.collect_garbage();
        Ok(())
    }

    /// Deletes blobs and files that no image has any more.
    fn collect_garbage(&self) {
        let index = self.index().clone();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        for image in index.images.values() {
            kept.insert(hex(&image.id).to_owned());
            kept.extend(image.layers.iter().map(|layer| hex(layer).to_owned()));
        }
        for part in ["blobs/sha256", "roots"] {
            for entry in fs::read_dir(self.folder.join(part)).into_iter().flatten().flatten() {
                if !kept.contains(&entry.file_name().to_string_lossy().into_owned()) {
                    let _ = fs::remove_file(entry.path());
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }

    /// The folder with the image's files; unpacked on first use.
    pub fn root(&self, image: &Image) -> Result<PathBuf, Error> {
        let root = self.folder.join("roots").join(hex(&image.id));
        let _one_at_a_time = lock(&self.unpacking);
        if root.is_dir() {
            return Ok(root);
        }
        let fresh = tempfile_in(&self.folder.join("incoming")).map_err(|e| self.io(e))?;
        let digests = diff_ids(&image.config);
        let unpacked = image
            .layers
            .iter()
            .enumerate()
            .try_for_each(|(at, layer)| {
                unpack::layer(&self.blob(layer), &fresh, digests.get(at).copied())
            })
            .and_then(|()| self.settle(&fresh, &root));
        if unpacked.is_err() {
            let _ = fs::remove_dir_all(&fresh);
        }
        unpacked.map(|()| root)
    }

    /// The files are on disk before their folder has its name.
    fn settle(&self, fresh: &Path, root: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io { path: root.to_owned(), source };
        let folder = fs::File::open(fresh).map_err(failed)?;
        rustix::fs::syncfs(&folder).map_err(|error| failed(error.into()))?;
        fs::rename(fresh, root).map_err(failed)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(hex(digest))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<(), Error> {
        self.change_held(&mut self.index(), change)
    }

    fn change_held(&self, index: &mut Index, change: impl FnOnce(&mut Index)) -> Result<(), Error> {
        let mut changed = index.clone();
        change(&mut changed);
        let path = self.folder.join("index.json");
        let failed = |source| Error::Io { path: path.clone(), source };
        let text = serde_json::to_vec(&changed).map_err(|e| failed(e.into()))?;
        disk::replace(&path, &text).map_err(failed)?;
        *index = changed;
        Ok(())
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.folder.clone(), source }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find<'a>(index: &'a Index, name: &str) -> Option<&'a Image> {
    if let Some((_, digest)) = name.split_once('@') {
        let is = |image: &&Image| image.id == digest || image.manifest.as_deref() == Some(digest);
        return index.images.values().find(is);
    }
    if let Some(id) = index.names.get(&normalised(name)) {
        return index.images.get(id);
    }
    let wanted = name.strip_prefix("sha256:").unwrap_or(name);
    if wanted.len() < 4 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut found = index.images.values().filter(|image| hex(&image.id).starts_with(wanted));
    // The beginning of two ids names neither.
    found.next().filter(|_| found.next().is_none())
}

fn not_found(name: &str) -> Error {
    let is_exact = name.contains('@') || name.starts_with("sha256:");
    Error::NotFound(if is_exact { name.to_owned() } else { normalised(name) })
}

fn names_of(index: &Index, id: &str) -> Vec<String> {
    index.names.iter().filter(|(_, known)| *known == id).map(|(name, _)| name.clone()).collect()
}

/// The digests of the layers' tars, in order.
fn diff_ids(config: &Value) -> Vec<&str> {
    let ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
    ids.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// `name:latest` for `name`, as Docker shows it: without its own registry and without a digest.
pub fn normalised(name: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// A new empty folder inside `folder`.
fn tempfile_in(folder: &Path) -> io::Result<PathBuf> {
    for number in 0..10_000_u32 {
        let path = folder.join(format!("{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| path),
        }
    }
    Err(io::Error::other("no free name for a temporary folder"))
}
