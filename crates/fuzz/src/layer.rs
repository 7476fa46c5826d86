//! A layer's tar, unpacked as the only layer of an image. Nothing outside the image is touched.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use engine::image::{Image, Store};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A folder for one input; in memory where there is such a file system.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}

/// Files beside what is unpacked that must stay as they are.
pub(crate) struct Canary {
    folder: PathBuf,
    before: Vec<(PathBuf, Vec<u8>, u32)>,
}

impl Canary {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("etc")).expect("made");
        fs::write(folder.join("etc/passwd"), "canary").expect("written");
        fs::write(folder.join("x"), "canary").expect("written");
        Self { folder: folder.to_owned(), before: Self::seen(folder) }
    }

    fn seen(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).expect("readable").flatten() {
            let path = entry.path();
            let known = fs::symlink_metadata(&path).expect("there");
            if known.is_dir() {
                found.push((path.clone(), Vec::new(), known.mode()));
                found.extend(Self::seen(&path));
            } else {
                found.push((path.clone(), fs::read(&path).unwrap_or_default(), known.mode()));
            }
        }
        found.sort();
        found
    }

    pub(crate) fn is_as_it_was(&self) {
        assert_eq!(Self::seen(&self.folder), self.before, "something outside was touched");
    }
}

/// Neither devices nor setuid bits; nothing that the engine itself could not delete again.
pub(crate) fn is_harmless(folder: &Path) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let known = fs::symlink_metadata(entry.path()).expect("there");
        let kind = known.file_type();
        assert!(
            kind.is_file() || kind.is_dir() || kind.is_symlink(),
            "{}: neither file, folder nor link",
            entry.path().display()
        );
        if !kind.is_symlink() {
            assert_eq!(known.mode() & 0o7000, 0, "{}: special bits", entry.path().display());
        }
        if kind.is_dir() {
            is_harmless(&entry.path());
        }
    }
}

pub fn run(data: &[u8]) {
    let folder = scratch();
    let canary = Canary::new(&folder.path().join("outside"));
    let store = Store::open(&folder.path().join("store")).expect("opens");
    let mut hash = Sha256::new();
    hash.update(data);
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let blobs = folder.path().join("store/blobs/sha256");
    fs::write(blobs.join(&hex), data).expect("written");
    let digest = format!("sha256:{hex}");
    let image = Image {
        id: digest.clone(),
        layers: vec![digest],
        size: data.len() as u64,
        config: json!({}),
        manifest: None,
        document: None,
        sizes: Vec::new(),
    };
    let rooted = store.root(&image);
    canary.is_as_it_was();
    if let Ok(root) = rooted {
        is_harmless(&root);
    }
    // A refused layer leaves nothing half unpacked.
    let left = fs::read_dir(folder.path().join("store/incoming")).expect("readable").count();
    assert_eq!(left, 0, "left behind in the store");
}
