//! A layer's files onto disk: never outside the image's folder, never a device.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Component, Path},
};

use super::Error;

/// Unpacks one layer (tar, or tar with gzip) into `root`, whiteouts applied.
pub(super) fn layer(blob: &Path, root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: root.to_owned(), source };
    let mut file = BufReader::new(File::open(blob).map_err(failed)?);
    let mut magic = [0_u8; 2];
    let count = file.read(&mut magic).map_err(failed)?;
    let whole = io::Cursor::new(magic[..count].to_vec()).chain(file);
    if magic == [0x1f, 0x8b] {
        entries(flate2::read::GzDecoder::new(whole), root)
    } else {
        entries(whole, root)
    }
}

fn entries(layer: impl Read, root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: root.to_owned(), source };
    let mut archive = tar::Archive::new(layer);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let refused = || Error::Escape { path: path.display().to_string() };
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(refused());
        }
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() || kind.is_fifo() {
            return Err(refused());
        }
        if let Some(gone) = whiteout(&path) {
            let gone = root.join(gone);
            let is_inside = gone
                .parent()
                .and_then(|parent| parent.canonicalize().ok())
                .zip(root.canonicalize().ok())
                .is_some_and(|(parent, root)| parent.starts_with(root));
            if is_inside {
                let _ = fs::remove_file(&gone);
                let _ = fs::remove_dir_all(&gone);
            }
            continue;
        }
        // `unpack_in` refuses to follow links out of `root`; false says that it skipped the entry.
        if !entry.unpack_in(root).map_err(failed)? {
            return Err(refused());
        }
    }
    Ok(())
}

/// `dir/.wh.name` deletes `dir/name` of the layers below.
fn whiteout(path: &Path) -> Option<std::path::PathBuf> {
    let name = path.file_name()?.to_str()?;
    let gone = name.strip_prefix(".wh.")?;
    let folder = path.parent().unwrap_or(Path::new(""));
    Some(if gone == ".wh..opq" { folder.to_owned() } else { folder.join(gone) })
}
