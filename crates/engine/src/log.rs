//! A task's log: lines with time and stream, in files that are rotated and bounded.
//!
//! One line is `<unix nanoseconds> <o|e> <text>`. `log` is written to, `log.1` is the one before.

mod reader;

use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use orchestrator::Time;

pub use reader::Reader;

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
    /// Times never go back within a log, whatever the clock does.
    last: Time,
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
            last: Time(0),
        };
        writer.reopen();
        writer
    }

    fn reopen(&mut self) {
        self.file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.folder.join("log"))
            .ok();
        self.written = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }

    /// Writes one line. A disk that is full loses the line and never stops the task.
    pub fn line(&mut self, at: Time, is_error: bool, text: &[u8]) {
        let at = at.max(self.last);
        self.last = at;
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
            Some(Err(_)) => {
                self.dropped += 1;
                // Half a line would be read as the beginning of the next.
                let _ = self.file.as_ref().map(|file| file.set_len(self.written));
            }
            None => {
                self.dropped += 1;
                self.reopen();
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
    fn a_reader_that_sleeps_through_rotations_misses_nothing_that_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), 200, 4);
        let mut reader = Reader::open(folder.path());
        writer.line(Time(0), false, b"line 0");
        assert_eq!(reader.next_line().expect("reads").map(|line| line.at), Some(Time(0)));
        // Three more files' worth, so that the reader's own has moved by three places.
        for number in 1..45 {
            writer.line(Time(number), false, format!("line {number}").as_bytes());
        }
        let mut seen = Vec::new();
        while let Some(line) = reader.next_line().expect("reads") {
            seen.push(line.at.0);
        }
        let kept: Vec<u64> = tail(folder.path(), 1000).iter().map(|line| line.at.0).collect();
        assert!(seen.is_sorted(), "{seen:?}");
        assert!(seen.ends_with(&kept) || kept.ends_with(&seen), "{seen:?} {kept:?}");
        assert_eq!(seen, (1..45).collect::<Vec<_>>());
    }

    #[test]
    fn a_character_cut_by_two_reads_stays_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut reader = Reader::open(folder.path());
        let path = folder.path().join("log");
        let line = "7 o grün\n".as_bytes();
        std::fs::write(&path, &line[..7]).expect("written");
        assert_eq!(reader.next_line().expect("reads"), None);
        let mut file = File::options().append(true).open(&path).expect("opened");
        file.write_all(&line[7..]).expect("written");
        let read = reader.next_line().expect("reads").expect("a line");
        assert_eq!(read.text, "grün");
    }

    #[test]
    fn times_in_a_log_never_go_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::open(folder.path(), 1 << 20, 2);
        writer.line(Time(9), false, b"first");
        writer.line(Time(3), true, b"second");
        let times: Vec<Time> = tail(folder.path(), 9).iter().map(|line| line.at).collect();
        assert_eq!(times, [Time(9), Time(9)]);
    }

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
