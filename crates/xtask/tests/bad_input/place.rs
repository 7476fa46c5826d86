//! A place to try things: an engine of its own in a folder of its own, and a small stack.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;

/// One service with two replicas.
pub const STACK: &str = r#"services:
  a:
    image: probe:${VERSION:-latest}
    ports: ["${PORT_A}:8080"]
    environment:
      GENERATION: one
    healthcheck: {interval: 1s, timeout: 1s, retries: 3}
    deploy:
      replicas: 2
      update_config: {parallelism: 1, order: start-first, monitor: 200ms, failure_action: rollback}
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 120s}
    x-evenkeel:
      health: {http: /}
      artifact:
        files: {/probe: "${PROBE_FILE}"}
        entrypoint: ["/probe"]
"#;

/// What a command did.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    /// Both streams.
    pub text: String,
}

impl Ran {
    pub fn succeeds(&self) {
        assert_eq!(self.code, 0, "{}", self.text);
    }

    /// Ended with one of the codes and said all of it.
    pub fn fails_with(&self, codes: &[i32], words: &[&str]) {
        assert!(codes.contains(&self.code), "exit code {}: {}", self.code, self.text);
        for word in words {
            assert!(self.text.contains(word), "`{word}` is missing in: {}", self.text);
        }
    }
}

pub struct Place {
    folder: tempfile::TempDir,
    small_disk: Option<PathBuf>,
    pub port: u16,
}

/// The debug `keel` and the probe application, built once.
fn binaries() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a root");
        let status = conformance::cargo()
            .args(["build", "--quiet", "--package", "cli", "--package", "probe"])
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "cargo build ended with {status}");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), PathBuf::from)
            .join("debug");
        (target.join("keel"), target.join("probe"))
    })
}

impl Place {
    /// With a running engine.
    pub fn new() -> Self {
        let place = Self::prepared(None);
        place.keel(&["daemon", "--background"]).succeeds();
        place
    }

    /// The state folder on a file system of 24 MB; none where mounting is not allowed.
    pub fn on_small_disk() -> Option<Self> {
        let mut place = Self::prepared(None);
        let disk = place.folder.path().join("disk");
        fs::create_dir(&disk).expect("a folder");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&disk)
            .stderr(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return None;
        }
        place.small_disk = Some(disk);
        place.keel(&["daemon", "--background"]).succeeds();
        Some(place)
    }

    fn prepared(small_disk: Option<PathBuf>) -> Self {
        binaries();
        let folder = tempfile::Builder::new().prefix("keel-t").tempdir().expect("a folder");
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = port.local_addr().expect("an address").port();
        let place = Self { folder, small_disk, port };
        place.write(STACK);
        place
    }

    pub fn state(&self) -> PathBuf {
        match &self.small_disk {
            Some(disk) => disk.join("s"),
            None => self.folder.path().join("s"),
        }
    }

    pub fn write(&self, stack: &str) {
        fs::write(self.folder.path().join("stack.yml"), stack).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (keel, probe) = binaries();
        let mut command = Command::new(keel);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KEEL_STATE", self.state())
            .env("PROBE_FILE", probe)
            .env("PORT_A", self.port.to_string())
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null());
        command
    }

    pub fn keel(&self, arguments: &[&str]) -> Ran {
        self.finish(&mut self.command(arguments))
    }

    /// With standard output somewhere else.
    pub fn keel_with(&self, arguments: &[&str], stdout: Stdio) -> Ran {
        let output = self.command(arguments).stdout(stdout).stderr(Stdio::piped()).spawn();
        let output = output.and_then(std::process::Child::wait_with_output).expect("keel runs");
        ran(&output)
    }

    fn finish(&self, command: &mut Command) -> Ran {
        // Files, not pipes: a daemon that stays would keep a pipe open.
        let (out, err) = (self.folder.path().join("out"), self.folder.path().join("err"));
        let file = |path: &Path| fs::File::create(path).expect("a file");
        let status = command.stdout(file(&out)).stderr(file(&err)).status().expect("keel runs");
        let stdout = fs::read_to_string(&out).unwrap_or_default();
        let text = format!("{}{stdout}", fs::read_to_string(&err).unwrap_or_default());
        Ran { code: code(status), stdout, text }
    }

    /// Starts it, sends a signal after some milliseconds, and waits for its end.
    pub fn interrupted(&self, arguments: &[&str], after_ms: u64, signal: Signal) -> Ran {
        let child = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("keel runs");
        let pid = rustix::process::Pid::from_child(&child);
        let until = Instant::now() + Duration::from_millis(after_ms);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        let _ = rustix::process::kill_process(pid, signal);
        ran(&child.wait_with_output().expect("it ends"))
    }

    /// `keel ls --json`, on one line.
    pub fn services(&self) -> String {
        let ran = self.keel(&["ls", "--json"]);
        ran.succeeds();
        ran.stdout.split_whitespace().collect()
    }

    /// How many tasks of the stack run and are wanted.
    pub fn ready(&self) -> usize {
        let ran = self.keel(&["ps", "t_a", "--json"]);
        ran.succeeds();
        let tasks: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let tasks = tasks.as_array().cloned().unwrap_or_default();
        let is = |task: &serde_json::Value, key: &str| task[key] == "running";
        tasks.iter().filter(|task| is(task, "state") && is(task, "desired_state")).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command(&["daemon", "--stop", "--all", "--yes"]).output();
        if let Some(disk) = &self.small_disk {
            let _ = Command::new("umount").arg("-l").arg(disk).status();
        }
    }
}

fn ran(output: &std::process::Output) -> Ran {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{}{stdout}", String::from_utf8_lossy(&output.stderr));
    Ran { code: code(output.status), stdout, text }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
