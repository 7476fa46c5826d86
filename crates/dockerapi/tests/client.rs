//! The client against a small server: versions, errors, an engine that is away for a moment.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use dockerapi::{
    Client, ClientError,
    client::{Kind, LogQuery},
    frame::{Stream, encode},
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use net::{Limits, serve, unix_listener};
use tokio::sync::watch;

struct Server {
    folder: tempfile::TempDir,
    seen: Arc<Mutex<Vec<String>>>,
    shutdown: watch::Sender<bool>,
}

impl Server {
    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("a.sock")
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("unpoisoned").clone()
    }
}

fn answer(method: &str, path: &str) -> (u16, Vec<u8>) {
    match (method, path.split('?').next().unwrap_or("")) {
        ("GET", "/_ping") => (200, b"OK".to_vec()),
        ("GET", "/v1.41/services") => (200, br#"[{"ID":"s","Later":{"a":1}}]"#.to_vec()),
        ("GET", "/v1.41/services/gone") => {
            (404, b"{\"message\":\"service gone not found\"}\n".to_vec())
        }
        ("POST", "/v1.41/services/a%2Fb/update") => (200, br#"{"Warnings":null}"#.to_vec()),
        ("POST", "/v1.41/configs/create") => (201, br#"{"ID":"c"}"#.to_vec()),
        ("POST", "/v1.41/images/load") => {
            (200, b"{\"stream\":\"Loaded image: a:1\\n\"}\n{\"error\":\"bad layer\"}\n".to_vec())
        }
        ("GET", "/v1.41/services/s/logs") => {
            let mut frames = encode(Stream::Stdout, b"com.docker.swarm.task.id=t one\n");
            frames.extend(encode(Stream::Stderr, b"com.docker.swarm.task.id=u two\n"));
            (200, frames)
        }
        _ => (500, b"not json".to_vec()),
    }
}

fn listen(path: &Path, seen: &Arc<Mutex<Vec<String>>>) -> watch::Sender<bool> {
    let listener = unix_listener(path, 0o600).expect("listens");
    let (shutdown, ends) = watch::channel(false);
    let seen = Arc::clone(seen);
    let respond = move |request: Request<Incoming>| {
        let target = request.uri().to_string();
        let (status, body) = answer(request.method().as_str(), &target);
        seen.lock().expect("unpoisoned").push(format!("{} {target}", request.method()));
        async move {
            let _ = request.into_body().collect().await;
            let body = Full::new(Bytes::from(body)).map_err(|e: Infallible| match e {}).boxed();
            let mut response: Response<_> = Response::new(body);
            *response.status_mut() = status.try_into().expect("a status");
            response.headers_mut().insert("Api-Version", "1.41".parse().expect("a value"));
            response
        }
    };
    tokio::spawn(serve::<_, _, _, Infallible>(listener, Limits::default(), ends, respond));
    shutdown
}

fn start() -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let seen = Arc::default();
    let shutdown = listen(&folder.path().join("a.sock"), &seen);
    Server { folder, seen, shutdown }
}

#[tokio::test]
async fn the_version_is_agreed_and_every_path_carries_it() {
    let server = start();
    let client = Client::connect(&server.host()).await.expect("connects");
    assert_eq!(client.api_version(), "1.41");
    let services = client.services(&[("label", "a=b")]).await.expect("listed");
    assert_eq!(services[0]["Later"]["a"], 1);
    client.update_service("a/b", 7, &services[0], None).await.expect("updated");
    let id = client.create_blob(Kind::Config, &services[0]).await.expect("created");
    assert_eq!(id, "c");
    let filters = "%7B%22label%22%3A%7B%22a%3Db%22%3Atrue%7D%7D";
    assert_eq!(
        server.seen(),
        [
            "GET /_ping".to_owned(),
            format!("GET /v1.41/services?status=true&filters={filters}"),
            "POST /v1.41/services/a%2Fb/update?version=7".to_owned(),
            "POST /v1.41/configs/create".to_owned(),
        ]
    );
}

#[tokio::test]
async fn an_error_is_said_in_the_engines_words() {
    let server = start();
    let client = Client::connect(&server.host()).await.expect("connects");
    let error = client.service("gone").await.expect_err("not there");
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "service gone not found");
    let odd = client.version().await.expect_err("refused");
    assert!(matches!(&odd, ClientError::Api { message, .. } if message == "not json"), "{odd:?}");
}

#[tokio::test]
async fn an_image_that_fails_within_a_good_answer_fails() {
    let server = start();
    let client = Client::connect(&server.host()).await.expect("connects");
    let archive = server.folder.path().join("a.tar");
    std::fs::write(&archive, vec![0; 600_000]).expect("written");
    let error = client.load_image(&archive).await.expect_err("a bad layer");
    assert_eq!(error.to_string(), "bad layer");
    let missing = client.load_image(Path::new("/nowhere.tar")).await.expect_err("no file");
    assert!(missing.to_string().contains("/nowhere.tar"));
}

#[tokio::test]
async fn log_lines_come_with_their_task() {
    let server = start();
    let client = Client::connect(&server.host()).await.expect("connects");
    let mut logs = client.service_logs("s", &LogQuery::default()).await.expect("opens");
    let mut lines = Vec::new();
    while let Some(line) = logs.next().await.expect("reads") {
        lines.push((line.stream, line.task, line.text));
    }
    let line = |stream, task: &str, text: &str| (stream, task.to_owned(), text.to_owned());
    assert_eq!(lines, [line(Stream::Stdout, "t", "one"), line(Stream::Stderr, "u", "two")]);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named_with_the_next_step() {
    let error = Client::connect("unix:///nowhere/engine.sock").await.expect_err("not there");
    assert!(matches!(error, ClientError::NotReachable { .. }));
    assert!(error.to_string().contains("unix:///nowhere/engine.sock"));
    assert!(error.hint().is_some_and(|hint| hint.contains("keel daemon --background")));
    let error = Client::connect("ftp://a").await.expect_err("no such kind");
    assert!(matches!(error, ClientError::BadHost { .. }));
}

#[tokio::test]
async fn a_patient_read_outlives_a_restart_of_the_engine() {
    let server = start();
    let client = Client::connect(&server.host()).await.expect("connects");
    server.shutdown.send_replace(true);
    server.shutdown.closed().await;
    std::fs::remove_file(server.socket()).expect("gone");
    let patience = Duration::from_secs(10);
    let reading = client.get_patiently("/services", patience);
    let starting = async { listen(&server.socket(), &server.seen) };
    let (read, _again) = tokio::join!(reading, starting);
    assert!(read.is_ok(), "{read:?}");
    let away = Client::new("unix:///nowhere/engine.sock").expect("an address");
    let error = away.get_patiently("/services", Duration::from_millis(30)).await;
    assert!(matches!(error, Err(ClientError::NotReachable { .. })));
}
