//! How an image enters the store, wherever it comes from: everything is checked first, then all of
//! it is taken over at once, or nothing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Error, Image, Store, diff_ids, layer, lock, unpack::explain};

/// Manifests and configs are small.
pub(crate) const JSON_LIMIT: u64 = 16 << 20;

/// A file that has come in, with its own digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) digest: String,
    pub(crate) length: u64,
}

/// An image that has come in and is not looked at yet.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) config: Blob,
    /// The lowest first.
    pub(crate) layers: Vec<Blob>,
    /// Its manifest, when it came with one.
    pub(crate) document: Option<Blob>,
    /// Digest of what names it: the manifest, or the index above.
    pub(crate) manifest: Option<String>,
    /// Names it gets.
    pub(crate) names: Vec<String>,
    /// `repository@sha256:…` that it gets.
    pub(crate) digests: Vec<String>,
}

/// An image that may be taken over.
pub(crate) struct Checked {
    arrival: Arrival,
    image: Image,
    /// A folder that goes when the image is taken over, or not.
    folder: Option<PathBuf>,
    /// What must live until then.
    _kept: Option<Box<dyn Send>>,
}

impl Drop for Checked {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

impl Checked {
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Keeps `folder` and whatever holds the image's files until the image is taken over.
    pub(crate) fn keep(&mut self, folder: PathBuf, files: impl Send + 'static) {
        self.folder = Some(folder);
        self._kept = Some(Box::new(files));
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.arrival.names
    }
}

impl Store {
    /// Checks an image's parts against each other: every layer is what its config says, and can be
    /// unpacked here.
    pub(crate) fn check(&self, arrival: Arrival) -> Result<Checked, Error> {
        let config = read_json(&arrival.config)?;
        let (named, brought) = (diff_ids(&config).len(), arrival.layers.len());
        if named != brought {
            let text = format!("its config names {named} layers, its manifest {brought}");
            return Err(Error::Archive(text));
        }
        let mut sizes = Vec::new();
        for (blob, diff_id) in arrival.layers.iter().zip(diff_ids(&config)) {
            sizes.push(match self.known_size(&blob.digest, diff_id) {
                Some(size) => size,
                None => check_layer(blob, diff_id)?,
            });
        }
        let image = Image {
            id: arrival.config.digest.clone(),
            layers: arrival.layers.iter().map(|layer| layer.digest.clone()).collect(),
            size: sizes.iter().sum(),
            sizes,
            config,
            manifest: arrival.manifest.clone(),
            document: arrival.document.as_ref().map(|document| document.digest.clone()),
        };
        Ok(Checked { arrival, image, folder: None, _kept: None })
    }

    /// The size of a layer that was checked when another image brought it.
    fn known_size(&self, digest: &str, diff_id: &str) -> Option<u64> {
        let index = self.index();
        let mut images = index.images.values().filter(|image| !image.sizes.is_empty());
        images.find_map(|image| {
            let mut layers = image.layers.iter().zip(diff_ids(&image.config)).zip(&image.sizes);
            let found = layers.find(|((known, diff), _)| *known == digest && *diff == diff_id);
            found.map(|(_, size)| *size)
        })
    }

    /// Takes over images that were checked, with their names.
    pub(crate) fn admit(&self, images: Vec<Checked>) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.blobs);
        let admitted = self.move_blobs(&images).and_then(|()| {
            self.change(|index| {
                for Checked { arrival, image, .. } in &images {
                    for name in &arrival.names {
                        index.names.insert(super::normalised(name), image.id.clone());
                    }
                    for digest in &arrival.digests {
                        index.digests.insert(digest.clone(), image.id.clone());
                    }
                    // What is known of it already says more.
                    let is_known = index.images.contains_key(&image.id);
                    if !(is_known && image.document.is_none()) {
                        index.images.insert(image.id.clone(), image.clone());
                    }
                }
            })
        });
        if admitted.is_err() {
            self.collect_garbage();
        }
        admitted
    }

    fn move_blobs(&self, images: &[Checked]) -> Result<(), Error> {
        let mut taken = BTreeSet::new();
        for Checked { arrival, .. } in images {
            let parts = arrival.layers.iter().chain([&arrival.config]).chain(&arrival.document);
            for blob in parts.filter(|blob| taken.insert(blob.digest.clone())) {
                self.move_blob(blob)?;
            }
        }
        File::open(self.folder.join("blobs/sha256"))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| explain(&self.folder, &error))
    }

    /// Whole or not at all, also over a damaged blob of the same name.
    fn move_blob(&self, file: &Blob) -> Result<(), Error> {
        let blob = self.blob(&file.digest);
        let beside = blob.with_extension("new");
        let gone = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let moved = File::open(&file.path)
            .and_then(|synced| synced.sync_all())
            .and_then(|()| gone(&beside))
            .and_then(|()| fs::hard_link(&file.path, &beside))
            .and_then(|()| fs::rename(&beside, &blob))
            // Where both names are the same file already, a rename leaves the other behind.
            .and_then(|()| gone(&beside));
        moved.map_err(|error| explain(&blob, &error))
    }
}

fn check_layer(blob: &Blob, diff_id: &str) -> Result<u64, Error> {
    let facts = blob.inspect()?;
    if facts.diff_id != diff_id {
        return Err(Error::Digest(format!("{diff_id}, which is {} inside", facts.diff_id)));
    }
    Ok(facts.content_bytes)
}

impl Blob {
    /// As a layer.
    pub(super) fn inspect(&self) -> Result<layer::Facts, Error> {
        let file = File::open(&self.path).map_err(|error| explain(&self.path, &error))?;
        layer::inspect(BufReader::with_capacity(1 << 16, file), self.length)
    }
}

/// A small file as JSON.
pub(crate) fn read_json(blob: &Blob) -> Result<Value, Error> {
    if blob.length > JSON_LIMIT {
        return Err(Error::Archive(format!("{} is too large for what it is", blob.digest)));
    }
    let bytes = fs::read(&blob.path).map_err(|error| explain(&blob.path, &error))?;
    let wrong = |error| Error::Archive(format!("{}: {error}", blob.digest));
    serde_json::from_slice(&bytes).map_err(wrong)
}
