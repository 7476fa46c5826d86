//! Reading an image archive: an OCI layout (`index.json`) or what `docker save` writes
//! (`manifest.json`). Nothing is taken over before its digest was checked.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Error, Image, Store, hex};

/// Reads the archive into `incoming`, moves its blobs to the store, and returns its images with
/// their names.
pub(super) fn read(
    archive: impl Read,
    incoming: &Path,
    store: &Store,
) -> Result<Vec<(Image, Vec<String>)>, Error> {
    let mut tar = tar::Archive::new(archive);
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let unreadable = |error: io::Error| match error.raw_os_error() {
        Some(_) => Error::Io { path: incoming.to_owned(), source: error },
        None => Error::Archive(error.to_string()),
    };
    for entry in tar.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        let path = incoming.join(format!("{}", files.len()));
        let mut file = File::create(&path).map_err(unreadable)?;
        io::copy(&mut entry, &mut file).map_err(unreadable)?;
        file.flush().map_err(unreadable)?;
        files.push((name.trim_start_matches("./").to_owned(), path));
    }
    let archive = Files(files);
    if archive.find("index.json").is_some() {
        oci(&archive, store)
    } else {
        docker(&archive, store)
    }
}

struct Files(Vec<(String, PathBuf)>);

impl Files {
    fn find(&self, name: &str) -> Option<&Path> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }

    fn path(&self, name: &str) -> Result<&Path, Error> {
        self.find(name).ok_or_else(|| Error::Archive(format!("`{name}` is missing")))
    }

    fn json(&self, name: &str) -> Result<Value, Error> {
        let bytes = fs::read(self.path(name)?).map_err(|e| Error::Archive(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Archive(format!("`{name}`: {e}")))
    }
}

fn oci(files: &Files, store: &Store) -> Result<Vec<(Image, Vec<String>)>, Error> {
    let index = files.json("index.json")?;
    let mut images = Vec::new();
    for entry in list(&index, "manifests") {
        let manifest = files.json(&blob_path(text(entry, "digest")?))?;
        let note = |key: &str| {
            let value = entry.get("annotations")?.get(key)?.as_str()?;
            Some(value.strip_prefix("docker.io/library/").unwrap_or(value).to_owned())
        };
        let name =
            note("io.containerd.image.name").or_else(|| note("org.opencontainers.image.ref.name"));
        let config = manifest.get("config").unwrap_or(&Value::Null);
        let config = blob_path(text(config, "digest")?);
        let layers = list(&manifest, "layers")
            .iter()
            .map(|layer| text(layer, "digest").map(blob_path))
            .collect::<Result<Vec<_>, _>>()?;
        images.push((take(files, store, &config, &layers)?, name.into_iter().collect()));
    }
    Ok(images)
}

fn docker(files: &Files, store: &Store) -> Result<Vec<(Image, Vec<String>)>, Error> {
    let manifest = files.json("manifest.json")?;
    let mut images = Vec::new();
    for entry in manifest.as_array().into_iter().flatten() {
        let layers: Vec<String> =
            list(entry, "Layers").iter().filter_map(|l| Some(l.as_str()?.to_owned())).collect();
        let tags = list(entry, "RepoTags").iter().filter_map(|t| Some(t.as_str()?.to_owned()));
        let image = take(files, store, text(entry, "Config")?, &layers)?;
        images.push((image, tags.collect()));
    }
    Ok(images)
}

/// Checks and takes over the blobs of one image.
fn take(files: &Files, store: &Store, config: &str, layers: &[String]) -> Result<Image, Error> {
    let parsed = files.json(config)?;
    let (id, mut size) = take_blob(files, store, config)?;
    let mut digests = Vec::new();
    for layer in layers {
        let (digest, length) = take_blob(files, store, layer)?;
        size += length;
        digests.push(digest);
    }
    Ok(Image { id, layers: digests, size, config: parsed })
}

fn take_blob(files: &Files, store: &Store, name: &str) -> Result<(String, u64), Error> {
    let path = files.path(name)?;
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        hash.update(&buffer[..count]);
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let claimed = name.strip_prefix("blobs/sha256/");
    if claimed.is_some_and(|claimed| claimed != found) {
        return Err(Error::Digest(name.to_owned()));
    }
    let digest = format!("sha256:{found}");
    let blob = store.blob(&digest);
    if !blob.exists() {
        file.sync_all().map_err(failed)?;
        fs::copy(path, blob.with_extension("new")).map_err(failed)?;
        fs::rename(blob.with_extension("new"), &blob).map_err(failed)?;
    }
    Ok((digest, length))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{}", hex(digest))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Error> {
    let found = value.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Error::Archive(format!("`{key}` is missing")))
}
