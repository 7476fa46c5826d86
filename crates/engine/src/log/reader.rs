//! Reading a log while it is written and rotated: every kept line once, in order.
//!
//! Files are held open from the start, so a rotation renames them without a loss. A reader that
//! fell behind finds its place again by the file's inode.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use orchestrator::Time;

use super::Line;

/// A line is at most `LINE_LIMIT` and its stamp; a damaged file has no say in our memory.
const READ_LIMIT: usize = 64 * 1024;

/// Reads a task's lines from the oldest kept one, and goes on where it stopped.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    current: Option<Part>,
    /// Files after the current one, oldest first.
    newer: VecDeque<Part>,
    partial: Vec<u8>,
}

#[derive(Debug)]
struct Part {
    file: BufReader<File>,
    inode: u64,
}

impl Reader {
    pub fn open(folder: &Path) -> Self {
        let newer = parts(folder).unwrap_or_default();
        Self { folder: folder.to_owned(), current: None, newer, partial: Vec::new() }
    }

    /// The next line; `None` when there is none now. Called again later it goes on.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut may_look = true;
        loop {
            if self.read_line()? {
                let line = parse(&self.partial);
                self.partial.clear();
                if line.is_some() {
                    return Ok(line);
                }
                continue;
            }
            if let Some(next) = self.newer.pop_front() {
                self.current = Some(next);
                self.partial.clear();
                continue;
            }
            // The end of all we know. Was the log rotated? Then what was added to the current
            // file before that is read first, so one more round follows.
            if !std::mem::take(&mut may_look) || !self.look()? {
                return Ok(None);
            }
        }
    }

    /// True once `partial` is a whole line.
    fn read_line(&mut self) -> io::Result<bool> {
        let Some(part) = &mut self.current else { return Ok(false) };
        loop {
            let room = READ_LIMIT.saturating_sub(self.partial.len()) as u64;
            let count = (&mut part.file).take(room.max(1)).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() == Some(&b'\n') {
                self.partial.pop();
                return Ok(true);
            }
            if self.partial.len() >= READ_LIMIT {
                self.partial.clear();
            } else if count == 0 {
                return Ok(false);
            }
        }
    }

    /// Finds files newer than the current one; true when there are any.
    fn look(&mut self) -> io::Result<bool> {
        let newest = std::fs::metadata(self.folder.join("log")).map(|log| log.ino());
        let current = self.current.as_ref().map(|part| part.inode);
        match newest {
            Ok(newest) if Some(newest) == current => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let mut parts = parts(&self.folder)?;
        if let Some(at) = parts.iter().position(|part| Some(part.inode) == current) {
            parts.drain(..=at);
        }
        self.newer = parts;
        Ok(!self.newer.is_empty())
    }
}

/// All files of a log, oldest first. Opened from the newest on: a rotation meanwhile shows a file
/// twice, but never hides one.
fn parts(folder: &Path) -> io::Result<VecDeque<Part>> {
    let mut parts: VecDeque<Part> = VecDeque::new();
    for number in 0..100 {
        let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        let file = match File::open(folder.join(name)) {
            Ok(file) => file,
            // Between two renames `log` itself is missing for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        if parts.iter().all(|part| part.inode != inode) {
            parts.push_front(Part { file: BufReader::with_capacity(16 * 1024, file), inode });
        }
    }
    Ok(parts)
}

fn parse(line: &[u8]) -> Option<Line> {
    let line = String::from_utf8_lossy(line);
    let (at, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    Some(Line { at: Time(at.parse().ok()?), is_error: stream == "e", text: text.to_owned() })
}
