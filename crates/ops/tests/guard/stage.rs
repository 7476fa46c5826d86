//! A Docker Swarm of one node, and `keel` that talks to it as an operator's does.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use lab::{Lab, Options, until};
use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    /// Both outputs.
    pub text: String,
    pub took: Duration,
}

impl Ran {
    /// It ended so, and said this.
    pub fn ends(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "{}", self.text);
        assert!(self.text.contains(part), "no `{part}` in:\n{}", self.text);
    }

    pub fn succeeds(&self) {
        self.ends(0, "");
    }
}

pub struct Stage {
    lab: Lab,
    folder: tempfile::TempDir,
    keel: &'static Path,
    has_daemon: bool,
}

impl Stage {
    /// None, with the reason told, where there can be no lab.
    pub fn raise() -> Option<Self> {
        match Lab::check() {
            Ok(()) => {}
            Err(error) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
                panic!("{error}")
            }
            Err(error) => {
                eprintln!("not run: {error}");
                return None;
            }
        }
        let (keel, archive) = built();
        let lab = Lab::up(&Options::nodes(1)).expect("a lab");
        lab.load_image(0, archive).expect("images");
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { lab, folder, keel, has_daemon: false })
    }

    /// With keel's daemon, and so its ingress, on the node.
    pub fn raise_with_ingress() -> Option<Self> {
        let mut stage = Self::raise()?;
        let mut command = stage.lab.node(0).run_in(stage.keel);
        let host = format!("--swarm={}", stage.lab.node(0).docker_host());
        command.args(["daemon", "--background", &host]).env("KEEL_STATE", stage.state());
        finish(command.env_remove("DOCKER_HOST")).succeeds();
        stage.has_daemon = true;
        Some(stage)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("keel")
    }

    pub fn address(&self) -> Ipv4Addr {
        self.lab.node(0).address
    }

    /// The stack `st` with one service `web`.
    pub fn write(&self, web: &str) {
        let text = format!("services:\n  web:\n{web}");
        fs::write(self.folder.path().join("docker-stack.yml"), text).expect("written");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.keel);
        command.args(words).current_dir(self.folder.path()).env_remove("KEEL_STATE");
        match self.has_daemon {
            true => command.env_remove("DOCKER_HOST").env("KEEL_STATE", self.state()),
            false => command.env("DOCKER_HOST", self.lab.node(0).docker_host()),
        };
        command
    }

    pub fn keel(&self, words: &[&str]) -> Ran {
        finish(&mut self.command(words))
    }

    pub fn deploy(&self, version: &str, env: &[(&str, &str)]) -> Ran {
        let mut command = self.command(&["deploy", "--skip-build", "--version", version, "st"]);
        finish(command.envs(env.iter().copied()))
    }

    /// A deploy that goes on beside the test.
    pub fn deploying(&self, version: &str, env: &[(&str, &str)]) -> Child {
        let mut command = self.command(&["deploy", "--skip-build", "--version", version, "st"]);
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("it starts")
    }

    pub fn docker(&self, words: &[&str]) -> String {
        self.lab.node(0).docker(words).expect("docker")
    }

    pub fn service(&self) -> Value {
        let shown = self.docker(&["service", "inspect", "st_web", "--format", "{{json .}}"]);
        serde_json::from_str(&shown).expect("JSON")
    }

    /// What `docker service ps` shows of each task: `image state error`, the newest first.
    pub fn tasks(&self) -> Vec<String> {
        let format = "{{.Image}} {{.DesiredState}} {{.CurrentState}} {{.Error}}";
        let shown = self.docker(&["service", "ps", "st_web", "--no-trunc", "--format", format]);
        shown.lines().map(str::to_owned).collect()
    }

    /// Images of the tasks that run and shall run.
    pub fn running(&self) -> Vec<String> {
        let runs = |task: &String| task.contains(" Running Running ");
        let tasks = self.tasks().into_iter().filter(runs);
        tasks.filter_map(|task| Some(task.split(' ').next()?.to_owned())).collect()
    }

    /// Waits until it is so; what is looked at is told when it never is.
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        until(what, PATIENCE, || if is_so() { Ok(()) } else { Err(self.tasks().join("\n")) })
            .expect("seen");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.has_daemon {
            let _ = self.keel(&["daemon", "--stop", "--all", "--yes"]);
        }
    }
}

/// The static `keel`, and the archive with the exam's service, built once.
fn built() -> (&'static Path, &'static Path) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    let (keel, archive) = BUILT.get_or_init(|| {
        let app = conformance::build("conformance", Some("semapp")).expect("the service builds");
        let keel = conformance::build("cli", None).expect("keel builds");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guarded.tar");
        fs::write(&path, conformance::image::archive(&app).expect("an archive")).expect("written");
        (keel, path)
    });
    (keel, archive)
}

fn finish(command: &mut Command) -> Ran {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let said = [output.stderr, output.stdout].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), text, took: started.elapsed() }
}

/// One request over a connection of its own; the answer's body.
pub fn ask(entry: SocketAddr) -> Result<String, String> {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&entry, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match asked() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(answer),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}
