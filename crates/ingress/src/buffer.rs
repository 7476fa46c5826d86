//! Buffers for what was read and not yet used. A connection that waits has none: they come from the
//! worker and go back there.

use std::{cell::RefCell, mem, rc::Rc};

/// Room for a head and a small body.
const SMALL: usize = 16 * 1024;
/// A head may have at most this much.
pub(crate) const HEAD_LIMIT: usize = 64 * 1024;
/// Large bodies go through in pieces of this size.
const LARGE: usize = 64 * 1024;
const TEXT: usize = 2 * 1024;
const SPARE: usize = 128;

/// Spare memory of one worker.
#[derive(Clone, Default)]
pub(crate) struct Spare {
    small: Rc<RefCell<Vec<Vec<u8>>>>,
    large: Rc<RefCell<Vec<Vec<u8>>>>,
    texts: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Spare {
    fn take(&self, size: usize) -> Vec<u8> {
        let kept = if size <= SMALL { &self.small } else { &self.large };
        let found = kept.borrow_mut().pop();
        found.unwrap_or_else(|| vec![0; size])
    }

    /// An empty text to write a head into.
    pub(crate) fn text(&self) -> Vec<u8> {
        let found = self.texts.borrow_mut().pop();
        found.unwrap_or_else(|| Vec::with_capacity(TEXT))
    }

    /// A text of usual size is kept for the next head.
    pub(crate) fn put_text(&self, mut text: Vec<u8>) {
        let mut kept = self.texts.borrow_mut();
        if text.capacity() <= SMALL + TEXT && kept.len() < SPARE {
            text.clear();
            kept.push(text);
        }
    }

    fn put(&self, bytes: Vec<u8>) {
        let kept = match bytes.len() {
            SMALL => &self.small,
            LARGE => &self.large,
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < SPARE {
            kept.push(bytes);
        }
    }
}

/// Bytes that were read, from `start` to `end`; no memory while there is nothing.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    spare: Spare,
}

impl Buffer {
    pub(crate) fn new(spare: &Spare) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, spare: spare.clone() }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room to read into; none when a head has reached its limit.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = self.spare.take(SMALL);
        }
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.grow();
        }
        &mut self.bytes[self.end..]
    }

    fn grow(&mut self) {
        if self.bytes.len() >= HEAD_LIMIT {
            return;
        }
        let mut larger = self.spare.take(LARGE);
        let count = self.end - self.start;
        larger[..count].copy_from_slice(self.filled());
        self.spare.put(mem::replace(&mut self.bytes, larger));
        (self.start, self.end) = (0, count);
    }

    /// Makes room for the pieces of a large body.
    pub(crate) fn widen(&mut self) {
        if self.is_empty() && self.bytes.len() < LARGE {
            self.spare.put(mem::take(&mut self.bytes));
            self.bytes = self.spare.take(LARGE);
        }
    }

    /// So many bytes were read into the space.
    pub(crate) fn read(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Gives the memory back when nothing is in it.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            self.spare.put(mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.spare.put(mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.space()[..bytes.len()].copy_from_slice(bytes);
        buffer.read(bytes.len());
    }

    #[test]
    fn what_is_read_comes_out_in_order_and_memory_goes_back() {
        let spare = Spare::default();
        let mut buffer = Buffer::new(&spare);
        fill(&mut buffer, b"GET / HTTP");
        buffer.consume(4);
        assert_eq!(buffer.filled(), b"/ HTTP");
        buffer.rest();
        assert_eq!(buffer.filled(), b"/ HTTP", "what is not used stays");
        buffer.consume(6);
        buffer.rest();
        assert_eq!(spare.small.borrow().len(), 1);
        fill(&mut buffer, b"x");
        assert_eq!((spare.small.borrow().len(), buffer.filled()), (0, b"x".as_slice()));
    }

    #[test]
    fn a_head_grows_to_its_limit_and_no_further() {
        let mut buffer = Buffer::new(&Spare::default());
        let mut total = 0;
        loop {
            let room = buffer.space().len();
            if room == 0 {
                break;
            }
            buffer.read(room);
            total += room;
        }
        assert_eq!(total, HEAD_LIMIT);
        buffer.consume(10);
        assert_eq!(buffer.space().len(), 10);
    }
}
