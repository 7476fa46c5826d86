//! A stage to perform on: a state folder, a running engine, and `keel` commands with their outcome.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What one `keel` command did.
pub struct Ran {
    pub exit_code: i32,
    pub took: Duration,
    pub stdout: String,
    /// Standard output and error as a person would have read them.
    pub text: String,
}

/// An engine of its own, in a folder of its own.
pub struct Stage {
    pub keel: PathBuf,
    pub state: tempfile::TempDir,
    pub logs: PathBuf,
    pub environment: Vec<(String, String)>,
    pub folder: PathBuf,
    /// The Swarm node that it follows, instead of an engine of its own.
    pub node: Option<SwarmNode>,
}

/// Where a daemon that follows a Swarm runs.
#[derive(Clone)]
pub struct SwarmNode {
    /// The node's network.
    pub namespace: PathBuf,
    /// Its Docker.
    pub socket: PathBuf,
}

impl Stage {
    /// `folder` is where the stack file lies, `logs` gets one file per command.
    pub fn new(keel: PathBuf, folder: PathBuf, logs: PathBuf) -> Result<Self> {
        fs::create_dir_all(&logs)?;
        let state = tempfile::Builder::new().prefix("keel-").tempdir()?;
        Ok(Self { keel, state, logs, environment: Vec::new(), folder, node: None })
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.environment.retain(|(k, _)| k != key);
        self.environment.push((key.to_owned(), value.into()));
    }

    /// A `keel` command, ready to run against this stage's engine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.keel);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("KEEL_STATE", self.state.path())
            .env_remove("DOCKER_HOST")
            .envs(self.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .stdin(Stdio::null());
        command
    }

    /// As [`Self::command`], in the network of the Swarm node when there is one.
    fn command_on_node(&self, arguments: &[&str]) -> Command {
        let Some(node) = &self.node else { return self.command(arguments) };
        let inner = self.command(arguments);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", node.namespace.display()))
            .arg(&self.keel)
            .args(arguments)
            .current_dir(&self.folder)
            .envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null());
        command
    }

    /// Runs a `keel` command to its end and keeps what it said under `name` in the logs.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<Ran> {
        self.run_with(name, arguments, &[])
    }

    pub fn run_with(&self, name: &str, arguments: &[&str], env: &[(&str, &str)]) -> Result<Ran> {
        let mut command = self.command(arguments);
        command.envs(env.iter().copied());
        self.finish(name, command)
    }

    /// The same in the network of the Swarm node, for what listens there.
    pub fn run_on_node(&self, name: &str, arguments: &[&str]) -> Result<Ran> {
        self.finish(name, self.command_on_node(arguments))
    }

    fn finish(&self, name: &str, mut command: Command) -> Result<Ran> {
        let started = Instant::now();
        let out = self.logs.join(format!("{name}.out"));
        let err = self.logs.join(format!("{name}.err"));
        let status = command
            .stdout(fs::File::create(&out)?)
            .stderr(fs::File::create(&err)?)
            .status()
            .with_context(|| format!("run {}", self.keel.display()))?;
        let took = started.elapsed();
        let stdout = read(&out);
        let text = format!("{}{stdout}", read(&err));
        Ok(Ran { exit_code: code(status), took, stdout, text })
    }

    /// Starts the engine and returns when it and its ingress are ready.
    pub fn start(&self) -> Result<Duration> {
        let mut arguments = vec!["daemon", "--background"];
        let swarm =
            self.node.as_ref().map(|node| format!("--swarm=unix://{}", node.socket.display()));
        arguments.extend(swarm.as_deref());
        let ran = self.finish("daemon", self.command_on_node(&arguments))?;
        if ran.exit_code != 0 {
            bail!("keel daemon --background: exit code {}\n{}", ran.exit_code, ran.text);
        }
        Ok(ran.took)
    }

    /// The control process's id, from the lock file that it holds.
    pub fn control_pid(&self) -> Result<i32> {
        let path = self.state.path().join("lock");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("no process id in {}", path.display()))
    }

    /// A control process holds the lock; one that was killed does so for a moment more.
    pub fn is_controlled(&self) -> bool {
        let lock = fs::File::open(self.state.path().join("lock"));
        lock.is_ok_and(|lock| lock.try_lock().is_err())
    }

    /// A `keel … --json` command's answer.
    pub fn json(&self, name: &str, arguments: &[&str]) -> Result<serde_json::Value> {
        let ran = self.run(name, arguments)?;
        serde_json::from_str(&ran.stdout)
            .with_context(|| format!("keel {}: no JSON: {}", arguments.join(" "), ran.text))
    }

    /// Ends the engine, its tasks and its ingress.
    pub fn stop(&self) -> Result<()> {
        let ran = self.run("stop", &["daemon", "--stop", "--all", "--yes"])?;
        if ran.exit_code != 0 {
            bail!("keel daemon --stop --all: exit code {}\n{}", ran.exit_code, ran.text);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.run("stop", &["daemon", "--stop", "--all", "--yes"]);
        let log = self.state.path().join("daemon.log");
        let _ = fs::copy(log, self.logs.join("daemon.log"));
        let log = self.state.path().join("ingress.log");
        let _ = fs::copy(log, self.logs.join("ingress.log"));
    }
}

/// The exit code, 128 + signal when a signal ended it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn read(path: &Path) -> String {
    fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}

/// A TCP port on the loopback that is free now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Asks `is_true` again and again until it is, or fails after `deadline`.
pub fn await_state(
    what: &str,
    deadline: Duration,
    mut is_true: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    loop {
        if is_true()? {
            return Ok(());
        }
        if started.elapsed() > deadline {
            bail!("{what}: not seen within {} s", deadline.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
