//! Pseudo-terminals: opened here, made a command's own by a process of their own, read and written
//! without blocking.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::ExitCode,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::unix::AsyncFd;

/// The first argument of `keel` that says: run what follows on the terminal you were given.
pub const COMMAND: &str = "on-terminal";

/// Our end and the command's.
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Becomes the command, in a session of its own whose terminal is standard input.
pub fn become_command(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(program) = arguments.next() else { return ExitCode::FAILURE };
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(io::stdin().as_fd());
    let error = std::process::Command::new(&program).args(arguments).exec();
    let (code, text) = super::refusal(&program.to_string_lossy(), &error);
    eprintln!("{text}");
    ExitCode::from(u8::try_from(code).unwrap_or(126))
}

/// Our end of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps its promise of IO safety; the new name is unsafe"
    )]
    pub(crate) fn new(ours: OwnedFd) -> io::Result<Self> {
        Ok(Self(AsyncFd::new(ours)?))
    }

    /// What the command writes; 0 when nobody has the other end any more.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self
            .0
            .async_io(tokio::io::Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?));
        match read.await {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                Ok(0)
            }
            other => other,
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = self
                .0
                .async_io(tokio::io::Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?));
            bytes = &bytes[write.await?..];
        }
        Ok(())
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(self.0.get_ref(), size);
    }
}
