//! An image archive as `docker load` brings it, both layouts, and the unpacking of what it held.
//!
//! Input: a tar; or, where it begins with `{`, JSON objects from which an archive with matching
//! digests is made, so that manifests and configs are reached: one line each for manifest (or
//! index), config, and the text of the only layer.

use std::{fs, io::Write};

use engine::image::Store;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layer::{Canary, is_harmless, scratch};

pub fn run(data: &[u8]) {
    let folder = scratch();
    let canary = Canary::new(&folder.path().join("outside"));
    let path = folder.path().join("store");
    let store = Store::open(&path).expect("opens");
    let made;
    let bytes = match data.first() {
        Some(b'{' | b'[') => {
            made = archive_of(data);
            &made
        }
        _ => data,
    };
    let loaded = store.load(bytes);
    canary.is_as_it_was();
    let incoming = fs::read_dir(path.join("incoming")).expect("readable").count();
    assert_eq!(incoming, 0, "something is left of the archive");
    match loaded {
        Ok(names) => {
            assert!(!names.is_empty(), "loaded, and nothing has a name");
            for name in &names {
                let image = store.get(name).expect("a name that it said");
                if let Ok(root) = store.root(&image) {
                    is_harmless(&root);
                }
            }
            // What is on disk says the same after a restart.
            let again = Store::open(&path).expect("opens again");
            assert_eq!(store.list(), again.list());
        }
        Err(_) => {
            assert!(store.list().is_empty(), "refused, and an image is there");
            let blobs = fs::read_dir(path.join("blobs/sha256")).expect("readable").count();
            assert_eq!(blobs, 0, "refused, and blobs are left");
        }
    }
    canary.is_as_it_was();
}

fn digest(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive around the JSON given: digests that say `CONFIG`, `LAYER` or `MANIFEST` become the
/// right ones.
fn archive_of(data: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let manifest = parts.next().unwrap_or_default();
    let config = parts.next().unwrap_or_default();
    let layer = parts.next().unwrap_or_default().as_bytes();
    let (config_hex, layer_hex) = (digest(config.as_bytes()), digest(layer));
    let manifest = manifest.replace("CONFIG", &config_hex).replace("LAYER", &layer_hex);
    let manifest_hex = digest(manifest.as_bytes());
    let index = json!({ "manifests": [{
        "digest": format!("sha256:{manifest_hex}"),
        "annotations": { "org.opencontainers.image.ref.name": "a:b" },
    }] });
    let is_docker = matches!(serde_json::from_str(&manifest), Ok(Value::Array(_)));
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).expect("appended");
    };
    match is_docker {
        true => add("manifest.json", manifest.as_bytes()),
        false => {
            add("index.json", index.to_string().as_bytes());
            add(&format!("blobs/sha256/{manifest_hex}"), manifest.as_bytes());
        }
    }
    add(&format!("blobs/sha256/{config_hex}"), config.as_bytes());
    add(&format!("blobs/sha256/{layer_hex}"), layer);
    let mut bytes = builder.into_inner().expect("in memory");
    bytes.flush().expect("in memory");
    bytes
}
