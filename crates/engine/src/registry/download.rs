//! One blob, downloaded once however many want it, resumed where it broke off, and only kept when
//! it is what its digest says.

use std::{
    collections::HashMap,
    fs,
    io::SeekFrom,
    path::PathBuf,
    sync::{
        Arc, Mutex as Lock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::{
    Error, Teller,
    session::{Ask, Session},
    transport::{next, shown},
};
use crate::image::{self, intake::Blob, manifest::Descriptor};

/// Blobs that come in at the same time, of all pulls together; Docker's number.
const PARALLEL: usize = 3;
/// Times that one blob is continued.
const ATTEMPTS: u32 = 5;
/// The largest blob that is taken.
const SIZE_LIMIT: u64 = 16 << 30;
/// The slowest that a large blob may come on the whole.
const SLOWEST: u64 = 32 << 10;
/// Between two lines of progress.
const TICK: Duration = Duration::from_millis(100);

/// What is being downloaded.
#[derive(Debug)]
pub(super) struct Downloads {
    slots: Lock<HashMap<String, Weak<Slot>>>,
    permits: Semaphore,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { slots: Lock::default(), permits: Semaphore::new(PARALLEL) }
    }
}

/// A blob that somebody needs. Its file goes with the last who does.
#[derive(Debug)]
pub(super) struct Slot {
    folder: PathBuf,
    digest: String,
    length: u64,
    /// Held by whoever downloads.
    turn: Mutex<()>,
    is_done: AtomicBool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Slot {
    pub(super) fn blob(&self) -> Blob {
        Blob { path: self.path(), digest: self.digest.clone(), length: self.length }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("blob")
    }
}

impl Downloads {
    fn slot(&self, images: &image::Store, wanted: &Descriptor) -> Result<Arc<Slot>, Error> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.strong_count() > 0);
        let known = slots.get(&wanted.digest).and_then(Weak::upgrade);
        if let Some(slot) = known.filter(|slot| slot.length == wanted.size) {
            return Ok(slot);
        }
        let slot = Arc::new(Slot {
            folder: images.fresh_folder()?,
            digest: wanted.digest.clone(),
            length: wanted.size,
            turn: Mutex::new(()),
            is_done: AtomicBool::new(false),
        });
        slots.insert(wanted.digest.clone(), Arc::downgrade(&slot));
        Ok(slot)
    }

    /// The blob, from here, from whoever downloads it already, or from the registry.
    pub(super) async fn get(
        &self,
        images: &image::Store,
        session: &Session,
        wanted: &Descriptor,
        teller: &Teller,
    ) -> Result<Arc<Slot>, Error> {
        if wanted.size > SIZE_LIMIT {
            return Err(Error::TooLarge { name: wanted.digest.clone(), bytes: wanted.size });
        }
        let slot = self.slot(images, wanted)?;
        let _turn = slot.turn.lock().await;
        if slot.is_done.load(Ordering::Acquire) {
            teller.blob(&wanted.digest, "Download complete").await;
            return Ok(Arc::clone(&slot));
        }
        let is_here = images.keep_blob(&wanted.digest, &slot.path());
        if is_here && fs::metadata(slot.path()).is_ok_and(|file| file.len() == wanted.size) {
            teller.blob(&wanted.digest, "Already exists").await;
        } else {
            let _ = fs::remove_file(slot.path());
            let _permit = self.permits.acquire().await;
            let most = Duration::from_secs(600 + wanted.size / SLOWEST);
            let download = Download::start(session, wanted, teller, slot.path()).await?;
            timeout(most, download.run()).await.map_err(|_| Error::Deadline(most))??;
            teller.blob(&wanted.digest, "Download complete").await;
        }
        slot.is_done.store(true, Ordering::Release);
        Ok(Arc::clone(&slot))
    }
}

struct Download<'a> {
    session: &'a Session,
    wanted: &'a Descriptor,
    teller: &'a Teller,
    path: PathBuf,
    file: File,
    hash: Sha256,
    received: u64,
    told: Instant,
}

impl<'a> Download<'a> {
    async fn start(
        session: &'a Session,
        wanted: &'a Descriptor,
        teller: &'a Teller,
        path: PathBuf,
    ) -> Result<Self, Error> {
        let file = File::create_new(&path).await.map_err(|source| disk(&path, source))?;
        let (hash, told) = (Sha256::new(), Instant::now());
        Ok(Self { session, wanted, teller, path, file, hash, received: 0, told })
    }

    async fn run(mut self) -> Result<(), Error> {
        let mut attempt = 1;
        while let Err(error) = self.attempt().await {
            if !error.is_passing() || attempt >= ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(self.session.transport.patience.backoff * (1 << (attempt - 1)))
                .await;
            attempt += 1;
        }
        self.file.flush().await.map_err(|source| disk(&self.path, source))?;
        let found = format!("sha256:{}", image::hex_of(self.hash));
        if found == self.wanted.digest {
            return Ok(());
        }
        let reason = format!("it sent {found} for the blob {}", self.wanted.digest);
        Err(Error::Lies { reason })
    }

    /// From where the last attempt broke off.
    async fn attempt(&mut self) -> Result<(), Error> {
        if self.received == self.wanted.size && self.received > 0 {
            return Ok(());
        }
        let uri = self.session.uri(&format!("blobs/{}", self.wanted.digest))?;
        let what = format!("Get {}", shown(&uri));
        let mut ask = Ask::new(Method::GET, uri);
        if self.received > 0 {
            ask = ask.with(header::RANGE, format!("bytes={}-", self.received));
        }
        let response = self.session.follow(&ask).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response) == Some(self.received) => {}
            // It does not continue: from the beginning.
            StatusCode::OK => self.begin_again().await?,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.begin_again().await?;
                let reason = "it continues at another place".to_owned();
                return Err(Error::Cut { what, reason });
            }
            _ => return Err(self.session.answer(what, response).await),
        }
        self.body(what, response.into_body()).await
    }

    async fn body(&mut self, what: String, mut body: Incoming) -> Result<(), Error> {
        let wanted = self.wanted.size;
        while let Some(piece) = next(&mut body, self.session.transport.patience.stall).await? {
            self.received += piece.len() as u64;
            if self.received > wanted {
                let reason = format!("{} is longer than its {wanted} bytes", self.wanted.digest);
                return Err(Error::Lies { reason });
            }
            self.hash.update(&piece);
            self.file.write_all(&piece).await.map_err(|source| disk(&self.path, source))?;
            if self.told.elapsed() >= TICK {
                self.told = Instant::now();
                self.teller.far(&self.wanted.digest, "Downloading", self.received, wanted);
            }
        }
        if self.received < wanted {
            let reason = format!("after {} of {wanted} bytes", self.received);
            return Err(Error::Cut { what, reason });
        }
        Ok(())
    }

    async fn begin_again(&mut self) -> Result<(), Error> {
        if self.received == 0 {
            return Ok(());
        }
        (self.received, self.hash) = (0, Sha256::new());
        let failed = |source| disk(&self.path, source);
        self.file.flush().await.map_err(failed)?;
        self.file.set_len(0).await.map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).await.map(|_| ()).map_err(failed)
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn begins_at(response: &Response<Incoming>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn disk(path: &std::path::Path, source: std::io::Error) -> Error {
    Error::Image(image::Error::Io { path: path.to_owned(), source })
}
