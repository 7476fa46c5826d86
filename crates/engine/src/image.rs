//! The image store: content-addressed blobs, names that point at images, files unpacked once.
//!
//! ```text
//! images/blobs/sha256/HEX   configs, layers and manifests, each checked against its digest
//! images/roots/HEX/         the files of the image whose config has that digest
//! images/index.json         image id → layers, name → image id; replaced whole
//! ```

mod archive;
mod export;
mod import;
pub(crate) mod intake;
pub mod layer;
pub mod manifest;
pub mod name;
pub(crate) mod path;
pub mod pattern;
mod removal;
mod unpack;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    export::Export,
    removal::{Gone, Prune},
};
use crate::disk;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("image `{name}` is used by {by}; remove the service or release first")]
    InUse { name: String, by: String },
    #[error(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple \
         repositories: {names}"
    )]
    ManyNames { id: String, names: String },
    #[error("{0}")]
    Name(String),
    #[error("the image cannot be taken: {0}")]
    Archive(String),
    #[error("a part of the image does not match its digest: {0}")]
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
    /// Bytes in its files.
    pub size: u64,
    /// The same of each layer; none known of images from before they were looked at.
    #[serde(default)]
    pub sizes: Vec<u64>,
    /// The OCI image config.
    pub config: Value,
    /// Digest of the manifest (or index) it came with, by which a pinned reference names it.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Digest of its own manifest, when that is a blob here.
    #[serde(default)]
    pub document: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Image>,
    names: BTreeMap<String, String>,
    /// `repository@sha256:…`, as registries know it → image id.
    #[serde(default)]
    digests: BTreeMap<String, String>,
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
        let incoming = self.fresh_folder()?;
        let loaded = archive::receive(archive, &incoming).and_then(|files| {
            let images = files.images()?.into_iter().map(|image| self.check(image));
            let images = images.collect::<Result<Vec<_>, _>>()?;
            let names = images.iter().flat_map(|image| match image.names() {
                [] => vec![image.image().id.clone()],
                names => names.to_vec(),
            });
            let names = names.collect();
            self.admit(images)?;
            Ok(names)
        });
        let _ = fs::remove_dir_all(&incoming);
        loaded
    }

    /// An empty folder for what comes in; whoever asks removes it.
    pub(crate) fn fresh_folder(&self) -> Result<PathBuf, Error> {
        tempfile_in(&self.folder.join("incoming")).map_err(|error| self.io(error))
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

    /// The names of an image.
    pub fn names(&self, id: &str) -> Vec<String> {
        names_of(&self.index(), id)
    }

    /// `repository@sha256:…` of an image, as registries know it.
    pub fn digests(&self, id: &str) -> Vec<String> {
        let index = self.index();
        let known = index.digests.iter().filter(|(_, known)| *known == id);
        known.map(|(digest, _)| digest.clone()).collect()
    }

    pub fn tag(&self, name: &str, new: &str) -> Result<(), Error> {
        let new = name::Name::parse(new).map_err(|error| Error::Name(error.to_string()))?;
        let Some(new) = new.tagged().filter(|_| new.digest.is_none()) else {
            return Err(Error::Name("a tag cannot name a digest".to_owned()));
        };
        self.change_if(|index| {
            let id = find(index, name).ok_or_else(|| not_found(name))?.id.clone();
            index.names.insert(new, id);
            Ok(())
        })
    }

    /// Remembers by which digest a registry knows an image.
    pub(crate) fn record_digest(&self, id: &str, digest: &str) -> Result<(), Error> {
        self.change_if(|index| {
            if index.images.contains_key(id) {
                index.digests.insert(digest.to_owned(), id.to_owned());
            }
            Ok(())
        })
    }

    /// The names of an image that is here already, given again.
    pub(crate) fn name_known(
        &self,
        id: &str,
        name: Option<&str>,
        digest: &str,
    ) -> Result<bool, Error> {
        let mut is_new = false;
        self.change_if(|index| {
            if !index.images.contains_key(id) {
                return Err(not_found(id));
            }
            let mut give = |map: &mut BTreeMap<String, String>, key: &str| {
                is_new |= map.insert(key.to_owned(), id.to_owned()).as_deref() != Some(id);
            };
            give(&mut index.digests, digest);
            if let Some(name) = name {
                give(&mut index.names, name);
            }
            Ok(())
        })?;
        Ok(is_new)
    }

    /// A blob as a second file at `path`: it stays there whatever happens to the first.
    pub(crate) fn keep_blob(&self, digest: &str, path: &Path) -> bool {
        let _one_at_a_time = lock(&self.blobs);
        fs::hard_link(self.blob(digest), path).is_ok()
    }

    /// Deletes blobs and files that no image has any more.
    fn collect_garbage(&self) {
        let index = self.index().clone();
        let mut kept: BTreeSet<String> = BTreeSet::new();
        for image in index.images.values() {
            kept.insert(hex(&image.id).to_owned());
            let parts = image.layers.iter().chain(&image.document);
            kept.extend(parts.map(|part| hex(part).to_owned()));
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
        let fresh = self.fresh_folder()?;
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
        self.change_if(|index| {
            change(index);
            Ok(())
        })
    }

    /// On disk when it returns; nothing is changed when `change` refuses.
    fn change_if<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut index = self.index();
        let mut changed = index.clone();
        let outcome = change(&mut changed)?;
        let path = self.folder.join("index.json");
        let failed = |source| Error::Io { path: path.clone(), source };
        let text = serde_json::to_vec(&changed).map_err(|e| failed(e.into()))?;
        disk::replace(&path, &text).map_err(failed)?;
        *index = changed;
        Ok(outcome)
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
        let is = |image: &&Image| {
            let own = [Some(&image.id), image.manifest.as_ref(), image.document.as_ref()];
            own.into_iter().flatten().any(|own| own == digest)
        };
        let known = index.digests.iter().find(|(known, _)| known.ends_with(digest));
        let known = known.filter(|_| name::is_digest(digest));
        let known = known.and_then(|(_, id)| index.images.get(id));
        return known.or_else(|| index.images.values().find(is));
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
    match name::Name::parse(name) {
        Ok(read) => read.tagged().unwrap_or_else(|| format!("{}:latest", read.repository())),
        Err(_) => name.to_owned(),
    }
}

/// A hash in hexadecimal.
pub(crate) fn hex_of(hash: sha2::Sha256) -> String {
    archive::text_of(hash)
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
