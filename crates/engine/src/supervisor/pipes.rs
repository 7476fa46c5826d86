//! The task's output: two pipes, cut into lines and logged, waited for without a thread.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    process::Child,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use crate::log;

pub(super) struct Pipes {
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

impl Pipes {
    pub(super) fn of(child: &mut Child) -> Self {
        let stdout = child.stdout.take().map(|pipe| Lines::new(OwnedFd::from(pipe), false));
        let stderr = child.stderr.take().map(|pipe| Lines::new(OwnedFd::from(pipe), true));
        Self { stdout, stderr }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Waits for output, for the process to end (true then), or for `wait` to pass, and logs what
    /// came.
    pub(super) fn pump(
        &mut self,
        ends: Option<impl AsFd>,
        wait: Option<Duration>,
        log: &mut log::Writer,
    ) -> bool {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        for lines in [&self.stdout, &self.stderr].into_iter().flatten() {
            fds.push(PollFd::new(&lines.pipe, PollFlags::IN));
        }
        let ends = ends.as_ref().map(AsFd::as_fd);
        if let Some(ends) = &ends {
            fds.push(PollFd::new(ends, PollFlags::IN));
        }
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        // A signal that is ignored interrupts too.
        if poll(&mut fds, wait.as_ref()).is_err() {
            return false;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut ready = ready.into_iter();
        for lines in [&mut self.stdout, &mut self.stderr] {
            let Some(open) = lines else { continue };
            if ready.next() == Some(true) && !open.read(log) {
                open.flush(log);
                *lines = None;
            }
        }
        ready.next() == Some(true)
    }

    pub(super) fn flush(&mut self, log: &mut log::Writer) {
        for lines in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            lines.flush(log);
        }
    }
}

/// One pipe, cut into lines.
struct Lines {
    pipe: File,
    is_error: bool,
    partial: Vec<u8>,
}

impl Lines {
    fn new(pipe: OwnedFd, is_error: bool) -> Self {
        Self { pipe: File::from(pipe), is_error, partial: Vec::new() }
    }

    /// Reads what is there; false at the end.
    fn read(&mut self, log: &mut log::Writer) -> bool {
        let mut buffer = [0_u8; 8192];
        let count = match self.pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == std::io::ErrorKind::Interrupted,
        };
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.add(text, log);
            if is_whole {
                self.end_line(log);
            }
        }
        true
    }

    /// A line that is too long is logged in pieces.
    fn add(&mut self, mut text: &[u8], log: &mut log::Writer) {
        while self.partial.len() + text.len() > log::LINE_LIMIT {
            let (now, later) = text.split_at(log::LINE_LIMIT - self.partial.len());
            self.partial.extend(now);
            self.end_line(log);
            text = later;
        }
        self.partial.extend(text);
    }

    fn end_line(&mut self, log: &mut log::Writer) {
        log.line(dockerapi::stamp::now(), self.is_error, &self.partial);
        self.partial.clear();
    }

    fn flush(&mut self, log: &mut log::Writer) {
        if !self.partial.is_empty() {
            self.end_line(log);
        }
    }
}
