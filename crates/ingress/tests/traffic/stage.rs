//! An ingress in this process, backends that can be killed, and a plain client.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ingress::{
    Config, Node,
    control::{Client, Command, Event},
    endpoint::Description,
    table::{Protocol, Route},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Stage {
    pub port: u16,
    folder: tempfile::TempDir,
    client: Client,
    events: mpsc::Receiver<Event>,
    shutdown: watch::Sender<bool>,
    running: JoinHandle<Result<(), ingress::Error>>,
}

fn config(folder: &Path, name: &str, node: Option<Node>) -> Config {
    Config {
        socket: folder.join(name),
        saved: folder.join("table.json"),
        address: [127, 0, 0, 1].into(),
        workers: 2,
        takes_over: None,
        node,
    }
}

/// An endpoint on this machine.
pub fn about(task: &str, port: u16) -> Description {
    Description {
        task: task.to_owned(),
        task_name: format!("s.1.{task}"),
        service: "s".to_owned(),
        release: String::new(),
        addresses: vec![(80, ([127, 0, 0, 1], port).into())],
        probation_ms: 0,
        peer: None,
        probe: None,
    }
}

async fn connect(socket: &Path) -> (Client, mpsc::Receiver<Event>) {
    let connected = timeout(PATIENCE, async {
        loop {
            match Client::connect(socket).await {
                Ok(connected) => return connected,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    connected.await.expect("the ingress listens")
}

impl Stage {
    /// With one published port and no endpoint.
    pub async fn new() -> Self {
        Self::on(None).await
    }

    /// The same, of a node among others.
    pub async fn on(node: Option<Node>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
            free.local_addr().expect("an address").port()
        };
        let (shutdown, ends) = watch::channel(false);
        let running = tokio::spawn(ingress::run(config(folder.path(), "one", node), ends));
        let (client, events) = connect(&folder.path().join("one")).await;
        let stage = Self { port, folder, client, events, shutdown, running };
        stage.routes(&[port]).await;
        let opened = timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        opened.await.expect("the port is opened");
        stage
    }

    /// The same folder and port, a new ingress that nobody has spoken to.
    pub async fn again(self) -> Self {
        let _ = self.shutdown.send(true);
        let (shutdown, ends) = watch::channel(false);
        let running = tokio::spawn(ingress::run(config(self.folder.path(), "two", None), ends));
        let (client, events) = connect(&self.folder.path().join("two")).await;
        Self { port: self.port, folder: self.folder, client, events, shutdown, running }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("one")
    }

    /// A successor takes over while everything goes on; the one before, until it ends.
    pub async fn upgrade(
        &mut self,
        workers: usize,
        within: Duration,
    ) -> JoinHandle<Result<(), ingress::Error>> {
        let config = Config {
            workers,
            takes_over: Some(within),
            // It is told by the one before.
            address: [127, 0, 0, 9].into(),
            ..config(self.folder.path(), "one", None)
        };
        let (shutdown, ends) = watch::channel(false);
        let running = tokio::spawn(ingress::run(config, ends));
        // Control is sent away by the one before.
        let closed = timeout(PATIENCE, async { while self.events.recv().await.is_some() {} });
        closed.await.expect("control is sent away");
        (self.client, self.events) = connect(&self.socket()).await;
        // The shutdown of the one before stays as it is: it ends by itself.
        std::mem::forget(std::mem::replace(&mut self.shutdown, shutdown));
        std::mem::replace(&mut self.running, running)
    }

    /// How many endpoints a task has.
    pub async fn endpoints(&self, task: &str) -> usize {
        let stats = self.client.stats().await.expect("stats");
        let all = stats["services"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|endpoint| endpoint["task"] == task).count()
    }

    /// Requests of the service, on all endpoints that it ever had.
    pub async fn requests(&self) -> u64 {
        let stats = self.client.stats().await.expect("stats");
        stats["services"][0]["requests"].as_u64().unwrap_or_default()
    }

    /// What the counters say of an endpoint.
    pub async fn shown(&self, task: &str) -> Value {
        let stats = self.client.stats().await.expect("stats");
        let services = stats["services"].as_array().cloned().unwrap_or_default();
        let mut endpoints =
            services.iter().flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
        endpoints.rfind(|e| e["task"] == task).cloned().unwrap_or_default()
    }

    /// Waits until an endpoint is in this state; in none when it is forgotten.
    pub async fn await_state(&self, task: &str, state: &str) {
        let reached = timeout(Duration::from_secs(20), async {
            while self.shown(task).await["state"].as_str().unwrap_or_default() != state {
                tokio::task::yield_now().await;
            }
        });
        assert!(reached.await.is_ok(), "{task} is {}, not {state}", self.shown(task).await);
    }

    /// No event has come.
    pub fn is_quiet(&mut self) -> bool {
        matches!(self.events.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }

    pub async fn tell(&self, command: Command) {
        self.client.send(&command).await.expect("told");
    }

    pub async fn routes(&self, ports: &[u16]) {
        let route = |port: &u16| Route {
            published_port: *port,
            target_port: 80,
            protocol: Protocol::Http,
            service: "s".to_owned(),
            address: None,
        };
        self.tell(Command::Routes { routes: ports.iter().map(route).collect() }).await;
    }

    /// Publishes and waits for the acknowledgement.
    pub async fn publish(&mut self, backend: &Backend) {
        self.publish_on_probation(backend, Duration::ZERO).await;
    }

    pub async fn publish_on_probation(&mut self, backend: &Backend, probation: Duration) {
        let endpoint = Description {
            probation_ms: u64::try_from(probation.as_millis()).expect("small"),
            ..about(&backend.name, backend.port)
        };
        self.tell(Command::Publish { endpoint }).await;
        assert_eq!(self.next().await, Event::Published { task: backend.name.clone() });
    }

    pub async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("connected")
    }

    /// Waits until the table on disk names the task.
    pub async fn await_saved(&self, task: &str) {
        let path = self.folder.path().join("table.json");
        let saved = timeout(PATIENCE, async {
            while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(task)) {
                tokio::task::yield_now().await;
            }
        });
        saved.await.expect("the table is saved");
    }
}

/// A server that answers with its name, `/slow` only when it is released, and echoes on `/ws`.
pub struct Backend {
    pub name: String,
    pub port: u16,
    /// Requests that it has read.
    pub seen: Arc<AtomicUsize>,
    arrived: Arc<Semaphore>,
    released: Arc<Semaphore>,
    alive: watch::Sender<bool>,
}

impl Backend {
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, 0).await
    }

    pub async fn start_at(name: &str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (alive, dies) = watch::channel(true);
        let backend = Self {
            name: name.to_owned(),
            port,
            seen: Arc::default(),
            arrived: Arc::new(Semaphore::new(0)),
            released: Arc::new(Semaphore::new(0)),
            alive,
        };
        let (name, seen) = (backend.name.clone(), Arc::clone(&backend.seen));
        let (arrived, released) = (Arc::clone(&backend.arrived), Arc::clone(&backend.released));
        let mut dies = dies;
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    Ok((stream, _)) = listener.accept() => stream,
                    _ = dies.wait_for(|alive| !alive) => break,
                };
                let (name, seen) = (name.clone(), Arc::clone(&seen));
                let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
                connections.spawn(async move {
                    let _ = serve(stream, &name, &seen, &arrived, &released).await;
                });
            }
            connections.abort_all();
        });
        backend
    }

    /// One more request has arrived.
    pub async fn await_request(&self) {
        let permit = timeout(PATIENCE, self.arrived.acquire()).await.expect("in time");
        permit.expect("open").forget();
    }

    pub fn release(&self) {
        self.released.add_permits(1000);
    }

    /// All its connections end at once.
    pub fn kill(&self) {
        let _ = self.alive.send(false);
    }
}

