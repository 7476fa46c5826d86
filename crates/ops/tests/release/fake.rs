//! An engine that is told how its tasks will behave: a Docker API over a unix socket, all in
//! memory. It acts only when it is asked, so a test sees the same history every time.

mod answer;
mod swarm;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use dockerapi::Client;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixListener;

pub use swarm::{Behaviour, Swarm};

/// Called before a write is carried out, with `POST /services/ala_api/update` and the like.
type OnWrite = Box<dyn FnMut(&str, &mut Swarm) + Send>;

pub struct Fake {
    swarm: Arc<Mutex<Swarm>>,
    hook: Arc<Mutex<Option<OnWrite>>>,
    socket: PathBuf,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
    _folder: tempfile::TempDir,
}

impl Fake {
    /// Starts an engine without services or images.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("engine.sock");
        let fake = Self {
            swarm: Arc::default(),
            hook: Arc::default(),
            socket,
            serving: Mutex::new(None),
            _folder: folder,
        };
        fake.listen();
        fake
    }

    fn listen(&self) {
        let listener = UnixListener::bind(&self.socket).expect("the socket is free");
        let (swarm, hook) = (Arc::clone(&self.swarm), Arc::clone(&self.hook));
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (swarm, hook) = (Arc::clone(&swarm), Arc::clone(&hook));
                if swarm.lock().unwrap_or_else(PoisonError::into_inner).is_cut() {
                    continue;
                }
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (swarm, hook) = (Arc::clone(&swarm), Arc::clone(&hook));
                        async move { respond(request, &swarm, &hook).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        *self.serving.lock().expect("not poisoned") = Some(serving);
    }

    /// The engine dies: connections are refused. What it knows stays.
    pub fn kill(&self) {
        if let Some(serving) = self.serving.lock().expect("not poisoned").take() {
            serving.abort();
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// It starts again.
    pub fn revive(&self) {
        self.listen();
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.host()).await.expect("the fake engine answers")
    }

    /// What the engine knows, to look at or to change.
    pub fn swarm<T>(&self, look: impl FnOnce(&mut Swarm) -> T) -> T {
        look(&mut self.swarm.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `hook` before each write.
    pub fn on_write(&self, hook: impl FnMut(&str, &mut Swarm) + Send + 'static) {
        *self.hook.lock().expect("not poisoned") = Some(Box::new(hook));
    }

    /// All writes so far, as `POST /services/ala_api/update api:2`.
    pub fn writes(&self) -> Vec<String> {
        self.swarm(|swarm| swarm.writes.clone())
    }

    /// The writes to services only.
    pub fn service_writes(&self) -> Vec<String> {
        let writes = self.writes().into_iter();
        writes.filter(|write| write.contains(" /services/")).collect()
    }
}

async fn respond(
    request: Request<Incoming>,
    swarm: &Mutex<Swarm>,
    hook: &Mutex<Option<OnWrite>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let path = answer::without_version(head.uri.path());
    let query = answer::query(head.uri.query().unwrap_or(""));
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut swarm = swarm.lock().unwrap_or_else(PoisonError::into_inner);
    if head.method != http::Method::GET && head.method != http::Method::HEAD {
        let what = format!("{} {}", head.method, swarm.with_names(&path));
        if let Some(hook) = hook.lock().expect("not poisoned").as_mut() {
            hook(&what, &mut swarm);
        }
        let image = body.pointer("/TaskTemplate/ContainerSpec/Image").and_then(Value::as_str);
        let name = body.get("Name").and_then(Value::as_str).filter(|_| path.ends_with("/create"));
        let about = name.into_iter().chain(image).map(|text| format!(" {text}"));
        swarm.writes.push(what + &about.collect::<String>());
    }
    let answered = answer::answer(&mut swarm, head.method.as_str(), &path, &query, &body, &bytes);
    let (status, value) = answered.unwrap_or_else(|(status, message)| {
        (status, serde_json::json!({ "message": message }))
    });
    let text = if value.is_null() { String::new() } else { value.to_string() };
    let response = Response::builder()
        .status(status)
        .header("Api-Version", "1.47")
        .header("Content-Type", "application/json")
        .body(Full::new(Bytes::from(text)))
        .expect("a valid response");
    Ok(response)
}
