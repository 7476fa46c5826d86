//! Multiplexed streams: `[stream, 0, 0, 0, length as u32 big-endian]` and the payload.

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// An error of the engine itself, in band.
    System,
}

impl Stream {
    fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::System => 3,
        }
    }
}

/// One frame with its header.
pub fn encode(stream: Stream, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend([stream.code(), 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A longer frame comes out in pieces of this size, so that its length has no say in our memory.
pub const LARGEST: usize = 1 << 20;

/// Takes whole frames out of a growing buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    taken: usize,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend(bytes);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Option<(Stream, Vec<u8>)> {
        let waiting = self.buffer.get(self.taken..)?;
        let header: [u8; 8] = waiting.get(..8)?.try_into().ok()?;
        let stream = match header[0] {
            2 => Stream::Stderr,
            3 => Stream::System,
            _ => Stream::Stdout,
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let length = usize::try_from(length).ok()?;
        let payload = waiting.get(8..8 + length.min(LARGEST))?.to_vec();
        self.taken += 8 + payload.len();
        if let Some(rest) = u32::try_from(length - payload.len()).ok().filter(|rest| *rest > 0) {
            // What is left of it is a frame of its own.
            self.taken -= 8;
            let again = [[header[0], 0, 0, 0], rest.to_be_bytes()].concat();
            self.buffer[self.taken..self.taken + 8].copy_from_slice(&again);
        }
        Some((stream, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = encode(Stream::Stdout, b"hello\n");
        bytes.extend(encode(Stream::Stderr, b""));
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for byte in bytes {
            decoder.feed(&[byte]);
            while let Some(frame) = decoder.next_frame() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, [(Stream::Stdout, b"hello\n".to_vec()), (Stream::Stderr, Vec::new())]);
    }
    #[test]
    fn a_frame_of_any_length_is_held_a_piece_at_a_time() {
        let mut bytes = encode(Stream::Stderr, &vec![7; 2 * LARGEST + 5]);
        bytes.extend(encode(Stream::Stdout, b"next"));
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(LARGEST / 3) {
            decoder.feed(piece);
            while let Some((stream, payload)) = decoder.next_frame() {
                seen.push((stream, payload.len()));
            }
            assert!(decoder.buffer.len() <= LARGEST + LARGEST / 3 + 8);
        }
        let lengths = [(Stream::Stderr, LARGEST), (Stream::Stderr, LARGEST), (Stream::Stderr, 5)];
        assert_eq!(seen, [lengths.as_slice(), &[(Stream::Stdout, 4)]].concat());
    }
}
