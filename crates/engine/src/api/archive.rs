//! `docker cp`: files of a task out and in, as tar archives. What comes in goes to the task's own
//! layer; no entry leads out of it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use dockerapi::{ApiError, stamp};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::Response;
use orchestrator::Time;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Answer, Api, Body, Call, empty, images::blocking, stream};
use crate::driver::layer::Layer;

/// One file may be this large, an archive in all this many bytes.
const LIMIT: u64 = 8 << 30;
/// Go's bits for kinds of file.
const GO_FOLDER: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

impl Api {
    pub(super) async fn stat_path(&self, key: &str, call: &Call) -> Answer {
        let (_, stat) = self.path(key, call).await?;
        let mut response = empty(StatusCode::OK);
        insert(&mut response, &stat);
        Ok(response)
    }

    pub(super) async fn copy_out(&self, key: &str, call: &Call) -> Answer {
        let (path, stat) = self.path(key, call).await?;
        let name = file_name(call.get("path").unwrap_or("/"));
        let (pieces, mut response) = stream::open("application/x-tar");
        insert(&mut response, &stat);
        tokio::task::spawn_blocking(move || {
            let mut builder = tar::Builder::new(Pieces(pieces));
            builder.follow_symlinks(false);
            let written = match path.is_dir() {
                true => builder.append_dir_all(&name, &path),
                false => builder.append_path_with_name(&path, &name),
            };
            // A half archive has no end: the client sees that.
            if written.is_ok() {
                let _ = builder.finish();
            }
        });
        Ok(response)
    }

    pub(super) async fn copy_in(&self, key: &str, call: Call) -> Answer {
        let (folder, _) = self.path(key, &call).await?;
        if !folder.is_dir() {
            return Err(ApiError::bad_parameter("extraction point is not a directory"));
        }
        let layer = self.layer(key).await?;
        let into = PathBuf::from(call.get("path").unwrap_or("/"));
        let (pieces, received) = mpsc::channel(8);
        let extracting = blocking(move || extract(Received::new(received), &layer, &into));
        let mut body = call.body;
        let feeding = async {
            while let Some(Ok(frame)) = body.frame().await {
                // What follows the archive's end is read all the same: the client is writing it.
                if let Ok(bytes) = frame.into_data() {
                    let _ = pieces.send(bytes).await;
                }
            }
            drop(pieces);
        };
        let ((), extracted) = tokio::join!(feeding, extracting);
        extracted?.map_err(|error| ApiError::bad_parameter(format!("copy: {error}")))?;
        Ok(empty(StatusCode::OK))
    }

    async fn path(&self, key: &str, call: &Call) -> Result<(PathBuf, String), ApiError> {
        let wanted = call.get("path").filter(|path| !path.is_empty());
        let wanted = wanted.ok_or_else(|| ApiError::bad_parameter("missing path"))?.to_owned();
        let layer = self.layer(key).await?;
        let missing =
            ApiError::not_found(format!("Could not find the file {wanted} in container {key}"));
        let (path, known) = blocking(move || {
            // Links of the working folder lead into the image: the file is meant, not the link.
            let path = fs::canonicalize(layer.find(&wanted)?).ok()?;
            Some((path.clone(), fs::symlink_metadata(path).ok()?, file_name(&wanted)))
        })
        .await?
        .map(|(path, known, name)| (path, stat(&known, &name)))
        .ok_or(missing)?;
        Ok((path, known))
    }
}

/// The last part of a path; that of the root is the root.
fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "/".to_owned())
}

/// Docker's description of a file, for the header that carries it.
fn stat(known: &fs::Metadata, name: &str) -> String {
    let kind = match () {
        () if known.is_dir() => GO_FOLDER,
        () if known.is_symlink() => GO_LINK,
        () => 0,
    };
    let changed = known.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
    let value = json!({
        "name": name, "size": known.size(), "mode": kind | (known.permissions().mode() & 0o777),
        "mtime": stamp::text(Time(changed)), "linkTarget": "",
    });
    BASE64_STANDARD.encode(value.to_string())
}

fn insert(response: &mut Response<Body>, stat: &str) {
    if let Ok(value) = HeaderValue::from_str(stat) {
        response.headers_mut().insert("x-docker-container-path-stat", value);
    }
}

/// Unpacks files, folders and links; anything else, and whatever would lead out, is refused.
fn extract(archive: impl io::Read, layer: &Layer, into: &Path) -> io::Result<()> {
    let refuse = |path: &Path, why: &str| io::Error::other(format!("{}: {why}", path.display()));
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
        let target = layer.target(&into.join(&inside));
        let target = target.ok_or_else(|| refuse(&name, "it has no place in the task"))?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = fs::Permissions::from_mode(entry.header().mode()? & 0o777);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            if !target.is_dir() || target.is_symlink() {
                clear(&target)?;
                fs::create_dir(&target)?;
            }
            fs::set_permissions(&target, fs::Permissions::from_mode(mode.mode() | 0o700))?;
        } else if kind.is_file() {
            clear(&target)?;
            let mut file = fs::File::create_new(&target)?;
            io::copy(&mut entry, &mut file)?;
            file.set_permissions(mode)?;
        } else if let (true, Some(link)) = (kind.is_symlink(), entry.link_name()?) {
            clear(&target)?;
            symlink(link, &target)?;
        } else {
            return Err(refuse(&name, "only files, folders and links are copied"));
        }
    }
    Ok(())
}

/// What is in the way goes; a link itself, not what it points to.
fn clear(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(known) if known.is_dir() => {
            Err(io::Error::other(format!("{}: a folder is in the way", target.display())))
        }
        Ok(_) => fs::remove_file(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes into an answer.
struct Pieces(mpsc::Sender<Bytes>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a request's body.
struct Received {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Received {
    fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, rest: Bytes::new() }
    }
}

impl io::Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(bytes) => self.rest = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
