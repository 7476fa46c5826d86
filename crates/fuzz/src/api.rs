//! The Engine API: any bytes on its socket, against an engine of our own that runs no tasks.
//!
//! Input: what one connection sends. Every connection gets to its end, the engine answers others
//! afterwards, and what was made is removed again.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use dockerapi::Client;
use engine::{Config, Engine};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Runtime,
    sync::mpsc,
    time::timeout,
};

use crate::layer::scratch;

/// How long one connection may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an answer that goes on is read for.
const GLANCE: Duration = Duration::from_millis(20);
/// Answers that go on as long as somebody listens.
const ENDLESS: [&str; 4] = ["event", "logs", "stats", "wait"];

struct Stage {
    runtime: Runtime,
    client: Client,
    socket: std::path::PathBuf,
    _engine: Engine,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = scratch();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let state = folder.path().join("state");
        let keel = folder.path().join("no-keel");
        let engine = runtime.block_on(async {
            let (commands, mut asked) = mpsc::channel(64);
            let (events, told) = mpsc::channel(64);
            tokio::spawn(async move {
                let _kept = events;
                while asked.recv().await.is_some() {}
            });
            let stats = Arc::new(|| {
                let nothing: std::pin::Pin<Box<dyn Future<Output = Value> + Send>> =
                    Box::pin(async { Value::Null });
                nothing
            });
            let registries = engine::registry::Options { uses_hub: false, ..Default::default() };
            let config = Config { state: state.clone(), keel, ignores_limits: true, registries };
            Engine::start(&config, commands, told, stats).expect("starts")
        });
        let socket = state.join("run/engine.sock");
        let client = Client::new(&format!("unix://{}", socket.display())).expect("an address");
        Self { runtime, client, socket, _engine: engine, _folder: folder }
    }

    async fn connection(&self, data: &[u8]) {
        let is_endless = ENDLESS.iter().any(|word| {
            data.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
        });
        let mut stream = UnixStream::connect(&self.socket).await.expect("it listens");
        // One that is cut off while it writes is answered and cut off all the same.
        let _ = timeout(PATIENCE, stream.write_all(data)).await.expect("taken in time");
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let patience = if is_endless { GLANCE } else { PATIENCE };
        let read = timeout(patience, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok() || is_endless, "no end: {}", String::from_utf8_lossy(&answer));
        if !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
        }
    }

    /// The engine still answers, and has nothing left of what was asked.
    async fn sweep(&self) {
        // A request may have left the swarm; where none did, this is refused.
        let _ = self.client.post("/swarm/init", &json!({})).await;
        let containers = self.client.get("/containers/json?all=1").await.expect("listed");
        for container in containers.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().expect("an id");
            let path = format!("/containers/{id}?force=1");
            self.client.delete(&path).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        for service in self.client.services(&[]).await.expect("services are listed") {
            let id = service["ID"].as_str().expect("an id");
            self.client.remove_service(id).await.expect("removed");
        }
        for kind in ["configs", "secrets", "networks", "volumes"] {
            let listed = self.client.get(&format!("/{kind}")).await.expect("listed");
            let listed = listed.get("Volumes").unwrap_or(&listed).as_array().cloned();
            for object in listed.unwrap_or_default() {
                let id = ["ID", "Id", "Name"].iter().find_map(|key| object[*key].as_str());
                let path = format!("/{kind}/{}", dockerapi::client::escape(id.expect("an id")));
                match self.client.delete(&path).await {
                    Err(error) if error.to_string().contains("pre-defined") => {}
                    outcome => outcome.unwrap_or_else(|e| panic!("{path}: {e}")),
                }
            }
        }
        self.client.get("/images/json").await.expect("images are listed");
    }

    /// Something for the requests to find.
    async fn furnish(&self) {
        let spec = json!({
            "Name": "web",
            "TaskTemplate": { "ContainerSpec": { "Image": "web:1" }, "Networks": [] },
            "Mode": { "Replicated": { "Replicas": 0 } },
        });
        self.client.create_service(&spec).await.expect("made");
        let data = json!({ "Name": "c", "Data": "aGk=" });
        self.client.post("/configs/create", &data).await.expect("made");
    }
}

pub fn run(data: &[u8]) {
    static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();
    let stage = STAGE.get_or_init(|| Mutex::new(Stage::new()));
    let stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    stage.runtime.block_on(async {
        stage.furnish().await;
        stage.connection(data).await;
        stage.sweep().await;
    });
}
