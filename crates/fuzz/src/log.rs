//! Log frames in any pieces, and log files with anything in them. The first byte says which, the
//! second the size of the pieces.

use std::{fs, io::Write};

use dockerapi::frame::{Decoder, encode};
use engine::log::{self, Reader};

use crate::layer::scratch;

pub fn run(data: &[u8]) {
    let [kind, step, rest @ ..] = data else { return };
    let step = usize::from(*step).max(1);
    match kind {
        b'f' => frames(rest, step),
        b'l' => lines(rest, step),
        _ => {}
    }
}

fn frames(bytes: &[u8], step: usize) {
    let read = |step: usize| {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.feed(piece);
            frames.extend(std::iter::from_fn(|| decoder.next_frame()));
        }
        frames
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(step), "in pieces of {step}");
    let written: Vec<u8> =
        whole.iter().flat_map(|(stream, payload)| encode(*stream, payload)).collect();
    let mut decoder = Decoder::default();
    decoder.feed(&written);
    let again: Vec<_> = std::iter::from_fn(|| decoder.next_frame()).collect();
    assert_eq!(whole, again, "written and read again");
}

/// A log that is there at once, and one that grows while it is read, read the same.
fn lines(bytes: &[u8], step: usize) {
    let folder = scratch();
    let path = folder.path().join("log");
    fs::write(&path, bytes).expect("written");
    let read = |reader: &mut Reader| {
        std::iter::from_fn(|| reader.next_line().expect("a file that is there")).collect::<Vec<_>>()
    };
    let whole = read(&mut Reader::open(folder.path()));
    let tail = log::tail(folder.path(), 2);
    assert!(whole.ends_with(&tail), "the tail is none");
    fs::remove_file(&path).expect("removed");
    let mut file = fs::File::create_new(&path).expect("made");
    let mut reader = Reader::open(folder.path());
    let mut grown = Vec::new();
    // Many short reads of a long text are slow and teach nothing.
    for piece in bytes.chunks(step.max(bytes.len() / 64 + 1)) {
        file.write_all(piece).expect("written");
        grown.extend(read(&mut reader));
    }
    assert_eq!(whole, grown, "in pieces of {step}");
}
