//! Reading an image archive: an OCI layout (`index.json`) or what `docker save` writes
//! (`manifest.json`). Every file is hashed as it comes in; nothing is taken over under another
//! digest than its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Error, hex,
    intake::{Arrival, Blob, read_json},
    layer::{Budget, HEAD_LIMIT, Metered},
    manifest::{self, Document},
    name::Name,
    unpack::explain,
};

/// Files in one archive; a large image has some hundreds.
const FILE_LIMIT: usize = 20_000;

/// The files of an archive, in a folder of their own.
#[derive(Debug)]
pub(super) struct Files {
    files: BTreeMap<String, Blob>,
    /// Old archives link a layer that they have already.
    links: BTreeMap<String, String>,
}

/// Writes the archive's files into `incoming`.
pub(super) fn receive(archive: impl Read, incoming: &Path) -> Result<Files, Error> {
    let failed = |error: io::Error| explain(incoming, &error);
    let budget = Budget::default();
    let mut tar = tar::Archive::new(Metered::new(archive, u64::MAX, budget.clone()));
    let mut found = Files { files: BTreeMap::new(), links: BTreeMap::new() };
    let mut entries = tar.entries().map_err(failed)?.enumerate();
    loop {
        budget.allow(HEAD_LIMIT);
        let Some((number, entry)) = entries.next() else { break };
        let mut entry = entry.map_err(failed)?;
        budget.allow(u64::MAX);
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
        } else {
            io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
        }
    }
    Ok(found)
}

/// Writes a file and hashes it on the way.
pub(super) fn save(from: &mut impl Read, path: PathBuf) -> io::Result<Blob> {
    let mut file = File::create_new(&path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            let digest = format!("sha256:{}", text_of(hash));
            return Ok(Blob { path, digest, length });
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
    fn get(&self, name: &str) -> Result<&Blob, Error> {
        let name = plain(name);
        let target = self.links.get(&name).unwrap_or(&name);
        let missing = || Error::Archive(format!("`{name}` is missing"));
        self.files.get(&name).or_else(|| self.files.get(target)).ok_or_else(missing)
    }

    fn json(&self, name: &str) -> Result<Value, Error> {
        read_json(self.get(name)?).map_err(|error| match error {
            Error::Archive(text) => Error::Archive(format!("`{name}`: {text}")),
            other => other,
        })
    }

    /// A blob of an OCI layout: its name is its digest.
    fn blob(&self, digest: &str) -> Result<&Blob, Error> {
        let file = self.get(&format!("blobs/sha256/{}", hex(digest)))?;
        if file.digest == digest { Ok(file) } else { Err(Error::Digest(digest.to_owned())) }
    }

    fn document(&self, digest: &str) -> Result<Document, Error> {
        let blob = self.blob(digest)?;
        if blob.length > manifest::SIZE_LIMIT {
            return Err(Error::Archive(format!("manifest {digest} is too large")));
        }
        let bytes = fs::read(&blob.path).map_err(|error| explain(&blob.path, &error))?;
        manifest::parse(&bytes, None).map_err(|error| Error::Archive(error.to_string()))
    }

    /// The images that the archive holds.
    pub(super) fn images(&self) -> Result<Vec<Arrival>, Error> {
        // `docker save` writes both; its manifest.json has every name of an image.
        let mut images = match self.files.contains_key("manifest.json") {
            true => self.docker()?,
            false => self.oci()?,
        };
        if images.is_empty() {
            return Err(Error::Archive("it holds no image".to_owned()));
        }
        for name in images.iter_mut().flat_map(|image| &mut image.names) {
            let read = Name::parse(name).map_err(|error| Error::Archive(error.to_string()))?;
            *name = read.tagged().unwrap_or_else(|| read.repository());
        }
        Ok(images)
    }

    fn oci(&self) -> Result<Vec<Arrival>, Error> {
        let mut images = Vec::new();
        for (digest, names) in self.described()? {
            let own = match self.document(&digest)? {
                Document::Image(_) => digest.clone(),
                Document::Index(variants) => {
                    let chosen = manifest::choose(&variants);
                    let chosen = chosen.map_err(|error| Error::Archive(error.to_string()))?;
                    chosen.descriptor.digest.clone()
                }
            };
            images.push(Arrival { names, ..self.described_image(&own, digest)? });
        }
        Ok(images)
    }

    /// Digests of an OCI layout's index, with the names that it gives them.
    fn described(&self) -> Result<Vec<(String, Vec<String>)>, Error> {
        let index = self.json("index.json")?;
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for entry in list(&index, "manifests") {
            let note = |key: &str| Some(entry.get("annotations")?.get(key)?.as_str()?.to_owned());
            if note("vnd.docker.reference.type").as_deref() == Some("attestation-manifest") {
                continue;
            }
            let name = note("io.containerd.image.name")
                .or_else(|| note("org.opencontainers.image.ref.name"));
            let digest = text(entry, "digest")?;
            match found.iter_mut().find(|(known, _)| known == digest) {
                Some((_, names)) => names.extend(name),
                None => found.push((digest.to_owned(), name.into_iter().collect())),
            }
        }
        Ok(found)
    }

    fn described_image(&self, own: &str, top: String) -> Result<Arrival, Error> {
        let Document::Image(read) = self.document(own)? else {
            return Err(Error::Archive("an index names an index".to_owned()));
        };
        let layers = read.layers.iter().map(|layer| self.blob(&layer.digest).cloned());
        Ok(Arrival {
            config: self.blob(&read.config.digest)?.clone(),
            layers: layers.collect::<Result<_, _>>()?,
            document: Some(self.blob(own)?.clone()),
            manifest: Some(top),
            names: Vec::new(),
            digests: Vec::new(),
        })
    }

    fn docker(&self) -> Result<Vec<Arrival>, Error> {
        let manifest = self.json("manifest.json")?;
        let described = self.documents();
        let mut images = Vec::new();
        for entry in manifest.as_array().into_iter().flatten() {
            let layers = list(entry, "Layers")
                .iter()
                .map(|layer| self.claimed(layer.as_str().unwrap_or_default()).cloned())
                .collect::<Result<Vec<_>, _>>()?;
            let tags = list(entry, "RepoTags").iter().filter_map(|t| Some(t.as_str()?.to_owned()));
            let config = self.claimed(text(entry, "Config")?)?.clone();
            let same = described.iter().find(|image| {
                image.config.digest == config.digest
                    && image.layers.iter().map(|l| &l.digest).eq(layers.iter().map(|l| &l.digest))
            });
            images.push(Arrival {
                names: tags.collect(),
                document: same.and_then(|image| image.document.clone()),
                manifest: same.and_then(|image| image.manifest.clone()),
                digests: Vec::new(),
                config,
                layers,
            });
        }
        Ok(images)
    }

    /// What the OCI index beside a manifest.json says; it need not be whole.
    fn documents(&self) -> Vec<Arrival> {
        match self.files.contains_key("index.json") {
            true => self.oci().unwrap_or_default(),
            false => Vec::new(),
        }
    }

    /// A file of a docker archive; where its name is a digest, that must be its own.
    fn claimed(&self, name: &str) -> Result<&Blob, Error> {
        let file = self.get(name)?;
        let stem = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"));
        match stem {
            Some(stem) if stem != hex(&file.digest) => Err(Error::Digest(name.to_owned())),
            _ => Ok(file),
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Error> {
    let found = value.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Error::Archive(format!("`{key}` is missing")))
}
