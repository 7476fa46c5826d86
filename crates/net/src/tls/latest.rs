//! What is made of the three files, made anew when they change.

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc};

use super::{TlsError, TlsFiles};

/// Device, inode, size and time of change of the three files: another one means new content.
type Stamp = [(u64, u64, u64, i64, i64); 3];

/// What the files say now; what they said before where they cannot be used.
pub(super) struct Latest<T> {
    files: TlsFiles,
    read: fn(&TlsFiles) -> Result<T, TlsError>,
    made: Option<Arc<T>>,
    stamp: Option<Stamp>,
}

impl<T> Latest<T> {
    pub(super) fn new(files: TlsFiles, read: fn(&TlsFiles) -> Result<T, TlsError>) -> Self {
        Self { files, read, made: None, stamp: None }
    }

    /// Fails only as long as the files could never be used.
    pub(super) fn current(&mut self) -> Result<Arc<T>, TlsError> {
        let stamp = stamp(&self.files);
        let made = match &self.made {
            Some(made) if stamp.is_none() || stamp == self.stamp => return Ok(Arc::clone(made)),
            made => made.clone(),
        };
        self.stamp = stamp;
        match ((self.read)(&self.files), made) {
            (Ok(new), before) => {
                if before.is_some() {
                    tracing::info!("took new TLS certificates");
                }
                let new = Arc::new(new);
                self.made = Some(Arc::clone(&new));
                Ok(new)
            }
            (Err(error), Some(before)) => {
                tracing::error!(%error, "the new TLS certificates cannot be used; the old stay");
                Ok(before)
            }
            (Err(error), None) => Err(error),
        }
    }
}

fn stamp(files: &TlsFiles) -> Option<Stamp> {
    let of = |path: &Path| {
        let known = std::fs::metadata(path).ok()?;
        Some((known.dev(), known.ino(), known.size(), known.mtime(), known.mtime_nsec()))
    };
    Some([of(&files.ca)?, of(&files.cert)?, of(&files.key)?])
}
