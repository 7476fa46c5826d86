//! The server: run until it ends or is told to. Either stop signal is a fast shutdown: open
//! transactions are rolled back, and nothing that was acknowledged is lost.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    low_level::pipe,
};

use crate::{
    owner::{Owner, command},
    settings::{PROGRAMS, Settings},
};

/// How often the server's end is looked for.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(settings: &Settings, owner: Option<Owner>) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut server = command(&format!("{PROGRAMS}/postgres"), owner);
    server.arg("-D").arg(&settings.data).args(["-p", &settings.port.to_string()]);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
    server.arg(format!("unix_socket_directories={}", settings.data.display()));
    let mut server = server.current_dir("/").spawn().context("start the server")?;
    loop {
        if let Some(status) = server.try_wait().context("wait for the server")? {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if let Some(signal) = signals.next(LOOK)? {
            pass_on(&server, signal);
        }
    }
}

fn pass_on(server: &Child, signal: i32) {
    let signal = match signal {
        SIGHUP => Signal::HUP,
        SIGQUIT => Signal::QUIT,
        _ => Signal::INT,
    };
    if let Some(pid) = Pid::from_raw(server.id().cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Signals that came, one byte each in a pipe of its own.
struct Signals(Vec<(i32, std::os::unix::net::UnixStream)>);

impl Signals {
    fn new() -> Result<Self> {
        let all = [SIGTERM, SIGINT, SIGQUIT, SIGHUP].into_iter().map(|signal| {
            let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            pipe::register(signal, writer)?;
            Ok((signal, reader))
        });
        all.collect::<std::io::Result<_>>().map(Self).context("listen for signals")
    }

    /// The next one, waited for so long.
    fn next(&mut self, patience: Duration) -> Result<Option<i32>> {
        use std::io::Read;

        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds: Vec<PollFd<'_>> =
            self.0.iter().map(|(_, reader)| PollFd::new(reader, PollFlags::IN)).collect();
        let patience = rustix::time::Timespec::try_from(patience).ok();
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for signals"),
        }
        drop(fds);
        let came = |(signal, reader): &mut (i32, std::os::unix::net::UnixStream)| {
            matches!(reader.read(&mut [0]), Ok(1)).then_some(*signal)
        };
        Ok(self.0.iter_mut().find_map(came))
    }
}
