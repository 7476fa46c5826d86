//! Layers, configs and archives, made by hand.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use engine::image::Store;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A store in a folder of its own, with something beside it that must stay as it is.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub store: std::sync::Arc<Store>,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("outside"), "untouched").expect("written");
        let store = Store::open(&folder.path().join("images")).expect("a store");
        Self { folder, store: std::sync::Arc::new(store) }
    }

    /// Loads and unpacks an image of these layers; returns its files' folder.
    pub fn run(&self, layers: &[Vec<u8>]) -> Result<PathBuf, String> {
        let archive = docker_archive("test:1", layers);
        self.store.load(archive.as_slice()).map_err(|error| error.to_string())?;
        let image = self.store.get("test:1").expect("the image");
        self.store.root(&image).map_err(|error| error.to_string())
    }

    /// Nothing was written beside the store, and nothing is left of what did not succeed.
    pub fn check_clean(&self) {
        let outside = std::fs::read_to_string(self.folder.path().join("outside"));
        assert_eq!(outside.expect("there"), "untouched");
        let names = names(self.folder.path());
        assert_eq!(names, ["images", "outside"]);
        assert_eq!(names_in(self, "incoming"), Vec::<String>::new());
    }

    pub fn check_empty(&self) {
        self.check_clean();
        assert_eq!(names_in(self, "blobs/sha256"), Vec::<String>::new());
        assert!(self.store.list().is_empty());
    }
}

fn names_in(place: &Place, part: &str) -> Vec<String> {
    names(&place.folder.path().join("images").join(part))
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// An entry whose name is written as it is, however bad.
pub fn entry(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let raw = header.as_gnu_mut().expect("a GNU header");
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    bytes
}

pub fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, tar::EntryType::Regular, "", content.as_bytes())
}

pub fn folder(name: &str) -> Vec<u8> {
    entry(name, tar::EntryType::Directory, "", b"")
}

pub fn symlink(name: &str, to: &str) -> Vec<u8> {
    entry(name, tar::EntryType::Symlink, to, b"")
}

pub fn hard_link(name: &str, to: &str) -> Vec<u8> {
    entry(name, tar::EntryType::Link, to, b"")
}

/// A tar of these entries.
pub fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The config of an image of these layers' tars.
pub fn config(diff_ids: &[String]) -> Vec<u8> {
    json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux", "config": { "Cmd": ["/app"], "Labels": { "team": "a" } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes()
}

/// As `docker save` of an old engine writes it.
pub fn docker_archive(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = config(&diff_ids);
    let config_name = format!("{}.json", sha256(&config).trim_start_matches("sha256:"));
    let paths: Vec<String> = (0..layers.len()).map(|at| format!("layer{at}/layer.tar")).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": paths }]);
    let mut files: Vec<(&str, Vec<u8>)> =
        paths.iter().map(String::as_str).zip(layers.iter().cloned()).collect();
    files.push((&config_name, config));
    files.push(("manifest.json", manifest.to_string().into_bytes()));
    archive(&files)
}

/// An OCI layout of one image; `packed` are its layers as they are stored.
pub fn oci_archive(name: &str, layers: &[Vec<u8>], packed: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = config(&diff_ids);
    let manifest = manifest(&config, packed).to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "digest": sha256(&manifest), "size": manifest.len(),
        "annotations": { "io.containerd.image.name": name },
    }]});
    let path = |bytes: &[u8]| sha256(bytes).replace("sha256:", "blobs/sha256/");
    let blobs = packed.iter().chain([&config, &manifest]);
    let mut files: Vec<(String, Vec<u8>)> = blobs.map(|blob| (path(blob), blob.clone())).collect();
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    archive(&files)
}

pub fn manifest(config: &[u8], packed: &[Vec<u8>]) -> Value {
    let described = |bytes: &[u8], kind: &str| json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() });
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layers: Vec<Value> = packed.iter().map(|layer| described(layer, kind)).collect();
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described(config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    })
}

pub fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice()).expect("appended");
    }
    builder.into_inner().expect("an archive")
}
