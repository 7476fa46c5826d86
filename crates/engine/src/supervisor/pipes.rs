//! The task's output: two pipes or a terminal, cut into lines and logged, told to attached clients,
//! waited for without a thread.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Child,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use super::console::Clients;
use crate::log;

/// How often clients that take nothing are looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Pipes {
    stdout: Option<Lines>,
    stderr: Option<Lines>,
    clients: Option<Clients>,
}

impl Pipes {
    pub(super) fn of(
        child: &mut Child,
        terminal: Option<OwnedFd>,
        mut clients: Option<Clients>,
    ) -> Self {
        let input = match &terminal {
            Some(terminal) => terminal.try_clone().ok(),
            None => child.stdin.take().map(OwnedFd::from),
        };
        if let Some(clients) = &mut clients {
            clients.give(input, terminal.as_ref().and_then(|own| own.try_clone().ok()));
        }
        let stdout = child.stdout.take().map(OwnedFd::from).or(terminal);
        let stdout = stdout.map(|pipe| Lines::new(pipe, false));
        let stderr = child.stderr.take().map(|pipe| Lines::new(OwnedFd::from(pipe), true));
        Self { stdout, stderr, clients }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// A client has more to take before there is room for more output.
    pub(super) fn is_waited_for(&self) -> bool {
        self.clients.as_ref().is_some_and(Clients::is_full)
    }

    /// Waits for output, for the process to end (true then), or for `wait` to pass, and logs what
    /// came.
    pub(super) fn pump(
        &mut self,
        ends: Option<impl AsFd>,
        wait: Option<Duration>,
        log: &mut log::Writer,
    ) -> bool {
        let is_full = self.is_waited_for();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(3);
        for lines in [&self.stdout, &self.stderr].into_iter().flatten().filter(|_| !is_full) {
            fds.push(PollFd::new(&lines.pipe, PollFlags::IN));
        }
        let ends = ends.as_ref().map(AsFd::as_fd);
        if let Some(ends) = &ends {
            fds.push(PollFd::new(ends, PollFlags::IN));
        }
        let wants: Vec<(BorrowedFd<'_>, bool, bool)> =
            self.clients.as_ref().map(Clients::wants).unwrap_or_default();
        for (fd, reads, writes) in &wants {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, *reads);
            flags.set(PollFlags::OUT, *writes);
            fds.push(PollFd::new(fd, flags));
        }
        let wait = if is_full { Some(wait.unwrap_or(LOOK).min(LOOK)) } else { wait };
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        // A signal that is ignored interrupts too.
        if poll(&mut fds, wait.as_ref()).is_err() {
            return false;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        drop(wants);
        let mut ready = ready.into_iter();
        for lines in [&mut self.stdout, &mut self.stderr].into_iter().filter(|_| !is_full) {
            let Some(open) = lines else { continue };
            if ready.next() == Some(true) && !open.read(log, &mut self.clients) {
                open.flush(log);
                *lines = None;
            }
        }
        let has_ended = ends.is_some() && ready.next() == Some(true);
        if let Some(clients) = self.clients.as_mut().filter(|_| is_full || ready.any(|is| is)) {
            clients.turn();
        }
        has_ended
    }

    /// Logs what is left, and gives attached clients what they have not taken yet.
    pub(super) fn finish(mut self, log: &mut log::Writer, deadline: Instant) {
        for lines in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            lines.flush(log);
        }
        if let Some(clients) = self.clients {
            clients.finish(deadline);
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
    fn read(&mut self, log: &mut log::Writer, clients: &mut Option<Clients>) -> bool {
        let mut buffer = [0_u8; 8192];
        let count = match self.pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => {
                let again = [std::io::ErrorKind::Interrupted, std::io::ErrorKind::WouldBlock];
                return again.contains(&error.kind());
            }
        };
        if let Some(clients) = clients {
            clients.tell(self.is_error, &buffer[..count]);
        }
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
