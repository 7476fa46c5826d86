//! Logs of several tasks as one: which lines are wanted, and the oldest of them first.
//!
//! Pieces of bounded size are made when they are asked for; reading happens on threads that may
//! block.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use dockerapi::{ApiError, frame, stamp};
use http::StatusCode;
use orchestrator::{TaskId, Time};
use tokio::sync::mpsc;

use crate::{
    api::Call,
    log::{Line, Reader},
};

/// Bytes put into one piece of the answer.
const PIECE: usize = 32 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) follow: bool,
    pub(super) tail: Option<usize>,
    pub(super) since: Time,
    pub(super) timestamps: bool,
    pub(super) details: bool,
    /// A terminal's output has no frames.
    pub(super) is_raw: bool,
}

impl Options {
    /// `refusal` is what Docker answers without a stream: 500 for services, 400 for containers.
    pub(super) fn parse(call: &Call, refusal: StatusCode) -> Result<Self, ApiError> {
        let (stdout, stderr) = (call.is_set("stdout"), call.is_set("stderr"));
        if !stdout && !stderr {
            let message = "Bad parameters: you must choose at least one stream".to_owned();
            return Err(ApiError { status: refusal, message });
        }
        let since = call.get("since").filter(|since| !since.is_empty());
        let since = match since {
            None => Time(0),
            Some(text) => {
                stamp::parse_unix(text).or_else(|| stamp::parse(text)).ok_or_else(|| {
                    ApiError::bad_parameter(format!("invalid value for since: {text}"))
                })?
            }
        };
        Ok(Self {
            stdout,
            stderr,
            follow: call.is_set("follow"),
            tail: call.get("tail").and_then(|tail| tail.parse().ok()),
            since,
            timestamps: call.is_set("timestamps"),
            details: call.is_set("details"),
            is_raw: false,
        })
    }

    fn wants(&self, line: &Line) -> bool {
        line.at >= self.since && if line.is_error { self.stderr } else { self.stdout }
    }

    fn frame(&self, line: &Line, details: &str) -> Vec<u8> {
        let mut text = String::with_capacity(line.text.len() + 64);
        if self.timestamps {
            text.push_str(&stamp::text(line.at));
            text.push(' ');
        }
        if self.details && !details.is_empty() {
            text.push_str(details);
            text.push(' ');
        }
        text.push_str(&line.text);
        text.push('\n');
        if self.is_raw {
            return text.into_bytes();
        }
        let stream = if line.is_error { frame::Stream::Stderr } else { frame::Stream::Stdout };
        frame::encode(stream, text.as_bytes())
    }
}

/// One task's log.
pub(super) struct Source {
    reader: Reader,
    folder: PathBuf,
    details: String,
    /// Lines to leave out, for the tail; none until they are counted.
    skip: Option<usize>,
    /// The next line to send.
    head: Option<Line>,
    /// File and size when it was last read to the end.
    seen: (u64, u64),
}

impl Source {
    pub(super) fn new(folder: PathBuf, details: String, skip: Option<usize>) -> Self {
        let reader = Reader::open(&folder);
        Self { reader, folder, details, skip, head: None, seen: (0, 0) }
    }

    pub(super) fn has_more(&self) -> bool {
        self.head.is_some() || self.seen != extent(&self.folder)
    }

    /// The next wanted line. A log that cannot be read says so once, in band.
    fn pull(&mut self, options: &Options, piece: &mut Vec<u8>) {
        let mut skip = match (self.skip, options.tail) {
            (Some(skip), _) => skip,
            (None, None) => 0,
            (None, Some(tail)) => count(&self.folder, options).saturating_sub(tail),
        };
        while self.head.is_none() {
            match self.reader.next_line() {
                Ok(Some(line)) if !options.wants(&line) => {}
                Ok(Some(_)) if skip > 0 => skip -= 1,
                Ok(Some(line)) => self.head = Some(line),
                Ok(None) => break,
                Err(error) => {
                    let text = format!("Error grabbing logs: {error}\n");
                    piece.extend(frame::encode(frame::Stream::System, text.as_bytes()));
                    break;
                }
            }
        }
        self.skip = Some(skip);
    }
}

/// Which file is written, and how long it is.
fn extent(folder: &Path) -> (u64, u64) {
    std::fs::metadata(folder.join("log")).map_or((0, 0), |file| (file.ino(), file.len()))
}

/// How many lines of the log are wanted.
fn count(folder: &Path, options: &Options) -> usize {
    let mut reader = Reader::open(folder);
    let lines = std::iter::from_fn(|| reader.next_line().ok().flatten());
    lines.filter(|line| options.wants(line)).count()
}

