//! Reading an image archive: an OCI layout (`index.json`) or what `docker save` writes
//! (`manifest.json`). Every file is hashed as it comes in; nothing is taken over under another
//! digest than its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Error, Image, Store, hex, unpack::explain};

/// Files in one archive; a large image has some hundreds.
const FILE_LIMIT: usize = 20_000;
/// Manifests and configs are small.
const JSON_LIMIT: u64 = 16 << 20;

/// The files of an archive, in a folder of their own.
#[derive(Debug)]
pub(super) struct Files {
    files: BTreeMap<String, Received>,
    /// Old archives link a layer that they have already.
    links: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Received {
    path: PathBuf,
    digest: String,
    length: u64,
}

/// Writes the archive's files into `incoming`.
pub(super) fn receive(archive: impl Read, incoming: &Path) -> Result<Files, Error> {
    let failed = |error: io::Error| explain(incoming, &error);
    let mut tar = tar::Archive::new(archive);
    let mut found = Files { files: BTreeMap::new(), links: BTreeMap::new() };
    for (number, entry) in tar.entries().map_err(failed)?.enumerate() {
        let mut entry = entry.map_err(failed)?;
        if number >= FILE_LIMIT {
            return Err(Error::Archive(format!("it has more than {FILE_LIMIT} files")));
        }
        let name = plain(&entry.path().map_err(failed)?.to_string_lossy());
        if entry.header().entry_type().is_symlink() || entry.header().entry_type().is_hard_link() {
            let target = entry.link_name().map_err(failed)?.unwrap_or_default();
            let target = linked(&name, &target.to_string_lossy());
            found.links.insert(name, target);
        } else if entry.header().entry_type().is_file() {
            let path = incoming.join(number.to_string());
            let received = save(&mut entry, path).map_err(failed)?;
            found.files.insert(name, received);
        }
    }
    Ok(found)
}

fn save(from: &mut impl Read, path: PathBuf) -> io::Result<Received> {
    let mut file = File::create_new(&path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            let digest = format!("sha256:{}", text_of(hash));
            return Ok(Received { path, digest, length });
        }
        length += count as u64;
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
    }
}

/// A hash in hexadecimal.
pub(super) fn text_of(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain(name: &str) -> String {
    name.trim_start_matches("./").trim_start_matches('/').to_owned()
}

/// `../other/layer.tar` seen from `this/layer.tar`.
fn linked(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files {
    fn get(&self, name: &str) -> Result<&Received, Error> {
        let name = plain(name);
        let target = self.links.get(&name).unwrap_or(&name);
        let missing = || Error::Archive(format!("`{name}` is missing"));
        self.files.get(&name).or_else(|| self.files.get(target)).ok_or_else(missing)
    }

    fn json(&self, name: &str) -> Result<Value, Error> {
        let file = self.get(name)?;
        if file.length > JSON_LIMIT {
            return Err(Error::Archive(format!("`{name}` is too large")));
        }
        let bytes = fs::read(&file.path).map_err(|error| explain(&file.path, &error))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Archive(format!("`{name}`: {e}")))
    }

    /// A blob of an OCI layout: its name is its digest.
    fn blob(&self, digest: &str) -> Result<&Received, Error> {
        let file = self.get(&format!("blobs/sha256/{}", hex(digest)))?;
        if file.digest == digest { Ok(file) } else { Err(Error::Digest(digest.to_owned())) }
    }

    fn blob_json(&self, digest: &str) -> Result<Value, Error> {
        self.blob(digest)?;
        self.json(&format!("blobs/sha256/{}", hex(digest)))
    }

    /// Moves the blobs of its images to the store; returns the images with their names.
    pub(super) fn import(&self, store: &Store) -> Result<Vec<(Image, Vec<String>)>, Error> {
        // `docker save` writes both; its manifest.json has every name of an image.
        let is_docker = self.files.contains_key("manifest.json");
        let images = if is_docker { self.docker(store)? } else { self.oci(store)? };
        if images.is_empty() {
            return Err(Error::Archive("it holds no image".to_owned()));
        }
        File::open(store.folder.join("blobs/sha256"))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| explain(&store.folder, &error))?;
        Ok(images)
    }

    fn oci(&self, store: &Store) -> Result<Vec<(Image, Vec<String>)>, Error> {
        let index = self.json("index.json")?;
        let mut images: Vec<(Image, Vec<String>)> = Vec::new();
        for entry in list(&index, "manifests") {
            if is_attestation(entry) {
                continue;
            }
            let note = |key: &str| Some(entry.get("annotations")?.get(key)?.as_str()?.to_owned());
            let name = note("io.containerd.image.name")
                .or_else(|| note("org.opencontainers.image.ref.name"));
            let digest = text(entry, "digest")?;
            let top = self.blob_json(digest)?;
            let manifest = match list(&top, "manifests") {
                [] => top,
                variants => self.blob_json(text(ours(variants)?, "digest")?)?,
            };
            let config = self.blob(text(manifest.get("config").unwrap_or(&Value::Null), "digest")?);
            let layers = list(&manifest, "layers")
                .iter()
                .map(|layer| self.blob(text(layer, "digest")?))
                .collect::<Result<Vec<_>, _>>()?;
            let image = take(store, config?, &layers, Some(digest.to_owned()))?;
            images.push((image, name.into_iter().collect()));
        }
        Ok(images)
    }

    fn docker(&self, store: &Store) -> Result<Vec<(Image, Vec<String>)>, Error> {
        let manifest = self.json("manifest.json")?;
        let mut images = Vec::new();
        for entry in manifest.as_array().into_iter().flatten() {
            let layers = list(entry, "Layers")
                .iter()
                .map(|layer| self.claimed(layer.as_str().unwrap_or_default()))
                .collect::<Result<Vec<_>, _>>()?;
            let tags = list(entry, "RepoTags").iter().filter_map(|t| Some(t.as_str()?.to_owned()));
            let image = take(store, self.claimed(text(entry, "Config")?)?, &layers, None)?;
            images.push((image, tags.collect()));
        }
        Ok(images)
    }

    /// A file of a docker archive; where its name is a digest, that must be its own.
    fn claimed(&self, name: &str) -> Result<&Received, Error> {
        let file = self.get(name)?;
        let stem = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"));
        match stem {
            Some(stem) if stem != hex(&file.digest) => Err(Error::Digest(name.to_owned())),
            _ => Ok(file),
        }
    }
}

