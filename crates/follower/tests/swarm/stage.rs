//! A lab with a daemon of ours on each node, a stack to release, and requests that are counted.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lab::{Lab, Options, until};
use serde_json::Value;

use super::ssh::Login;

const PATIENCE: Duration = Duration::from_secs(90);
const PORT: u16 = 8088;
/// Released by `keel`; four tasks, so that there are some on each of two nodes.
const STACK: &str = "\
services:
  web:
    image: sem:${VERSION}
    ports: ['8088:8080']
    environment: {FAIL_NOW: '${FAIL_NOW:-}', LOG_EVERY: '${LOG_EVERY:-}', START_DELAY: '300'}
    stop_grace_period: 3s
    deploy:
      replicas: 4
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 2, window: 60s}
      update_config: {order: start-first, parallelism: 2, monitor: 2s, failure_action: rollback}
";
/// Deployed by Docker.
const PLAIN: &str = "\
version: '3.8'
services:
  web:
    image: sem:1
    deploy: {replicas: 2}
";

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    /// Both outputs.
    pub text: String,
}

impl Ran {
    pub fn succeeds(&self) {
        assert_eq!(self.code, 0, "{}", self.text);
    }

    pub fn json(&self) -> Value {
        self.parsed(&self.out)
    }

    /// One value per line.
    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| self.parsed(line)).collect()
    }

    fn parsed(&self, text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub struct Stage {
    lab: Lab,
    folder: tempfile::TempDir,
    keel: &'static Path,
}

impl Stage {
    /// None, with the reason told, where there can be no lab.
    pub fn raise(managers: usize, workers: usize) -> Option<Self> {
        match Lab::check() {
            Ok(()) => {}
            Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
            Err(error) => {
                eprintln!("not run: {error}");
                return None;
            }
        }
        let (keel, archive) = built();
        let options = Options { managers, workers, folder: None, is_kept: false };
        let lab = Lab::up(&options).expect("a lab");
        lab.load_image(0, archive).expect("images on the first node");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("docker-stack.yml"), STACK).expect("written");
        fs::write(folder.path().join("plain.yml"), PLAIN).expect("written");
        let stage = Self { lab, folder, keel };
        (0..managers + workers).for_each(|node| stage.start_daemon(node));
        Some(stage)
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn state(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("keel{node}"))
    }

    pub fn start_daemon(&self, node: usize) {
        let at = &self.lab.nodes()[node];
        let mut command = at.run_in(self.keel);
        command
            .args(["daemon", "--background", &format!("--swarm={}", at.docker_host())])
            .env("KEEL_STATE", self.state(node))
            .env_remove("DOCKER_HOST");
        finish(command).succeeds();
    }

    /// SIGKILL to the control process of a node.
    pub fn kill_daemon(&self, node: usize) {
        let lock = fs::read_to_string(self.state(node).join("lock")).expect("a lock");
        let killed = Command::new("kill").args(["-9", lock.trim()]).status().expect("kill runs");
        assert!(killed.success());
    }

    /// Docker ends on a node, and its containers with it.
    pub fn stop_docker(&self, node: usize) {
        self.lab.stop_daemon(node).expect("Docker ends");
    }

    /// Where requests come in: every node.
    pub fn entries(&self) -> Vec<SocketAddr> {
        self.lab.nodes().iter().map(|node| SocketAddr::from((node.address, PORT))).collect()
    }

    pub fn keel(&self, node: usize, arguments: &[&str]) -> Ran {
        self.keel_with(node, arguments, &[])
    }

    pub fn keel_with(&self, node: usize, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = self.command(node, arguments);
        command.envs(env.iter().copied());
        finish(command)
    }

    /// A way to log in on the first node, where `keel` is or is not.
    pub fn login(&self, has_keel: bool) -> Option<Login> {
        let node = &self.lab.nodes()[0];
        let (keel, env) = match has_keel {
            true => (Some(self.keel), format!("KEEL_STATE={}", self.state(0).display())),
            false => (None, format!("DOCKER_HOST={}", node.docker_host())),
        };
        Login::open(node, keel, &env)
    }

    /// From elsewhere, over ssh.
    pub fn keel_over(&self, login: &Login, arguments: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(self.keel);
        command
            .args(["-H", &login.host()])
            .args(arguments)
            .current_dir(self.folder.path())
            .envs(env.iter().copied())
            .env("PATH", login.path())
            .env_remove("DOCKER_HOST")
            .env_remove("KEEL_STATE");
        finish(command)
    }

    /// Runs until it ends by itself, while `meanwhile` goes on.
    pub fn keel_beside(&self, node: usize, arguments: &[&str], meanwhile: impl FnOnce()) -> Ran {
        let command = self.command(node, arguments);
        thread::scope(|scope| {
            let running = scope.spawn(|| finish(command));
            meanwhile();
            running.join().expect("no panic")
        })
    }

    fn command(&self, node: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.keel);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KEEL_STATE", self.state(node))
            .env_remove("DOCKER_HOST");
        command
    }

    /// `docker WORDS` on the first node.
    pub fn docker(&self, words: &[&str]) -> String {
        self.lab.nodes()[0].docker(words).expect("docker")
    }

    /// Ids of the tasks that run and are wanted.
    pub fn running(&self, service: &str) -> Vec<String> {
        let tasks = self.keel(0, &["ps", service, "--json"]).json();
        let runs = |task: &&Value| task["state"] == "running" && task["desired_state"] == "running";
        let tasks = tasks.as_array().cloned().unwrap_or_default();
        let mut ids: Vec<String> =
            tasks.iter().filter(runs).map(|task| task["id"].to_string()).collect();
        ids.sort();
        ids
    }

    pub fn await_running(&self, service: &str, count: usize) {
        until(&format!("{count} tasks of {service}"), PATIENCE, || {
            let running = self.running(service).len();
            if running == count { Ok(()) } else { Err(format!("{running} run")) }
        })
        .expect("running");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for node in 0..self.lab.nodes().len() {
            let _ = self.keel(node, &["daemon", "--stop", "--all", "--yes"]);
            if thread::panicking() {
                let log = fs::read_to_string(self.state(node).join("daemon.log"));
                eprintln!("node {node}:\n{}", log.unwrap_or_default());
            }
        }
    }
}

