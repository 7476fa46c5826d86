//! `docker attach` and `docker run`: the connection becomes a container's output and input.

use std::{os::fd::AsRawFd, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use dockerapi::frame;
use http::StatusCode;
use orchestrator::TaskId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    Answer, Api, Call,
    connection::{Client, Connection, take_over},
    container::{Container, Kind},
    empty,
};
use crate::{
    driver::Driver,
    supervisor::console::{END_OF_INPUT, INPUT, RESIZE, SOCKET, order},
};

/// How long a client may be attached to a container that nobody starts.
const START: Duration = Duration::from_secs(60);
/// Between two looks whether it has started.
const LOOK: Duration = Duration::from_millis(4);

/// Which of the streams a client wants.
#[derive(Clone, Copy, Debug)]
struct Streams {
    input: bool,
    output: bool,
    errors: bool,
}

/// A client that waits for its container counts among those the supervisor waits for.
struct Expected {
    driver: Arc<dyn Driver>,
    id: TaskId,
}

impl Expected {
    fn new(driver: Arc<dyn Driver>, id: TaskId) -> Self {
        driver.expect(&id, true);
        Self { driver, id }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.driver.expect(&self.id, false);
    }
}

impl Api {
    pub(super) async fn attach(&self, key: &str, mut call: Call) -> Answer {
        let container = self.found(key).await?;
        let streams = Streams {
            input: call.is_set("stdin"),
            output: call.is_set("stdout"),
            errors: call.is_set("stderr"),
        };
        let (response, connection) =
            take_over(call.upgrade.take(), container.has_terminal(), streams.input)?;
        if let Kind::Task { .. } = container.kind {
            let pieces = self.follow(container.id.clone());
            tokio::spawn(pass_on(connection, pieces));
            return Ok(response);
        }
        // Counted before the client hears of it, and so before it starts the container.
        let expected = Expected::new(Arc::clone(&self.control.driver), container.id.clone());
        let api = self.clone();
        tokio::spawn(async move {
            let Some(mut client) = connection.open().await else { return };
            let console = api.console(&container).await;
            drop(expected);
            match console {
                Some(console) => join(client, console, streams, container.has_terminal()).await,
                None => drop(client.shutdown().await),
            }
        });
        Ok(response)
    }

    /// The console of a container that runs, or as soon as it does.
    async fn console(&self, container: &Container) -> Option<UnixStream> {
        let folder = self.tasks.join(&container.id.0);
        let started = Instant::now();
        loop {
            if let Ok(console) = connect(&folder).await {
                return Some(console);
            }
            let id = container.id.clone();
            let is_there = self.control.read(move |state| state.containers.contains_key(&id));
            if started.elapsed() > START || !is_there.await.unwrap_or(false) {
                return None;
            }
            sleep(LOOK.max(started.elapsed() / 50)).await;
        }
    }

    pub(super) async fn resize_container(&self, key: &str, call: &Call) -> Answer {
        let container = self.found(key).await?;
        let side = |name: &str| call.get(name).and_then(|value| value.parse::<u16>().ok());
        if let (Some(rows), Some(columns)) = (side("h"), side("w"))
            && let Ok(mut console) = connect(&self.tasks.join(&container.id.0)).await
        {
            let size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
            let _ = console.write_all(&order(RESIZE, &size)).await;
        }
        Ok(empty(StatusCode::OK))
    }
}

/// The socket's path may be longer than a socket's path can be: it is named by the folder's
/// descriptor.
async fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let open = std::fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd())).await
}

/// What a task says, to a client.
async fn pass_on(connection: Connection, mut pieces: tokio::sync::mpsc::Receiver<Bytes>) {
    let Some(mut client) = connection.open().await else { return };
    while let Some(piece) = pieces.recv().await {
        if client.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = client.shutdown().await;
}

/// Until the container ends or the client is gone.
async fn join(client: Box<dyn Client>, console: UnixStream, streams: Streams, has_terminal: bool) {
    let (from_client, to_client) = split(client);
    let (from_console, to_console) = split(console);
    let input = tokio::spawn(give(from_client, to_console, streams.input));
    take(from_console, to_client, streams, has_terminal).await;
    input.abort();
}

async fn give(
    mut client: ReadHalf<Box<dyn Client>>,
    mut console: WriteHalf<UnixStream>,
    is_wanted: bool,
) {
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(count) = client.read(&mut buffer).await {
        let said = match (count, is_wanted) {
            (0, true) => order(END_OF_INPUT, &[]),
            (_, true) => order(INPUT, &buffer[..count]),
            (_, false) => Vec::new(),
        };
        if console.write_all(&said).await.is_err() || count == 0 {
            break;
        }
    }
    // Dropping this half would end the output too.
    std::future::pending::<()>().await;
}

async fn take(
    mut console: ReadHalf<UnixStream>,
    mut client: WriteHalf<Box<dyn Client>>,
    streams: Streams,
    has_terminal: bool,
) {
    let takes_all = has_terminal || (streams.output && streams.errors);
    let mut decoder = frame::Decoder::default();
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(count) = console.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let mut wanted = Vec::new();
        if takes_all {
            wanted.extend(&buffer[..count]);
        } else {
            decoder.feed(&buffer[..count]);
            while let Some((stream, payload)) = decoder.next_frame() {
                let is_wanted = match stream {
                    frame::Stream::Stderr => streams.errors,
                    frame::Stream::Stdout | frame::Stream::System => streams.output,
                };
                if is_wanted {
                    wanted.extend(frame::encode(stream, &payload));
                }
            }
        }
        if client.write_all(&wanted).await.is_err() {
            return;
        }
    }
    let _ = client.shutdown().await;
}
