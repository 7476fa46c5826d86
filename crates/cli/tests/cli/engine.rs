//! A stand-in for an engine: answers from a table, remembers what it was asked.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// An answer: status and body, and whether the connection stays open after it.
#[derive(Clone)]
struct Answer {
    status: u16,
    body: Vec<u8>,
    goes_on: bool,
}

#[derive(Clone, Default)]
pub struct Engine {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    address: String,
    api: String,
}

impl Engine {
    /// One with a service of two replicas, one of which failed once.
    pub fn start() -> Self {
        Self::speaking("1.47")
    }

    /// The same, with that as its newest version of the API.
    pub fn speaking(api: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = format!("tcp://{}", listener.local_addr().expect("bound"));
        let engine = Self { address, api: api.to_owned(), ..Self::default() };
        engine.answer("GET /_ping", 200, b"OK".to_vec());
        engine.json("GET /services", &json!([service()]));
        engine.json("GET /services/ala_api", &service());
        engine.json("GET /services/svc1", &service());
        engine.json("GET /tasks", &json!([task("task1", "running"), task("task0", "failed")]));
        engine.json("GET /tasks/task1", &task("task1", "running"));
        engine.json("GET /nodes", &json!([{ "ID": "n1", "Description": { "Hostname": "host" } }]));
        engine.json("GET /images/json", &images());
        engine.json("GET /version", &json!({ "Version": "1.2.3", "ApiVersion": "1.47" }));
        engine.json("GET /evenkeel/v1/tasks", &json!([own_task()]));
        engine.json("GET /evenkeel/v1/stats", &stats());
        engine.json("GET /configs", &json!([]));
        engine.json("GET /networks", &json!([]));
        engine.json("GET /secrets", &json!([]));
        engine.answer("GET /tasks/task0/logs", 200, frame("task0", "cannot reach the database"));
        let serving = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let engine = serving.clone();
                std::thread::spawn(move || engine.serve(stream));
            }
        });
        engine
    }

    pub fn host(&self) -> &str {
        &self.address
    }

    pub fn json(&self, request: &str, body: &Value) {
        self.answer(request, 200, body.to_string().into_bytes());
    }

    pub fn answer(&self, request: &str, status: u16, body: Vec<u8>) {
        self.put(request, Answer { status, body, goes_on: false });
    }

    /// An answer that never ends.
    pub fn endless(&self, request: &str, body: Vec<u8>) {
        self.put(request, Answer { status: 200, body, goes_on: true });
    }

    fn put(&self, request: &str, answer: Answer) {
        self.answers.lock().expect("unpoisoned").insert(request.to_owned(), answer);
    }

    /// `METHOD /path` of everything it was asked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
                break;
            }
            if let Some(text) = header.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        let _ = reader.read_exact(&mut body);
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or("");
        let path = path.strip_prefix(&format!("/v{}", self.api)).unwrap_or(path);
        let request = format!("{method} {path}");
        self.asked.lock().expect("unpoisoned").push(request.clone());
        let known = self.answers.lock().expect("unpoisoned").get(&request).cloned();
        let missing = json!({ "message": format!("{path} not found") }).to_string().into_bytes();
        let answer = known.unwrap_or(Answer { status: 404, body: missing, goes_on: false });
        respond(stream, &self.api, &answer);
    }
}

fn respond(mut stream: TcpStream, api: &str, answer: &Answer) {
    let length = if answer.goes_on {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", answer.body.len())
    };
    let status = answer.status;
    let head = format!("HTTP/1.1 {status} X\r\nApi-Version: {api}\r\n{length}\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer.body);
    if answer.goes_on {
        // Until the client goes.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A log line in its frame.
pub fn frame(task: &str, text: &str) -> Vec<u8> {
    let line = format!("2026-11-23T10:00:00.000000001Z com.docker.swarm.task.id={task} {text}\n");
    let line = if text == "cannot reach the database" {
        format!("com.docker.swarm.task.id={task} {text}\n")
    } else {
        line
    };
    dockerapi::frame::encode(dockerapi::frame::Stream::Stdout, line.as_bytes())
}

pub fn service() -> Value {
    json!({
        "ID": "svc1", "Version": { "Index": 7 },
        "CreatedAt": "2026-11-23T09:00:00Z", "UpdatedAt": "2026-11-23T09:00:00Z",
        "Spec": {
            "Name": "ala_api",
            "Labels": { "com.docker.stack.namespace": "ala", "evenkeel.release": "v2" },
            "Mode": { "Replicated": { "Replicas": 2 } },
            "TaskTemplate": { "ContainerSpec": {
                "Image": "ala-api:v2", "Env": ["PORT=5000", "JWT_SECRET=hush"],
            } },
        },
        "Endpoint": { "Ports": [{ "TargetPort": 8080, "PublishedPort": 5000, "Protocol": "tcp" }] },
        "UpdateStatus": { "State": "completed", "Message": "update completed" },
        "ServiceStatus": { "RunningTasks": 1, "DesiredTasks": 2 },
    })
}

fn task(id: &str, state: &str) -> Value {
    let error = if state == "failed" { "task: non-zero exit (1)" } else { "" };
    json!({
        "ID": id, "ServiceID": "svc1", "Slot": 1, "NodeID": "n1",
        "CreatedAt": "2026-11-23T09:00:00Z",
        "Spec": { "ContainerSpec": { "Image": "ala-api:v2" } },
        "Status": {
            "State": state, "Timestamp": "2026-11-23T09:00:01Z", "Message": "started",
            "Err": error, "ContainerStatus": { "ContainerID": "c", "PID": 42, "ExitCode": 1 },
        },
        "DesiredState": if state == "failed" { "shutdown" } else { "running" },
    })
}

fn own_task() -> Value {
    json!({
        "ID": "task1", "Traffic": "published", "Address": "127.0.0.1:4000",
        "ReleaseVersion": "v2",
    })
}

fn images() -> Value {
    json!([{
        "Id": "sha256:0123456789abcdef", "RepoTags": ["ala-api:v2"], "Created": 1_795_427_534,
        "Size": 5_560_088,
    }])
}

fn stats() -> Value {
    json!({
        "services": [{ "service": "ala_api", "requests": 10, "responses": { "2xx": 9, "5xx": 1 },
            "failures": { "connect": 1 }, "in_flight": 2, "p50_ms": 1.5, "p99_ms": 20.0 }],
        "tasks": [{ "id": "task1", "name": "ala_api.1.task1", "service": "ala_api",
            "traffic": "published", "cpu_nanos": 1000, "memory_bytes": 2_000_000,
            "processes": 1 }],
        "listen_failures": {},
    })
}
