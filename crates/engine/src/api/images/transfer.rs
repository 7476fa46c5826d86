//! Images as archives: `docker load`, `docker save`, `docker import`. Pieces pass through bounded
//! channels, so that memory stays small and a slow end slows the other down.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use bytes::Bytes;
use dockerapi::ApiError;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{Answer, Api, Call, blocking, lines};
use crate::{api::stream, image::name::Name};

/// The largest archive that is taken.
const ARCHIVE_LIMIT: usize = 16 << 30;
/// How long a client may take for the next piece of one: what makes it may be slow.
const PIECE_TIME: Duration = Duration::from_secs(300);
/// What is sent at once.
const PIECE: usize = 64 << 10;

impl Api {
    pub(in crate::api) async fn load_image(&self, call: Call) -> Answer {
        let images = self.images.clone();
        let names = received(call.body, move |archive| images.load(archive)).await?;
        for name in &names {
            self.tell("load", name).await;
        }
        let said = names.iter().map(|name| {
            let what = if name.starts_with("sha256:") { "Loaded image ID" } else { "Loaded image" };
            format!("{}\n", json!({ "stream": format!("{what}: {name}\n") }))
        });
        Ok(lines(said.collect()))
    }

    /// `POST /images/create?fromSrc=-`: a file system as an image of one layer.
    pub(in crate::api) async fn import_image(&self, call: Call) -> Answer {
        if call.get("fromSrc") != Some("-") {
            return Err(ApiError::not_supported(
                "the embedded engine imports what the client sends (`docker import FILE`), not \
                 from an address",
            ));
        }
        if call.get("changes").is_some_and(|changes| !changes.is_empty()) {
            return Err(ApiError::not_supported(
                "the embedded engine imports without `--change`; describe the image with `keel \
                 build` (`x-evenkeel: artifact`)",
            ));
        }
        let name = match call.get("repo").filter(|repo| !repo.is_empty()) {
            None => None,
            Some(repo) => {
                let tag = call.get("tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
                let name = Name::parse(&format!("{repo}:{tag}"));
                name.map_err(|error| ApiError::bad_parameter(error.to_string()))?.tagged()
            }
        };
        let message = call.get("message").filter(|message| !message.is_empty());
        let message = message.unwrap_or("Imported from -").to_owned();
        let images = self.images.clone();
        let import = move |layer| images.import(layer, name, &message);
        let id = received(call.body, import).await?;
        self.tell("import", &id).await;
        Ok(lines(format!("{}\n", json!({ "status": id }))))
    }

    pub(in crate::api) async fn save_images(&self, names: Vec<String>) -> Answer {
        if names.is_empty() {
            return Err(ApiError::bad_parameter("no image is named: add `names=NAME`"));
        }
        let images = self.images.clone();
        let wanted = names.clone();
        let export = blocking(move || images.export(&wanted)).await??;
        for name in &names {
            self.tell("save", name).await;
        }
        let (pieces, response) = stream::open_fallible("application/x-tar");
        tokio::task::spawn_blocking(move || {
            let out = io::BufWriter::with_capacity(PIECE, Sender(pieces.clone()));
            if let Err(error) = export.write(out) {
                // The answer is cut, so that nobody takes it for whole.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        Ok(response)
    }
}

/// Gives the body to `take` as a reader.
async fn received<T: Send + 'static>(
    body: Incoming,
    take: impl FnOnce(Chunks) -> Result<T, crate::image::Error> + Send + 'static,
) -> Result<T, ApiError> {
    let (sender, received) = chunks();
    let taking = tokio::task::spawn_blocking(move || take(received));
    let sent = feed(body, sender).await;
    let taken = taking.await.map_err(|error| ApiError::internal(error.to_string()))??;
    sent.map(|()| taken)
}

/// Passes the body on piece by piece; a slow disk slows the client down.
pub(in crate::api) async fn feed(
    body: Incoming,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), ApiError> {
    let mut body = Limited::new(body, ARCHIVE_LIMIT);
    loop {
        let frame = match timeout(PIECE_TIME, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(|error| error.to_string()),
            Ok(None) => return Ok(()),
            Err(_) => Err(format!("nothing came for {} s", PIECE_TIME.as_secs())),
        };
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(chunk) => Ok(chunk),
                Err(_) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let is_end = chunk.is_err();
        // The reader stopped: its own error tells why.
        if chunks.send(chunk).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// Both ends of a body on its way to whoever reads it off the threads that serve.
pub(in crate::api) fn chunks() -> (mpsc::Sender<io::Result<Bytes>>, Chunks) {
    let (sender, received) = mpsc::channel(16);
    (sender, Chunks { received, rest: Bytes::new() })
}

pub(in crate::api) struct Chunks {
    received: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.received.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.0.blocking_send(Ok(Bytes::copy_from_slice(piece))).map_err(gone)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
