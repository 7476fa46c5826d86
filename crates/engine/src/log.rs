//! A task's log: lines with time and stream, in files that are rotated and bounded.
//!
//! One line is `<unix nanoseconds> <o|e> <text>`. `log` is written to, `log.1` is the one before.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use orchestrator::Time;

/// Longer lines are cut into pieces.
pub const LINE_LIMIT: usize = 16 * 1024;

/// One line of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Time,
    pub is_error: bool,
    pub text: String,
}

/// Appends lines, rotates at a size, keeps a number of files.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    file: Option<File>,
    written: u64,
    max_bytes: u64,
    max_files: u32,
    /// Lines that a full disk swallowed; told once it has space again.
    dropped: u64,
}

impl Writer {
    pub fn open(folder: &Path, max_bytes: u64, max_files: u32) -> Self {
        let mut writer = Self {
            folder: folder.to_owned(),
            file: None,
            written: 0,
            max_bytes,
            max_files: max_files.max(1),
            dropped: 0,
        };
        writer.reopen();
        writer
    }

    fn reopen(&mut self) {
        self.file = File::options().create(true).append(true).open(self.folder.join("log")).ok();
        self.written = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }

    /// Writes one line. A disk that is full loses the line and never stops the task.
    pub fn line(&mut self, at: Time, is_error: bool, text: &[u8]) {
        let mut bytes = Vec::with_capacity(text.len() + 24);
        if self.dropped > 0 {
            let lost = self.dropped;
            let _ = writeln!(bytes, "{} e keel: {lost} lines lost, the disk was full", at.0);
        }
        let stream = if is_error { 'e' } else { 'o' };
        let _ = write!(bytes, "{} {stream} ", at.0);
        bytes.extend(text);
        bytes.push(b'\n');
        if self.written + bytes.len() as u64 > self.max_bytes {
            self.rotate();
        }
        match self.file.as_mut().map(|file| file.write_all(&bytes)) {
            Some(Ok(())) => {
                self.written += bytes.len() as u64;
                self.dropped = 0;
            }
            Some(Err(_)) | None => {
                self.dropped += 1;
                if self.file.is_none() {
                    self.reopen();
                }
            }
        }
    }

    fn rotate(&mut self) {
        for number in (1..self.max_files).rev() {
            let older = self.folder.join(format!("log.{number}"));
            let newer = match number {
                1 => self.folder.join("log"),
                _ => self.folder.join(format!("log.{}", number - 1)),
            };
            let _ = std::fs::rename(newer, older);
        }
        if self.max_files == 1 {
            let _ = std::fs::remove_file(self.folder.join("log"));
        }
        self.reopen();
    }
}

/// Reads a task's lines from the oldest kept one, and goes on where it stopped.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// Files still to read before `log`, oldest first.
    older: Vec<PathBuf>,
    current: Option<BufReader<File>>,
    is_last: bool,
    partial: String,
}

impl Reader {
    pub fn open(folder: &Path) -> Self {
        let mut older: Vec<PathBuf> = (1..100)
            .map(|number| folder.join(format!("log.{number}")))
            .take_while(|path| path.exists())
            .collect();
        older.reverse();
        let folder = folder.to_owned();
        Self { folder, older, current: None, is_last: false, partial: String::new() }
    }

    /// The next line; `None` when there is none now. Called again later it goes on.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(file) = self.current.as_mut() else { return Ok(None) };
            let mut bytes = Vec::new();
            file.read_until(b'\n', &mut bytes)?;
            self.partial.push_str(&String::from_utf8_lossy(&bytes));
            if self.partial.ends_with('\n') {
                let text = std::mem::take(&mut self.partial);
                if let Some(line) = parse(text.trim_end_matches('\n')) {
                    return Ok(Some(line));
                }
                continue;
            }
            if !self.is_last {
                self.current = None;
                continue;
            }
            if !self.was_rotated()? {
                return Ok(None);
            }
            self.current = None;
            self.is_last = false;
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let path = if self.older.is_empty() {
            self.is_last = true;
            self.folder.join("log")
        } else {
            self.older.remove(0)
        };
        match File::open(&path) {
            Ok(file) => {
                self.current = Some(BufReader::with_capacity(64 * 1024, file));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The file that is read is no longer the one that is written: it was rotated away.
    fn was_rotated(&mut self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Some(file) = self.current.as_mut() else { return Ok(false) };
        let ours = file.get_ref().metadata()?;
        let at = file.stream_position()?;
        let Ok(newest) = std::fs::metadata(self.folder.join("log")) else { return Ok(false) };
        // Lines may have been added between the last read and the rotation.
        if newest.ino() != ours.ino() && at < ours.len() {
            file.seek(SeekFrom::Start(at))?;
            return Ok(false);
        }
        Ok(newest.ino() != ours.ino())
    }
}

fn parse(line: &str) -> Option<Line> {
    let (at, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    Some(Line { at: Time(at.parse().ok()?), is_error: stream == "e", text: text.to_owned() })
}

/// The last `count` lines of a task, oldest first.
pub fn tail(folder: &Path, count: usize) -> Vec<Line> {
    let mut reader = Reader::open(folder);
    let mut last = std::collections::VecDeque::new();
    while let Ok(Some(line)) = reader.next_line() {
        if last.len() == count {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_rotation_in_order_and_old_ones_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), 200, 3);
        let mut reader = Reader::open(folder.path());
        let mut seen = Vec::new();
        for number in 0..100 {
            writer.line(Time(number), false, format!("line {number}").as_bytes());
            while let Some(line) = reader.next_line().expect("reads") {
                seen.push(line.at.0);
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let kept = tail(folder.path(), 1000);
        assert!(kept.len() < 60, "{} lines kept", kept.len());
        assert_eq!(kept.last().map(|line| line.text.as_str()), Some("line 99"));
    }
}
