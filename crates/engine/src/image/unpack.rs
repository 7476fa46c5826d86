//! A layer's files onto disk: never outside the image's folder, never a device, and only those
//! whose digest the image's config names.

use std::{
    collections::HashSet,
    error::Error as _,
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use tar::{Entry, EntryType};

use super::{Error, layer::walk, path::resolve_parent};

/// Unpacks one layer into `root`, whiteouts applied. `expected` is the digest of the layer's tar as
/// the image's config has it.
pub(super) fn layer(blob: &Path, root: &Path, expected: Option<&str>) -> Result<(), Error> {
    let failed = |error| explain(blob, &error);
    let file = File::open(blob).map_err(failed)?;
    let packed_bytes = file.metadata().map_err(failed)?.len();
    let mut layer = Layer { root, written: HashSet::new() };
    let found = walk(BufReader::new(file), packed_bytes, |entry| layer.entry(entry))?.diff_id;
    match expected {
        Some(expected) if expected != found => Err(Error::Digest(expected.to_owned())),
        _ => Ok(()),
    }
}

struct Layer<'a> {
    root: &'a Path,
    /// What this layer brought, with the folders above: whiteouts are about layers below only.
    written: HashSet<PathBuf>,
}

impl Layer<'_> {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Error> {
        let path = entry.path().map_err(|error| explain(self.root, &error))?.into_owned();
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            return Ok(());
        }
        let Some(place) = self.place(&path)? else { return Ok(()) };
        let name = place.file_name().unwrap_or_default().as_bytes();
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&place, OsStr::from_bytes(hidden));
        }
        let made = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                make_file(entry, &place)
            }
            EntryType::Directory => make_folder(entry, &place),
            EntryType::Symlink => make_room(&place)
                .and_then(|()| link_target(entry))
                .and_then(|target| symlink(target, &place)),
            EntryType::Link => {
                let target = link_target(entry).map_err(|error| explain(self.root, &error))?;
                let Some(target) = self.place(&target)? else { return Err(escape(&path)) };
                match target == place {
                    true => Ok(()),
                    false => make_room(&place).and_then(|()| fs::hard_link(target, &place)),
                }
            }
            // Devices and pipes: a task uses the machine's own.
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(()),
            _ => return Err(escape(&path)),
        };
        made.map_err(|error| explain(&place, &error))?;
        for above in place.ancestors().take_while(|above| *above != self.root) {
            if !self.written.insert(above.to_owned()) {
                break;
            }
        }
        Ok(())
    }

    /// Where an entry belongs; none for the image's root itself. Its folder is there afterwards.
    fn place(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(escape(path));
        }
        let place = resolve_parent(self.root, path).ok_or_else(|| escape(path))?;
        if place == *self.root {
            return Ok(None);
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(|error| explain(&place, &error))?;
        }
        Ok(Some(place))
    }

    /// `dir/.wh.name` hides `dir/name` of the layers below, `dir/.wh..wh..opq` all they have.
    fn whiteout(&self, place: &Path, hidden: &OsStr) -> Result<(), Error> {
        let Some(folder) = place.parent() else { return Ok(()) };
        let gone = match hidden.as_bytes() {
            b".wh..opq" => return self.prune(folder).map_err(|error| explain(folder, &error)),
            b"" | b"." | b".." => return Err(escape(place)),
            // Marks of other storage drivers, without a meaning here.
            hidden if hidden.starts_with(b".wh.") => return Ok(()),
            _ => folder.join(hidden),
        };
        if self.written.contains(&gone) {
            return self.prune(&gone).map_err(|error| explain(&gone, &error));
        }
        remove(&gone).map_err(|error| explain(&gone, &error))
    }

    /// Deletes what layers below left in a folder.
    fn prune(&self, folder: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(folder)?.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if self.written.contains(&path) {
                self.prune(&path)?;
            } else {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn make_file(entry: &mut Entry<'_, impl Read>, place: &Path) -> io::Result<()> {
    make_room(place)?;
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(place)?;
    io::copy(entry, &mut file)?;
    if let Ok(seconds) = entry.header().mtime() {
        let _ = file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }
    // Without setuid: nothing here runs as anybody else. Readable for ourselves.
    let mode = entry.header().mode()? & 0o777 | 0o400;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn make_folder(entry: &Entry<'_, impl Read>, place: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(place).is_ok_and(|known| known.is_dir()) {
        make_room(place)?;
        fs::create_dir(place)?;
    }
    let mode = entry.header().mode()? & 0o777 | 0o700;
    fs::set_permissions(place, fs::Permissions::from_mode(mode))
}

fn link_target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
    target.ok_or_else(|| io::Error::other("a link without a target"))
}

/// Takes away what a layer below has at the same place.
fn make_room(place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(_) => remove(place),
        Err(_) => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(known) if known.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn escape(path: &Path) -> Error {
    Error::Escape { path: path.display().to_string() }
}

/// The disk's error, or the archive's: readers wrap one in the other.
pub(super) fn explain(path: &Path, error: &io::Error) -> Error {
    let mut text = error.to_string();
    let mut code = error.raw_os_error();
    let mut inner = error.source();
    while let Some(cause) = inner {
        code = code.or_else(|| cause.downcast_ref::<io::Error>()?.raw_os_error());
        text = format!("{text}: {cause}");
        inner = cause.source();
    }
    match code {
        Some(code) => {
            Error::Io { path: path.to_owned(), source: io::Error::from_raw_os_error(code) }
        }
        None => Error::Archive(text),
    }
}