/// Signatures and provenance beside the image.
fn is_attestation(entry: &Value) -> bool {
    let kind = entry.pointer("/annotations/vnd.docker.reference.type").and_then(Value::as_str);
    kind == Some("attestation-manifest")
}

/// The variant for this machine.
fn ours(variants: &[Value]) -> Result<&Value, Error> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = |entry: &Value, key: &str| {
        entry.get("platform").and_then(|p| p.get(key)).and_then(Value::as_str).map(str::to_owned)
    };
    let mut images = variants.iter().filter(|entry| !is_attestation(entry));
    images
        .find(|entry| {
            platform(entry, "architecture").is_none_or(|arch| arch == own)
                && platform(entry, "os").is_none_or(|os| os == "linux")
        })
        .ok_or_else(|| Error::Archive(format!("it has no image for linux/{own}")))
}

/// Takes over the blobs of one image.
fn take(
    store: &Store,
    config: &Received,
    layers: &[&Received],
    manifest: Option<String>,
) -> Result<Image, Error> {
    let failed = |error: io::Error| explain(&config.path, &error);
    if config.length > JSON_LIMIT {
        return Err(Error::Archive("its config is too large".to_owned()));
    }
    let parsed: Value = serde_json::from_slice(&fs::read(&config.path).map_err(failed)?)
        .map_err(|error| Error::Archive(format!("its config: {error}")))?;
    let (named, brought) = (super::diff_ids(&parsed).len(), layers.len());
    if named != 0 && named != brought {
        let text = format!("its config names {named} layers, its manifest {brought}");
        return Err(Error::Archive(text));
    }
    let mut taken = BTreeSet::new();
    for file in layers.iter().copied().chain([config]) {
        if taken.insert(&file.digest) {
            move_blob(store, file)?;
        }
    }
    let size = config.length + layers.iter().map(|layer| layer.length).sum::<u64>();
    let layers = layers.iter().map(|layer| layer.digest.clone()).collect();
    Ok(Image { id: config.digest.clone(), layers, size, config: parsed, manifest })
}

/// Whole or not at all, also over a damaged blob of the same name.
fn move_blob(store: &Store, file: &Received) -> Result<(), Error> {
    let blob = store.blob(&file.digest);
    let beside = blob.with_extension("new");
    let moved = File::open(&file.path)
        .and_then(|synced| synced.sync_all())
        .and_then(|()| match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .and_then(|()| fs::hard_link(&file.path, &beside))
        .and_then(|()| fs::rename(&beside, &blob))
        // Where both names are the same file already, a rename leaves the other behind.
        .and_then(|()| match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    moved.map_err(|error| explain(&blob, &error))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Error> {
    let found = value.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Error::Archive(format!("`{key}` is missing")))
}