/// Sends what the sources have now, piece by piece. Nothing comes back once nobody listens.
pub(super) async fn send_all(
    mut sources: BTreeMap<TaskId, Source>,
    options: &Options,
    pieces: &mpsc::Sender<Bytes>,
) -> Option<BTreeMap<TaskId, Source>> {
    while sources.values().any(Source::has_more) {
        let options = options.clone();
        let merged = tokio::task::spawn_blocking(move || {
            let piece = merge(&mut sources, &options);
            (sources, piece)
        });
        let (back, piece) = merged.await.ok()?;
        sources = back;
        let is_last = piece.len() < PIECE;
        if !piece.is_empty() {
            pieces.send(piece.into()).await.ok()?;
        }
        if is_last {
            break;
        }
    }
    Some(sources)
}

/// The next lines of the sources, oldest first, up to the size of a piece.
fn merge(sources: &mut BTreeMap<TaskId, Source>, options: &Options) -> Vec<u8> {
    let mut piece = Vec::new();
    let mut sources: Vec<&mut Source> = sources.values_mut().collect();
    let mut heads = BinaryHeap::new();
    for (at, source) in sources.iter_mut().enumerate() {
        // Looked at before it is read: what is added meanwhile counts as unseen.
        source.seen = extent(&source.folder);
        source.pull(options, &mut piece);
        heads.extend(source.head.as_ref().map(|line| Reverse((line.at, at))));
    }
    while let Some(Reverse((_, at))) = heads.pop() {
        let source = &mut sources[at];
        if let Some(line) = source.head.take() {
            piece.extend(options.frame(&line, &source.details));
        }
        source.pull(options, &mut piece);
        heads.extend(source.head.as_ref().map(|line| Reverse((line.at, at))));
        if piece.len() >= PIECE {
            break;
        }
    }
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Writer;

    fn options(tail: Option<usize>) -> Options {
        Options {
            stdout: true,
            stderr: true,
            follow: false,
            tail,
            since: Time(0),
            timestamps: false,
            details: false,
            is_raw: false,
        }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let mut decoder = frame::Decoder::default();
        decoder.feed(bytes);
        let frames = std::iter::from_fn(|| decoder.next_frame());
        frames.map(|(_, line)| String::from_utf8_lossy(&line).trim_end().to_owned()).collect()
    }

    /// Two tasks that wrote in turn.
    fn logs(lines: u64) -> (tempfile::TempDir, BTreeMap<TaskId, Source>) {
        let root = tempfile::tempdir().expect("a folder");
        let mut sources = BTreeMap::new();
        for task in 0..2_u64 {
            let folder = root.path().join(task.to_string());
            std::fs::create_dir(&folder).expect("made");
            let mut writer = Writer::open(&folder, 1 << 20, 3);
            for number in (0..lines).filter(|number| number % 2 == task) {
                writer.line(Time(number), false, number.to_string().as_bytes());
            }
            sources.insert(TaskId(task.to_string()), Source::new(folder, String::new(), None));
        }
        (root, sources)
    }

    #[test]
    fn lines_of_several_tasks_come_in_the_order_of_their_times() {
        let (_root, mut sources) = logs(100);
        let merged = texts(&merge(&mut sources, &options(None)));
        assert_eq!(merged, (0..100).map(|n: u32| n.to_string()).collect::<Vec<_>>());
        assert!(!sources.values().any(Source::has_more));
    }

    #[test]
    fn a_tail_is_of_each_task_and_what_comes_later_is_not_cut() {
        let (root, mut sources) = logs(100);
        assert_eq!(texts(&merge(&mut sources, &options(Some(2)))), ["96", "97", "98", "99"]);
        let mut writer = Writer::open(&root.path().join("0"), 1 << 20, 3);
        for number in 200..205 {
            writer.line(Time(number), false, number.to_string().as_bytes());
        }
        assert!(sources.values().any(Source::has_more));
        assert_eq!(texts(&merge(&mut sources, &options(Some(2)))).len(), 5);
    }

    #[test]
    fn long_logs_come_in_pieces_of_bounded_size() {
        let (_root, mut sources) = logs(50_000);
        let mut lines = Vec::new();
        while sources.values().any(Source::has_more) {
            let piece = merge(&mut sources, &options(None));
            assert!(piece.len() < PIECE + 1024);
            lines.extend(texts(&piece));
        }
        assert_eq!(lines.len(), 50_000);
        assert!(lines.windows(2).all(|pair| {
            pair[0].parse::<u32>().expect("a number") < pair[1].parse().expect("a number")
        }));
    }
}
