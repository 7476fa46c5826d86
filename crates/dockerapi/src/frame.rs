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

/// Takes whole frames out of a growing buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Option<(Stream, Vec<u8>)> {
        let header: [u8; 8] = self.buffer.get(..8)?.try_into().ok()?;
        let stream = match header[0] {
            2 => Stream::Stderr,
            3 => Stream::System,
            _ => Stream::Stdout,
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let end = 8 + usize::try_from(length).ok()?;
        if self.buffer.len() < end {
            return None;
        }
        let payload = self.buffer[8..end].to_vec();
        self.buffer.drain(..end);
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
}
