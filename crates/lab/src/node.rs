//! One node of a lab: its names and paths, and its two daemons.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::{net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use crate::{
    Error,
    error::io,
    process::{self, Marks},
    record::Record,
    run::{self, command, finish},
    wire,
};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Sets the host name given first, then becomes the rest.
const NAMED: &str = "hostname \"$1\"; shift; exec \"$@\"";

/// A node, whether its daemon runs or not. Names and paths stay the same for the lab's life.
#[derive(Clone, Debug)]
pub struct Node {
    /// From 0; node 0 made the swarm.
    pub index: usize,
    /// The host name that `docker node ls` shows: `node0` and so on.
    pub name: String,
    /// The node's address in the lab's network; the machine itself reaches it too.
    pub address: Ipv4Addr,
    /// The network namespace, as `ip netns` names it.
    pub namespace: String,
    /// Everything of the node: `data` (Docker's data root), `exec`, `dockerd.log`, …
    pub folder: PathBuf,
    /// The Docker API's Unix socket.
    pub socket: PathBuf,
    cgroup: String,
}

impl Node {
    pub(crate) fn new(record: &Record, index: usize) -> Self {
        let folder = record.folder.join(format!("n{index}"));
        Self {
            index,
            name: format!("node{index}"),
            address: record.address(u8::try_from(10 + index).unwrap_or(u8::MAX)),
            namespace: format!("{}n{index}", record.name),
            socket: folder.join("docker.sock"),
            cgroup: format!("{}-n{index}", record.name),
            folder,
        }
    }

    /// For `nsenter --net=` and for tools that want the path.
    pub fn namespace_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.namespace)
    }

    /// Docker's data root; the Swarm's certificates are below `swarm/certificates`.
    pub fn data_root(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn exec_root(&self) -> PathBuf {
        self.folder.join("exec")
    }

    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The node's id in the swarm, known also while its daemon is down.
    pub fn id(&self) -> Result<String, Error> {
        let path = self.folder.join("id");
        fs::read_to_string(&path).map_err(io("read", path))
    }

    /// The process number of the node's `dockerd` while it runs.
    pub fn dockerd_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.folder.join("pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        process::of_docker(&self.marks()).contains(&pid).then_some(pid)
    }

    /// A command that runs in the node's network, with `DOCKER_HOST` set to the node's daemon.
    /// It becomes that command: its process number is the command's.
    pub fn run_in(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut entered = wire::enter(&self.namespace_path());
        entered.arg(program).env("DOCKER_HOST", self.docker_host());
        entered
    }

    /// The Docker client, talking to this node's daemon.
    pub fn client(&self) -> Command {
        let mut client = command("docker");
        client.env("DOCKER_HOST", self.docker_host());
        client
    }

    /// `docker WORDS` with a deadline; its standard output.
    pub fn docker(&self, words: &[&str]) -> Result<String, Error> {
        let mut bounded = command("timeout");
        bounded.args(["--kill-after=5", "60", "docker"]).args(words);
        bounded.env("DOCKER_HOST", self.docker_host()).stdin(Stdio::null());
        finish(&mut bounded, &format!("docker {} ({})", words.join(" "), self.name))
    }

    pub(crate) fn marks(&self) -> Marks {
        Marks {
            namespace: self.namespace_path(),
            cgroup: self.cgroup.clone(),
            folder: self.folder.clone(),
        }
    }

    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    fn log(&self) -> PathBuf {
        self.folder.join("dockerd.log")
    }

    /// Starts containerd and dockerd; `wait_until_up` tells when they answer. The node has a
    /// containerd of its own, so that one of the machine is not used instead.
    pub(crate) fn spawn(&self) -> Result<[Child; 2], Error> {
        fs::create_dir_all(self.exec_root()).map_err(io("make", self.exec_root()))?;
        let address = self.exec_root().join("containerd.sock");
        let (data, exec) = (self.data_root(), self.exec_root());
        let containerd = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            data.join("containerd"),
            exec.join("containerd"),
            address,
        );
        let dockerd = json!({
            "data-root": data, "exec-root": exec, "pidfile": self.folder.join("pid"),
            "hosts": [self.docker_host()], "containerd": address,
            "cgroup-parent": format!("/{}", self.cgroup),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "insecure-registries": [format!("{}/24", self.address)],
        });
        let toml = self.folder.join("containerd.toml");
        let json = self.folder.join("daemon.json");
        fs::write(&toml, containerd).map_err(io("write", &toml))?;
        fs::write(&json, dockerd.to_string()).map_err(io("write", &json))?;
        let (toml, json) = (toml.display().to_string(), json.display().to_string());
        Ok([
            self.daemon(&["containerd", "--config", &toml], "containerd.log")?,
            self.daemon(&["dockerd", "--config-file", &json], "dockerd.log")?,
        ])
    }

    fn daemon(&self, words: &[&str], log: &str) -> Result<Child, Error> {
        let path = self.folder.join(log);
        let log = fs::File::options().create(true).append(true).open(&path);
        let log = log.map_err(io("open", &path))?;
        let errors = log.try_clone().map_err(io("open", &path))?;
        let mut daemon = wire::enter(&self.namespace_path());
        daemon.args(["unshare", "--uts", "--", "sh", "-c", NAMED, "sh", &self.name]).args(words);
        // A group of its own: an interrupt at the terminal is for the test, not for the daemon.
        daemon.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        daemon.spawn().map_err(io("start", words[0]))
    }

    pub(crate) fn wait_until_up(&self) -> Result<(), Error> {
        run::until(&format!("the API of {}", self.name), START_LIMIT, || {
            let is_up = UnixStream::connect(&self.socket).is_ok()
                && self.docker(&["version", "--format", "{{.Server.Version}}"]).is_ok();
            if is_up { Ok(()) } else { Err(run::last_line(&self.log())) }
        })
    }

    /// Ends dockerd the way a service manager does, then its containerd.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        let Some(pid) = self.dockerd_pid() else { return Ok(()) };
        process::signal(pid, Signal::TERM);
        run::until(&format!("the end of dockerd on {}", self.name), STOP_LIMIT, || {
            match self.dockerd_pid() {
                None => Ok(()),
                Some(_) => Err(run::last_line(&self.log())),
            }
        })
    }
}
