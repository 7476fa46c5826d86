//! A layer as a stream: unpacked, hashed, and walked entry by entry within bounds.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read},
    path::{Component, Path},
    rc::Rc,
};

use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use super::{Error, archive::text_of, manifest::Packing, unpack::explain};

/// What one layer may unpack to; a large image has some gigabytes.
const UNPACKED_LIMIT: u64 = 32 << 30;
/// Files in one layer.
const ENTRY_LIMIT: u64 = 2_000_000;
/// What the archive may say about one entry (long names, attributes) before it begins.
pub(super) const HEAD_LIMIT: u64 = 1 << 20;
/// From this size on, a layer that unpacks to more than [`RATIO_LIMIT`] times its own is a bomb.
const RATIO_FROM: u64 = 1 << 30;
const RATIO_LIMIT: u64 = 200;
const TOO_MUCH: &str = "a layer unpacks to far more than it is; refused";

/// What is known of a layer that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Digest of the tar.
    pub diff_id: String,
    /// Bytes in its files, as Docker counts an image's size.
    pub content_bytes: u64,
    pub entries: u64,
}

/// Reads a layer (a tar, or one with gzip or zstd) to its end without writing anything: whether it
/// can be unpacked, and what it is. `packed_bytes` is its length as it came.
pub fn inspect(layer: impl BufRead, packed_bytes: u64) -> Result<Facts, Error> {
    walk(layer, packed_bytes, |_| Ok(()))
}

/// Calls `each` with every entry. Bounded in bytes, entries, and in what compression may hide.
pub(super) fn walk<R: BufRead>(
    layer: R,
    packed_bytes: u64,
    mut each: impl FnMut(&mut Entry<'_, &mut Metered<Box<dyn Read + '_>>>) -> Result<(), Error>,
) -> Result<Facts, Error> {
    let failed = |error: io::Error| explain(Path::new("layer"), &error);
    let budget = Budget::default();
    let mut tar = Metered::new(opened(layer).map_err(failed)?, packed_bytes, budget.clone());
    let (mut content_bytes, mut entries) = (0_u64, 0_u64);
    let mut archive = tar::Archive::new(&mut tar);
    let mut list = archive.entries().map_err(failed)?;
    loop {
        budget.allow(HEAD_LIMIT);
        let Some(entry) = list.next() else { break };
        let mut entry = entry.map_err(failed)?;
        budget.allow(u64::MAX);
        entries += 1;
        // A sparse file's size is what it unpacks to.
        content_bytes = content_bytes.saturating_add(entry.size());
        if entries > ENTRY_LIMIT || is_too_much(content_bytes, packed_bytes) {
            return Err(Error::Archive(TOO_MUCH.to_owned()));
        }
        check(&entry)?;
        each(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
    }
    budget.allow(u64::MAX);
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    let diff_id = format!("sha256:{}", text_of(tar.hash));
    Ok(Facts { diff_id, content_bytes, entries })
}

fn is_too_much(bytes: u64, packed_bytes: u64) -> bool {
    let is_bomb = bytes > RATIO_FROM && bytes / RATIO_LIMIT > packed_bytes.max(1);
    is_bomb || bytes > UNPACKED_LIMIT
}

/// The tar inside.
fn opened<'a>(mut layer: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    // A pipe may bring its first bytes one by one.
    let mut start = Vec::new();
    (&mut layer).take(4).read_to_end(&mut start)?;
    let packing = Packing::of(&start);
    let whole = io::Cursor::new(start).chain(layer);
    Ok(match packing {
        Packing::Plain => Box::new(whole),
        Packing::Gzip => Box::new(BufReader::with_capacity(
            1 << 16,
            flate2::bufread::MultiGzDecoder::new(BufReader::new(whole)),
        )),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::new(whole))?;
            // Memory that a frame may ask for: 128 MiB, what zstd itself takes without being told.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
    })
}

/// What no layer may have, wherever it is unpacked.
fn check(entry: &Entry<'_, impl Read>) -> Result<(), Error> {
    let unreadable = |error: io::Error| explain(Path::new("layer"), &error);
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = entry.path().map_err(unreadable)?;
    check_path(&path)?;
    if kind.is_hard_link() {
        let target = entry.link_name().map_err(unreadable)?;
        check_path(&target.ok_or_else(|| Error::Archive("a link without a target".to_owned()))?)?;
    }
    Ok(())
}

fn check_path(path: &Path) -> Result<(), Error> {
    let shown = || path.display().to_string().chars().take(200).collect::<String>();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::Escape { path: shown() });
    }
    let is_too_long =
        path.as_os_str().len() > 4000 || path.components().any(|part| part.as_os_str().len() > 255);
    if is_too_long {
        return Err(Error::Archive(format!("a name in it is too long: {}…", shown())));
    }
    Ok(())
}

/// How much more may be read before somebody looks again.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Rc<Cell<u64>>);

impl Budget {
    pub(super) fn allow(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

/// Hashes and counts what is read.
pub(super) struct Metered<R> {
    inner: R,
    hash: Sha256,
    count: u64,
    packed_bytes: u64,
    budget: Budget,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, packed_bytes: u64, budget: Budget) -> Self {
        Self { inner, hash: Sha256::new(), count: 0, packed_bytes, budget }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.0.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an entry says too much about itself"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.hash.update(&buffer[..count]);
        self.budget.0.set(left.saturating_sub(count as u64));
        self.count += count as u64;
        if is_too_much(self.count, self.packed_bytes) {
            return Err(io::Error::other(TOO_MUCH));
        }
        Ok(count)
    }
}
