//! A file or folder as a tar archive.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use rustix::fs::{FileType, Stat};
use tar::{Builder, EntryType, Header};

use super::folder::Entry;

/// Folders in folders: each has a descriptor open meanwhile.
const DEPTH: usize = 128;

/// Writes what `entry` is, under `name`, with all that it holds. Links are kept as links; sockets
/// and devices are left out.
pub(crate) fn pack(entry: &Entry, name: &Path, out: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(out);
    append(&mut builder, entry, name, 0)?;
    builder.finish()
}

fn append(
    builder: &mut Builder<impl Write>,
    entry: &Entry,
    name: &Path,
    depth: usize,
) -> io::Result<()> {
    match entry.kind() {
        FileType::RegularFile => {
            let file = entry.read()?;
            let size = u64::try_from(entry.known.st_size).unwrap_or(0);
            let mut header = header(&entry.known, EntryType::Regular, size);
            // One that is cut meanwhile ends in zeroes, one that grows is cut: its header is out.
            let whole = file.take(size).chain(io::repeat(0)).take(size);
            builder.append_data(&mut header, name, whole)
        }
        FileType::Directory => {
            if depth >= DEPTH {
                let text = format!("{}: more than {DEPTH} folders deep", name.display());
                return Err(io::Error::other(text));
            }
            let mut header = header(&entry.known, EntryType::Directory, 0);
            builder.append_data(&mut header, name, io::empty())?;
            for (part, inside) in entry.entries()? {
                append(builder, &inside, &name.join(part), depth + 1)?;
            }
            Ok(())
        }
        FileType::Symlink => {
            let mut header = header(&entry.known, EntryType::Symlink, 0);
            builder.append_link(&mut header, name, entry.target()?)
        }
        FileType::Fifo => {
            let mut header = header(&entry.known, EntryType::Fifo, 0);
            builder.append_data(&mut header, name, io::empty())
        }
        FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Ok(()),
    }
}

fn header(known: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(known.st_mode & 0o7777);
    header.set_uid(known.st_uid.into());
    header.set_gid(known.st_gid.into());
    header.set_mtime(u64::try_from(known.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}
