//! The engines that sit the exam: the embedded one, and a Docker daemon of our own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Embedded,
    Dockerd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Dockerd => "dockerd",
        }
    }
}

/// What a Docker daemon needs and this machine lacks, as far as that shows before it is started.
pub fn missing_for_dockerd() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    for (name, package) in [("dockerd", "docker.io"), ("iptables", "iptables")] {
        if !is_there(name) {
            return Some(format!("`{name}` is not there; install the package {package}"));
        }
    }
    let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let cgroups = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !kernel.contains("overlay") {
        return Some("the kernel has no overlayfs".to_owned());
    }
    (!cgroups.contains(" cgroup")).then(|| "no cgroups are mounted".to_owned())
}

/// A running engine in a folder of its own; ended when it is dropped.
pub struct Engine {
    pub kind: Kind,
    pub socket: PathBuf,
    folder: tempfile::TempDir,
    keel: PathBuf,
    daemon: Option<Child>,
}

impl Engine {
    pub fn start(kind: Kind, keel: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("keel-c").tempdir()?;
        let socket = match kind {
            Kind::Embedded => folder.path().join("run/engine.sock"),
            Kind::Dockerd => folder.path().join("docker.sock"),
        };
        let mut engine = Self { kind, socket, folder, keel: keel.to_owned(), daemon: None };
        match kind {
            Kind::Embedded => {
                let started = engine.keel(&["daemon", "--background"])?;
                ensure!(started, "keel daemon --background did not start");
            }
            Kind::Dockerd => engine.start_dockerd()?,
        }
        Ok(engine)
    }

    /// Where everything of this engine lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn keel(&self, arguments: &[&str]) -> Result<bool> {
        let status = Command::new(&self.keel)
            .args(arguments)
            .env("KEEL_STATE", self.folder.path())
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("run {}", self.keel.display()))?;
        Ok(status.success())
    }

    fn start_dockerd(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let log = fs::File::create(folder.join("dockerd.log"))?;
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.socket.display()))
            // Nothing is to be pulled: whatever registry it asks, nobody answers, at once.
            .envs(["HTTP_PROXY", "HTTPS_PROXY"].map(|key| (key, "http://127.0.0.1:1")))
            .env("NO_PROXY", "127.0.0.1,localhost")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("run dockerd")?;
        self.daemon = Some(daemon);
        let started = Instant::now();
        while !self.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])? {
            if started.elapsed() > Duration::from_secs(40) {
                let said = fs::read_to_string(folder.join("dockerd.log")).unwrap_or_default();
                bail!("dockerd did not start: {}", said.lines().last().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Loads images as `docker save` writes them.
    pub fn load(&self, archive: &[u8]) -> Result<()> {
        let mut child = Command::new("docker")
            .arg("load")
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("run docker load")?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        std::io::Write::write_all(&mut stdin, archive)?;
        drop(stdin);
        ensure!(child.wait()?.success(), "docker load failed");
        Ok(())
    }

    fn docker(&self, arguments: &[&str]) -> Result<bool> {
        let status = Command::new("docker")
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(status.success())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match &mut self.daemon {
            None => drop(self.keel(&["daemon", "--stop", "--all", "--yes"])),
            Some(_) => {
                let _ = self.docker(&["swarm", "leave", "--force"]);
                if let Some(mut daemon) = self.daemon.take() {
                    if let Some(pid) =
                        i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw)
                    {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                    }
                    let _ = daemon.wait();
                }
                if let Err(error) = lab::clear(self.folder.path()) {
                    eprintln!("the Docker daemon left something: {error}");
                }
            }
        }
    }
}
