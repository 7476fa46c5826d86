//! Where the body of a message ends (RFC 9112, section 6). Strict: what could be read in two ways
//! is refused, so nobody behind the ingress sees another message than the ingress saw.

/// Bytes of chunk extensions and trailers that one message may have in all.
const EXTRA_LIMIT: usize = 16 * 1024;

/// A body that does not keep to its own framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunk")]
pub struct Malformed;

/// How much of a body is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none when there is no body.
    Length(u64),
    Chunked(Chunks),
    /// Everything until the sender closes.
    UntilClose,
}

/// Bytes from the front of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub len: usize,
    /// Content, as opposed to chunk sizes, line ends and trailers.
    pub is_content: bool,
}

impl Framing {
    pub const NONE: Self = Self::Length(0);

    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(rest) => *rest == 0,
            Self::Chunked(chunks) => chunks.state == State::Over,
            Self::UntilClose => false,
        }
    }

    /// The next piece of `bytes` that belongs to the body; `None` when all were used or it is over.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, Malformed> {
        if bytes.is_empty() || self.is_over() {
            return Ok(None);
        }
        let content = |len| Some(Piece { len, is_content: true });
        Ok(match self {
            Self::Length(rest) => {
                let len = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len());
                *rest -= len as u64;
                content(len)
            }
            Self::Chunked(chunks) => Some(chunks.next(bytes)?),
            Self::UntilClose => content(bytes.len()),
        })
    }

    /// How many of `bytes`, from the front, belong to the body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        while let Some(piece) = self.next(&bytes[taken..])? {
            taken += piece.len;
        }
        Ok(taken)
    }
}

/// Reads chunked coding (RFC 9112, section 7.1).
///
/// ```text
/// Size ─▶ (Extension) ─▶ SizeEnd ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size …
///                           └─ size 0 ─▶ TrailerStart ─▶ (Trailer ─▶ TrailerEnd)* ─▶ End ─▶ Over
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    size: u64,
    digits: u8,
    extra: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerEnd,
    End,
    Over,
}

impl Chunks {
    fn next(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        if self.state == State::Data {
            let len = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
            self.size -= len as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
            return Ok(Piece { len, is_content: true });
        }
        let mut len = 0;
        for byte in bytes {
            if matches!(self.state, State::Data | State::Over) {
                break;
            }
            self.state = self.after(*byte)?;
            len += 1;
        }
        Ok(Piece { len, is_content: false })
    }

    fn after(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                // 15 digits: far more than any body, and no overflow.
                self.digits += 1;
                if self.digits > 15 {
                    return Err(Malformed);
                }
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => State::Extension,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::End,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::TrailerStart,
            (State::End, b'\n') => State::Over,
            (State::Extension | State::TrailerStart | State::Trailer, byte) => {
                self.extra += 1;
                let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                if !is_text || self.extra > EXTRA_LIMIT {
                    return Err(Malformed);
                }
                if self.state == State::Extension { State::Extension } else { State::Trailer }
            }
            _ => return Err(Malformed),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Framing {
        Framing::Chunked(Chunks::default())
    }

    /// Content and how much was taken, read in pieces of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut framing = chunked();
        let (mut content, mut taken) = (Vec::new(), 0);
        for part in bytes.chunks(step) {
            let mut part = part;
            while let Some(piece) = framing.next(part)? {
                if piece.is_content {
                    content.extend_from_slice(&part[..piece.len]);
                }
                taken += piece.len;
                part = &part[piece.len..];
            }
        }
        Ok((content, taken, framing.is_over()))
    }

    #[test]
    fn chunks_are_read_to_their_end_and_not_beyond() {
        let text = b"4\r\nWiki\r\n5;name=x\r\npedia\r\n0\r\nTrailer: a\r\n\r\nGET / HTTP/1.1\r\n";
        for step in 1..text.len() {
            let (content, taken, is_over) = read(text, step).expect("well formed");
            assert_eq!(content, b"Wikipedia");
            assert!(is_over && text[taken..].starts_with(b"GET /"), "in steps of {step}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let bad: [&[u8]; 12] = [
            b"\r\n",
            b"4\nWiki\r\n0\r\n\r\n",
            b"4\r\nWikiX\r\n0\r\n\r\n",
            b"4\r\nWiki\n0\r\n\r\n",
            b"-4\r\nWiki\r\n0\r\n\r\n",
            b"0x4\r\nWiki\r\n0\r\n\r\n",
            b"4 4\rWiki",
            b"10000000000000000\r\n",
            b" 4\r\nWiki\r\n0\r\n\r\n",
            b"4;a\nb\r\nWiki\r\n0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\na: b\n\r\n",
        ];
        for text in bad {
            assert_eq!(read(text, 64), Err(Malformed), "{}", String::from_utf8_lossy(text));
        }
        let flood = [b"1;".as_slice(), &[b'x'; EXTRA_LIMIT + 1]].concat();
        assert_eq!(read(&flood, 4096), Err(Malformed));
    }

    #[test]
    fn a_length_is_kept_to() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.take(b"abc"), Ok(3));
        assert_eq!((framing.take(b"defgh"), framing.is_over()), (Ok(2), true));
        assert_eq!(framing.take(b"more"), Ok(0));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_read_the_same(
            bytes in prop::collection::vec(prop::sample::select(b"0123af;:\r\n x".to_vec()), 0..60),
            step in 1_usize..9,
        ) {
            prop_assert_eq!(read(&bytes, step), read(&bytes, 1000));
        }
    }
}
