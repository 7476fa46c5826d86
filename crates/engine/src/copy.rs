//! Files into and out of a task's folders, as tar archives (`docker cp`). Whatever an archive says
//! and whatever the task does to its folders meanwhile, nothing outside them is read or written:
//! every step goes by descriptors, and the kernel refuses what would lead out.
//!
//! Reading order: [`Folder`] (the descriptors), [`extract`] (in), `pack` (out).

mod folder;
mod pack;

use std::{
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use rustix::fs::Mode;
use tar::EntryType;

pub(crate) use folder::Entry;
pub use folder::Folder;
pub(crate) use pack::pack;

/// An archive may bring this many bytes.
const LIMIT: u64 = 8 << 30;

/// Where a path of the task is written: a folder that nothing leads out of, and the path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub base: PathBuf,
    pub path: PathBuf,
}

/// Unpacks files, folders and links; anything else, and whatever would lead out, is refused. A file
/// is there as a whole or not at all. `place` says where a path of the archive is written.
///
/// # Errors
/// Names the entry and the reason. What came before it stays.
pub fn extract(archive: impl Read, place: &dyn Fn(&Path) -> Option<Place>) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive.take(LIMIT));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        if name.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(refuse(&name, "the path leads out of the archive"));
        }
        let inside: PathBuf =
            name.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        if inside.as_os_str().is_empty() {
            continue;
        }
        let place = place(&inside).ok_or_else(|| refuse(&name, "it has no place in the task"))?;
        put(&mut entry, &place).map_err(|error| refuse(&name, &error.to_string()))?;
    }
    Ok(())
}

fn refuse(path: &Path, why: &str) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}

fn put(entry: &mut tar::Entry<'_, impl Read>, place: &Place) -> io::Result<()> {
    let missing = || io::Error::other("it has no place in the task");
    let name = place.path.file_name().ok_or_else(missing)?;
    // Looked at before anything is made for it.
    let kind = entry.header().entry_type();
    // Without setuid: what is copied in never runs as anybody else.
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777);
    let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
    let is_copied = match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => true,
        EntryType::Symlink => link.is_some(),
        _ => false,
    };
    if !is_copied {
        return Err(io::Error::other("only files, folders and links are copied"));
    }
    let parent = place.path.parent().unwrap_or(Path::new(""));
    let folder = Folder::open(&place.base)?.make(parent)?;
    match (kind, link) {
        (EntryType::Directory, _) => folder.put_folder(name, mode),
        (EntryType::Symlink, Some(target)) => folder.put_link(name, &target),
        _ => folder.put_file(name, mode, |file| {
            let size = entry.size();
            let copied = io::copy(entry, file)?;
            match copied == size {
                true => Ok(()),
                false => Err(io::Error::other("the archive ends in the middle of the file")),
            }
        }),
    }
}
