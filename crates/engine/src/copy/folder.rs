//! A folder that nothing leads out of: all that is done in it goes by its descriptor.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

/// Tries of an opening that somebody's renaming disturbs.
const TRIES: u32 = 16;
/// As the task sees it: an absolute link starts at the folder, and `..` ends there.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// For a path that was resolved before: a link in it was put there since, and is refused.
const EXACTLY: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

impl Folder {
    /// The folder itself is ours: its own path may have links.
    ///
    /// # Errors
    /// When it is not there or no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// The folder at a path inside, made where it is missing.
    pub(super) fn make(&self, path: &Path) -> io::Result<Self> {
        let mut reached = PathBuf::from(".");
        let mut last = self.folder(&reached)?;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            reached.push(name);
            last = match self.folder(&reached) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match fs::mkdirat(&last.fd, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => self.folder(&reached)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                found => found?,
            };
        }
        Ok(last)
    }

    fn folder(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: open(&self.fd, path, flags, INSIDE)? })
    }

    /// What a path means that has no links left, without opening it.
    pub(crate) fn exactly(&self, path: &Path) -> io::Result<Entry> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let known = fs::fstat(open(&self.fd, path, flags, EXACTLY)?)?;
        Ok(Entry { within: self.fd.try_clone()?, path: path.to_owned(), known })
    }

    /// A file, whole or not at all, in place of what has the name.
    pub(super) fn put_file(
        &self,
        name: &OsStr,
        mode: Mode,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let beside = beside()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let made = fs::openat(&self.fd, &beside, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let mut made = File::from(made);
        let written = write(&mut made).and_then(|()| Ok(fs::fchmod(&made, mode)?));
        self.settle(&beside, name, written)
    }

    pub(super) fn put_link(&self, name: &OsStr, target: &Path) -> io::Result<()> {
        let beside = beside()?;
        fs::symlinkat(target, &self.fd, &beside)?;
        self.settle(&beside, name, Ok(()))
    }

    fn settle(&self, beside: &OsStr, name: &OsStr, written: io::Result<()>) -> io::Result<()> {
        let moved = written.and_then(|()| match fs::renameat(&self.fd, beside, &self.fd, name) {
            Err(Errno::ISDIR) => Err(io::Error::other("a folder is in the way")),
            other => Ok(other?),
        });
        if moved.is_err() {
            let _ = fs::unlinkat(&self.fd, beside, AtFlags::empty());
        }
        moved
    }

    /// A folder; one that is there stays with what it has.
    pub(super) fn put_folder(&self, name: &OsStr, mode: Mode) -> io::Result<()> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(known) if kind(&known) == FileType::Directory => {}
            Ok(_) => fs::unlinkat(&self.fd, name, AtFlags::empty())?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = open(&self.fd, Path::new(name), flags, EXACTLY)?;
        Ok(fs::fchmod(made, mode | Mode::RWXU)?)
    }
}

/// Something in a folder, as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct Entry {
    within: OwnedFd,
    path: PathBuf,
    pub(crate) known: Stat,
}

impl Entry {
    pub(crate) fn kind(&self) -> FileType {
        kind(&self.known)
    }

    /// Opens it for reading if it is still the same; a pipe without a writer does not block.
    pub(super) fn read(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = open(&self.within, &self.path, flags | OFlags::CLOEXEC, EXACTLY)?;
        let now = fs::fstat(&opened)?;
        match (now.st_dev, now.st_ino) == (self.known.st_dev, self.known.st_ino) {
            true => Ok(File::from(opened)),
            false => Err(io::Error::other("it changed while it was read")),
        }
    }

    /// What a folder holds, by name.
    pub(super) fn entries(&self) -> io::Result<Vec<(OsString, Entry)>> {
        use std::os::unix::ffi::OsStrExt;
        let opened = OwnedFd::from(self.read()?);
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        let folder = Folder { fd: opened };
        let mut found = Vec::new();
        for name in names {
            // What went meanwhile is not there.
            if let Ok(entry) = folder.exactly(Path::new(&name)) {
                found.push((name, entry));
            }
        }
        Ok(found)
    }

    /// Where a link points.
    pub(super) fn target(&self) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let target = fs::readlinkat(&self.within, &self.path, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

fn kind(known: &Stat) -> FileType {
    FileType::from_raw_mode(known.st_mode)
}

fn open(at: &OwnedFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    for _ in 1..TRIES {
        match fs::openat2(at, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Ok(fs::openat2(at, path, flags, Mode::empty(), resolve)?)
}

/// A name that nothing has.
fn beside() -> io::Result<OsString> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!(".keel-copy-{:016x}", u64::from_ne_bytes(bytes)).into())
}
