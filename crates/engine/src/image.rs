//! The image store: content-addressed blobs, names that point at images, files unpacked once.
//!
//! ```text
//! images/blobs/sha256/HEX   configs and layers, each checked against its digest
//! images/roots/HEX/         the files of the image whose config has that digest
//! images/index.json         image id → layers, name → image id; replaced whole
//! ```

mod archive;
mod unpack;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
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
    unpacking: Mutex<()>,
}

impl Store {
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: folder.to_owned(), source };
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
        let (index, unpacking) = (Mutex::new(index), Mutex::new(()));
        Ok(Self { folder: folder.to_owned(), index, unpacking })
    }

    /// Loads an OCI layout or a `docker save` archive; returns the names it brought.
    pub fn load(&self, archive: impl io::Read) -> Result<Vec<String>, Error> {
        let incoming = tempfile_in(&self.folder.join("incoming")).map_err(|e| self.io(e))?;
        let loaded = archive::read(archive, &incoming, self).and_then(|images| {
            let mut names = Vec::new();
            self.change(|index| {
                for (image, tags) in images {
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
        loaded
    }

    /// The image of a name, an id or the beginning of an id.
    pub fn get(&self, name: &str) -> Result<Image, Error> {
        let index = self.index();
        let by_name = index.names.get(&normalised(name));
        let found = by_name.and_then(|id| index.images.get(id)).or_else(|| {
            let wanted = name.strip_prefix("sha256:").unwrap_or(name);
            let is_id = wanted.len() >= 8 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
            let mut all = index.images.values();
            all.find(|image| is_id && hex(&image.id).starts_with(wanted))
        });
        found.cloned().ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// All images with their names.
    pub fn list(&self) -> Vec<(Image, Vec<String>)> {
        let index = self.index();
        let names_of = |id: &str| {
            index.names.iter().filter(|(_, i)| *i == id).map(|(name, _)| name.clone()).collect()
        };
        index.images.values().map(|image| (image.clone(), names_of(&image.id))).collect()
    }

    pub fn tag(&self, name: &str, new: &str) -> Result<(), Error> {
        let id = self.get(name)?.id;
        self.change(|index| {
            index.names.insert(normalised(new), id);
        })
    }

    /// Takes a name away; the last one takes the image with it. `used` are images that tasks run.
    pub fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<(), Error> {
        let image = self.get(name)?;
        if used.contains(&normalised(name)) {
            let by = "a service".to_owned();
            return Err(Error::InUse { name: name.to_owned(), by });
        }
        self.change(|index| {
            index.names.remove(&normalised(name));
            if !index.names.values().any(|id| *id == image.id) {
                index.images.remove(&image.id);
            }
        })?;
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
        let _one_at_a_time = self.unpacking.lock();
        if root.is_dir() {
            return Ok(root);
        }
        let fresh = tempfile_in(&self.folder.join("incoming")).map_err(|e| self.io(e))?;
        let unpacked = image
            .layers
            .iter()
            .try_for_each(|layer| unpack::layer(&self.blob(layer), &fresh))
            .and_then(|()| fs::rename(&fresh, &root).map_err(|e| self.io(e)));
        if unpacked.is_err() {
            let _ = fs::remove_dir_all(&fresh);
        }
        unpacked.map(|()| root)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(hex(digest))
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Index)) -> Result<(), Error> {
        let mut index = self.index();
        let mut changed = index.clone();
        change(&mut changed);
        let text = serde_json::to_vec(&changed).map_err(|e| Error::Archive(e.to_string()))?;
        disk::replace(&self.folder.join("index.json"), &text).map_err(|e| self.io(e))?;
        *index = changed;
        Ok(())
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.folder.clone(), source }
    }
}

/// `name:latest` for `name`.
pub fn normalised(name: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
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
