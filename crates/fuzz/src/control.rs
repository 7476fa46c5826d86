//! What an engine answers to our client, and what control and ingress say to each other. The first
//! byte says which.

use std::{cell::OnceCell, time::Duration};

use dockerapi::{
    Client,
    client::{Kind, LogQuery},
};
use ingress::control::{Command, Event};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    runtime::Runtime,
    time::timeout,
};

use crate::layer::scratch;

const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'j' | b'l' | b'e' | b'p' => client(*kind, rest),
        b'i' => words(rest),
        _ => {}
    }
}

/// Words that are understood mean the same when they are said again.
fn words(bytes: &[u8]) {
    if let Ok(command) = serde_json::from_slice::<Command>(bytes) {
        let said = serde_json::to_vec(&command).expect("can be said");
        let again: Command = serde_json::from_slice(&said).expect("understood again");
        assert_eq!(command, again);
        if let Command::Drain { drain } = command {
            let _ = (drain.requests(), drain.upgraded());
        }
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        let said = serde_json::to_vec(&event).expect("can be said");
        assert_eq!(event, serde_json::from_slice(&said).expect("understood again"));
    }
}

struct Stage {
    runtime: Runtime,
    listener: UnixListener,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = scratch();
        let path = folder.path().join("s");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(async { UnixListener::bind(&path).expect("listens") });
        let client = Client::new(&format!("unix://{}", path.display())).expect("an address");
        Self { runtime, listener, client, _folder: folder }
    }
}

/// Every call comes to an end with a value or an error, whatever the other side says.
fn client(kind: u8, bytes: &[u8]) {
    thread_local! {
        static STAGE: OnceCell<Stage> = const { OnceCell::new() };
    }
    STAGE.with(|stage| {
        let Stage { runtime, listener, client, .. } = stage.get_or_init(Stage::new);
        // A call may ask more than once: every time it hears the same.
        let other_side = async {
            loop {
                let (mut stream, _) = listener.accept().await.expect("called");
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(bytes).await;
            }
        };
        let us = async {
            match kind {
                b'l' => {
                    let query = LogQuery {
                        timestamps: bytes.len().is_multiple_of(2),
                        ..LogQuery::default()
                    };
                    let Ok(mut lines) = client.service_logs("a", &query).await else { return };
                    while let Ok(Some(line)) = lines.next().await {
                        assert!(!line.text.ends_with('\n') || line.text.len() > 1);
                    }
                }
                b'e' => {
                    let Ok(mut pieces) = client.stream("/events").await else { return };
                    while let Ok(Some(_)) = pieces.next().await {}
                }
                b'p' => drop(client.clone().negotiate().await),
                _ => {
                    if let Err(error) = client.blobs(Kind::Config, &[]).await {
                        assert!(!error.to_string().is_empty() && !error.code().is_empty());
                    }
                }
            }
        };
        runtime.block_on(async {
            let both = async {
                tokio::select! {
                    () = us => {}
                    () = other_side => {}
                }
            };
            timeout(PATIENCE, both).await.expect("comes to an end");
        });
    });
}
