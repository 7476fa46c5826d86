//! The stack file and what lies beside it, read from disk; the commit it comes from.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use stack::{Diagnostics, Files, Input, Loaded};

use crate::error::{Class, Error};

/// Names that are looked for when none is given.
const DEFAULTS: [&str; 4] =
    ["docker-stack.yml", "docker-stack.yaml", "docker-compose.yml", "compose.yaml"];

/// A stack file on disk, ready to be loaded with variables.
#[derive(Clone, Debug)]
pub struct Source {
    pub files: Vec<PathBuf>,
    /// Folder of the first file: what paths in it are relative to.
    pub folder: PathBuf,
}

/// Why a stack file is not usable.
#[derive(Debug)]
pub enum LoadError {
    Error(Box<Error>),
    /// The file itself: each with its place.
    Diagnostics(Box<Diagnostics>),
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, String> {
        fs::read(path).map_err(|error| error.to_string())
    }
}

impl Source {
    /// The given files, or the usual one in the current folder.
    pub fn find(given: &[PathBuf]) -> Result<Self, Error> {
        let files: Vec<PathBuf> = if given.is_empty() {
            let usual = DEFAULTS.iter().map(PathBuf::from).find(|path| path.exists());
            vec![usual.ok_or_else(|| {
                Error::new("stack-file-missing", "no docker-stack.yml in this folder")
                    .hint("name one with `-c FILE`, or go to the folder that has it")
                    .class(Class::Usage)
            })?]
        } else {
            given.to_vec()
        };
        let first = files.first().cloned().unwrap_or_default();
        let folder = first.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Ok(Self { files, folder })
    }

    /// Reads and understands it. `version` is what `${VERSION}` and `${TAG}` stand for.
    pub fn load(&self, version: &str) -> Result<Loaded, LoadError> {
        let mut files = Vec::new();
        for path in &self.files {
            let text = fs::read_to_string(path).map_err(|error| {
                Error::new("stack-file-unreadable", format!("read `{}`: {error}", path.display()))
                    .hint("check the path given with -c")
            })?;
            files.push((path.clone(), text));
        }
        let mut environment: BTreeMap<String, String> = std::env::vars().collect();
        for key in ["VERSION", "TAG"] {
            environment.insert(key.to_owned(), version.to_owned());
        }
        let path = self.folder.join(".env");
        let dot_env = fs::read_to_string(&path).ok().map(|text| (path, text));
        let project_dir = self.folder.clone();
        let input = Input { files, environment, dot_env, project_dir };
        stack::load(&input, &Disk).map_err(|problems| LoadError::Diagnostics(Box::new(problems)))
    }

    /// The commit of the folder, with `-dirty` when it has changes; none outside a repository.
    pub fn commit(&self) -> Option<String> {
        let git = |arguments: &[&str]| {
            let output =
                Command::new("git").arg("-C").arg(&self.folder).args(arguments).output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let changes = git(&["status", "--porcelain", "--untracked-files=no", "."])?;
        Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
    }
}

/// A release's version when none is given: the time, as the guide's tags have it.
pub fn version_now() -> String {
    jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).strftime("%Y%m%d-%H%M%S").to_string()
}