async fn serve(
    stream: TcpStream,
    name: &str,
    seen: &AtomicUsize,
    arrived: &Semaphore,
    released: &Semaphore,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|t| t.lines().next());
        let mut body = vec![0; length.and_then(|l| l.trim().parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        seen.fetch_add(1, Ordering::SeqCst);
        if head.contains(" /ws ") {
            let answer = "HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n";
            stream.get_mut().write_all(answer.as_bytes()).await?;
            let (mut from, mut to) = stream.into_inner().into_split();
            tokio::io::copy(&mut from, &mut to).await?;
            return Ok(());
        }
        arrived.add_permits(1);
        if head.contains(" /slow ") {
            released.acquire().await.expect("open").forget();
        }
        let text = if head.contains(" /headers ") { head.clone() } else { name.to_owned() };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

pub async fn get(port: u16, path: &'static str) -> String {
    request(port, "GET", path, "").await
}

pub async fn try_get(port: u16, path: &str) -> io::Result<String> {
    talk(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

pub async fn request(
    port: u16,
    method: &'static str,
    path: &'static str,
    body: &'static str,
) -> String {
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    raw(port, &text).await
}

/// Sends bytes as they are and reads to the end.
pub async fn raw(port: u16, text: &str) -> String {
    timeout(Duration::from_secs(20), talk(port, text)).await.expect("in time").expect("answered")
}

async fn talk(port: u16, text: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
