//! The pipe to a running `ssh`, which ends with it.
//!
//! ```text
//! Pipe ── dropped ──▶ keeper: waits a moment for `ssh` to end by itself, then kills it
//! Watch ◀── how it ended, what it said ── keeper
//! ```

use std::{
    io,
    pin::Pin,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::{oneshot, watch},
    time::timeout,
};

/// How long `ssh` has to end after its pipe is closed. It may be the master of other connections,
/// which a kill would take along.
const GRACE: Duration = Duration::from_secs(2);
/// How much of what `ssh` says is kept.
const SAID_BYTES: usize = 4 << 10;
/// How much of it an error shows.
const SHOWN_CHARS: usize = 400;

/// Reads and writes the engine's bytes.
#[derive(Debug)]
pub(in crate::client) struct Pipe {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Dropped with the pipe: the keeper ends the process.
    _held: oneshot::Sender<()>,
}

/// How the process ends, for whoever wants to know.
#[derive(Debug)]
pub(in crate::client) struct Watch {
    ended: watch::Receiver<Option<Option<ExitStatus>>>,
    said: Arc<Mutex<Vec<u8>>>,
}

/// Takes a process with three pipes into care.
pub(super) fn join(mut child: Child) -> io::Result<(Pipe, Watch)> {
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("the pipes to ssh are not there"));
    };
    let (held, dropped) = oneshot::channel();
    let (ends, ended) = watch::channel(None);
    let said = Arc::default();
    tokio::spawn(keep(child, stderr, Arc::clone(&said), dropped, ends));
    Ok((Pipe { stdin: Some(stdin), stdout, _held: held }, Watch { ended, said }))
}

async fn keep(
    mut child: Child,
    stderr: ChildStderr,
    said: Arc<Mutex<Vec<u8>>>,
    dropped: oneshot::Receiver<()>,
    ends: watch::Sender<Option<Option<ExitStatus>>>,
) {
    let mut hearing = tokio::spawn(hear(stderr, said));
    let status = tokio::select! {
        status = child.wait() => status.ok(),
        _ = dropped => match timeout(GRACE, child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = child.start_kill();
                child.wait().await.ok()
            }
        },
    };
    // A master that went into the background may hold the pipe open: not waited for.
    let _ = timeout(Duration::from_millis(100), &mut hearing).await;
    hearing.abort();
    ends.send_replace(Some(status));
}

/// Keeps the last that is said.
async fn hear(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&piece[..count]);
        let surplus = said.len().saturating_sub(SAID_BYTES);
        said.drain(..surplus);
    }
}

impl Watch {
    /// The exit status, `None` when it still runs after `within`; and what was said.
    pub(super) async fn ended(mut self, within: Duration) -> (Option<ExitStatus>, String) {
        let ended = timeout(within, self.ended.wait_for(Option::is_some)).await;
        let status = match ended {
            Ok(Ok(status)) => status.flatten(),
            Ok(Err(_)) | Err(_) => None,
        };
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        (status, shown(&said))
    }
}

/// In one line, without what could steer a terminal.
fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().map(|line| line.replace(char::is_control, "")).collect::<Vec<_>>();
    // The far keel's advice is for whoever sits there.
    let counts = |line: &&str| !line.is_empty() && !line.starts_with("hint: ");
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(counts).collect();
    let text = lines.join(" / ");
    let surplus = text.chars().count().saturating_sub(SHOWN_CHARS);
    text.chars().skip(surplus).collect()
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The other side reads an end, and may still answer.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_shown_in_one_harmless_line() {
        let said = b"\x1b[31mWarning: x\x07\r\n\nhost: Permission denied (publickey).\n";
        assert_eq!(shown(said), "[31mWarning: x / host: Permission denied (publickey).");
        assert_eq!(shown(&vec![b'a'; 5000]).len(), SHOWN_CHARS);
    }
}