/// The static `keel`, and the archive with the exam's service, built once.
fn built() -> (&'static Path, &'static Path) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (keel, archive) = BUILT.get_or_init(|| {
        let app = conformance::build("conformance", Some("semapp")).expect("the service builds");
        let keel = conformance::build("cli", None).expect("keel builds");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sem.tar");
        fs::write(&path, conformance::image::archive(&app).expect("an archive")).expect("written");
        (keel, path)
    });
    (keel, archive)
}

fn finish(mut command: Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{}{out}", String::from_utf8_lossy(&output.stderr));
    Ran { code: output.status.code().unwrap_or(-1), out, text }
}

/// Requests that go on until they are ended, on fresh connections, never repeated.
pub struct Requests {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    answered: AtomicU64,
    last: Mutex<String>,
    failed: Mutex<Vec<String>>,
}

pub struct Counted {
    pub answered: u64,
    pub failed: Vec<String>,
}

impl Requests {
    pub fn start(entries: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared::default());
        let ask = |entry: SocketAddr| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                while !shared.ends.load(Ordering::SeqCst) {
                    match request(entry) {
                        Ok(answer) => {
                            *shared.last.lock().expect("no panic") = answer;
                            shared.answered.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(why) => {
                            shared.failed.lock().expect("no panic").push(format!("{entry}: {why}"));
                        }
                    }
                }
            })
        };
        let threads = entries.into_iter().map(ask).collect();
        Self { shared, threads }
    }

    /// So many more have been answered.
    pub fn await_count(&self, count: u64) {
        let answered = || self.shared.answered.load(Ordering::SeqCst);
        let from = answered();
        until("requests are answered", PATIENCE, || {
            let now = answered() - from;
            if now >= count { Ok(()) } else { Err(format!("{now} were")) }
        })
        .expect("answered");
    }

    pub fn await_answer(&self, part: &str) {
        until(&format!("an answer with {part}"), PATIENCE, || {
            let last = self.shared.last.lock().expect("no panic").clone();
            if last.contains(part) { Ok(()) } else { Err(last) }
        })
        .expect("seen");
    }

    pub fn end(self) -> Counted {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let failed = self.shared.failed.lock().expect("no panic").clone();
        Counted { answered: self.shared.answered.load(Ordering::SeqCst), failed }
    }
}

fn request(entry: SocketAddr) -> Result<String, String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&entry, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer: String = ask().map_err(|error: std::io::Error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
}
