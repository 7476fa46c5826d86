//! Control's side of the connection.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};

use super::{Command, Event};

const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("talk to the ingress: {0}")]
    Io(#[from] io::Error),
    #[error("the ingress did not answer within 5 s")]
    TimedOut,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// An open connection to an ingress.
#[derive(Clone, Debug)]
pub struct Client {
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
    waiting: Waiting,
    ids: Arc<AtomicU64>,
}

impl Client {
    /// Connects; events come from the receiver until the connection ends.
    pub async fn connect(path: &Path) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        Ok(Self::over(UnixStream::connect(path).await?, Vec::new()))
    }

    /// Goes on with a connection of which some bytes are read already.
    pub(crate) fn over(stream: UnixStream, read: Vec<u8>) -> (Self, mpsc::Receiver<Event>) {
        let (reader, writer) = stream.into_split();
        let reader = io::Cursor::new(read).chain(reader);
        let (events, receiver) = mpsc::channel(256);
        let waiting = Waiting::default();
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<Event>(&line) {
                    Ok(Event::Stats { id, stats }) => {
                        let waiting =
                            answered.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                        if let Some(waiting) = waiting {
                            let _ = waiting.send(stats);
                        }
                    }
                    Ok(event) => {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the ingress said something unknown"),
                }
            }
        });
        let writer = Arc::new(AsyncMutex::new(writer));
        (Self { writer, waiting, ids: Arc::default() }, receiver)
    }

    pub async fn send(&self, command: &Command) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(command).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut writer = self.writer.lock().await;
        timeout(ANSWER, writer.write_all(&line)).await.map_err(|_| ClientError::TimedOut)??;
        Ok(())
    }

    /// The counters of everything.
    pub async fn stats(&self) -> Result<Value, ClientError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        self.send(&Command::Stats { id }).await?;
        match timeout(ANSWER, answered).await {
            Ok(Ok(stats)) => Ok(stats),
            _ => Err(ClientError::TimedOut),
        }
    }
}
