//! `docker cp`: files of a task out and in, as tar archives. What comes in goes to the task's own
//! layer; no entry leads out of it (`copy` sees to that).

use std::{
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use dockerapi::{ApiError, stamp};
use http::{HeaderValue, StatusCode};
use hyper::Response;
use orchestrator::Time;
use rustix::fs::FileType;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    Answer, Api, Body, Call, empty,
    images::{self, blocking},
    stream,
};
use crate::copy::{self, Entry};

/// An archive goes out in pieces of this size.
const PIECE: usize = 32 << 10;
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
        let (entry, stat) = self.path(key, call).await?;
        let name = file_name(call.get("path").unwrap_or("/"));
        let (pieces, mut response) = stream::open("application/x-tar");
        insert(&mut response, &stat);
        tokio::task::spawn_blocking(move || {
            let name = if name == "/" { "." } else { name.as_str() };
            // A half archive has no end: the client sees that.
            let _ = copy::pack(
                &entry,
                Path::new(name),
                BufWriter::with_capacity(PIECE, Pieces(pieces)),
            );
        });
        Ok(response)
    }

    pub(super) async fn copy_in(&self, key: &str, call: Call) -> Answer {
        let (folder, _) = self.path(key, &call).await?;
        if folder.kind() != FileType::Directory {
            return Err(ApiError::bad_parameter("extraction point is not a directory"));
        }
        let layer = self.layer(key).await?;
        let into = PathBuf::from(call.get("path").unwrap_or("/"));
        let (chunks, received) = images::chunks();
        let extracting = blocking(move || {
            let mut received = received;
            let place = |path: &Path| layer.target(&into.join(path));
            let extracted = copy::extract(&mut received, &place);
            // What follows the archive's end is read all the same: the client is writing it.
            let read = io::copy(&mut received, &mut io::sink());
            extracted.and(read)
        });
        let (fed, extracted) = tokio::join!(images::feed(call.body, chunks), extracting);
        extracted?.map_err(|error| ApiError::bad_parameter(format!("copy: {error}")))?;
        fed?;
        Ok(empty(StatusCode::OK))
    }

    async fn path(&self, key: &str, call: &Call) -> Result<(Entry, String), ApiError> {
        let wanted = call.get("path").filter(|path| !path.is_empty());
        let wanted = wanted.ok_or_else(|| ApiError::bad_parameter("missing path"))?.to_owned();
        let layer = self.layer(key).await?;
        let missing =
            ApiError::not_found(format!("Could not find the file {wanted} in container {key}"));
        blocking(move || {
            let entry = layer.entry(&wanted)?;
            let stat = stat(&entry, &file_name(&wanted));
            Some((entry, stat))
        })
        .await?
        .ok_or(missing)
    }
}

/// The last part of a path; that of the root is the root.
fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "/".to_owned())
}

/// Docker's description of a file, for the header that carries it.
fn stat(entry: &Entry, name: &str) -> String {
    let kind = match entry.kind() {
        FileType::Directory => GO_FOLDER,
        FileType::Symlink => GO_LINK,
        _ => 0,
    };
    let known = &entry.known;
    let seconds = u64::try_from(known.st_mtime).unwrap_or(0);
    let changed = seconds.saturating_mul(1_000_000_000).saturating_add(known.st_mtime_nsec);
    let value = json!({
        "name": name, "size": known.st_size, "mode": kind | (known.st_mode & 0o777),
        "mtime": stamp::text(Time(changed)), "linkTarget": "",
    });
    BASE64_STANDARD.encode(value.to_string())
}

fn insert(response: &mut Response<Body>, stat: &str) {
    if let Ok(value) = HeaderValue::from_str(stat) {
        response.headers_mut().insert("x-docker-container-path-stat", value);
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
