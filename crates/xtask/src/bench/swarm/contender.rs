//! Who releases the stack and who carries its requests: Docker behind nginx or haproxy, or `keel`.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lab::{Lab, until};
use load::postgres::Postgres;
use serde_json::Value;

use super::proxy::Proxy;
use crate::{
    build,
    demo::{self, Ports},
    stage::{Stage, SwarmNode},
};

/// The services that are updated.
pub const SERVICES: [&str; 2] = ["ala_api", "ala_frontend"];
/// So many builds of the same source; each update is from one to the next.
pub const VERSIONS: usize = 2;
/// Longer than any update here takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all contenders share.
pub struct Ground<'a> {
    pub lab: &'a Lab,
    pub keel: PathBuf,
    pub load: PathBuf,
    pub database: &'a Postgres,
    pub folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Nginx,
    Haproxy,
    Keel,
}

impl Front {
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Keel];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Keel => "keel",
        }
    }
}

pub struct Contender<'a> {
    pub ground: &'a Ground<'a>,
    pub front: Front,
    /// Where requests come in. With `keel` that is what the stack file publishes; a proxy of its own
    /// beside Docker needs its own ports.
    pub entries: Ports,
    stage: Stage,
    proxy: Option<Proxy>,
}

/// How a release ended.
pub struct Ended {
    pub how: &'static str,
    pub took: Duration,
}

impl Ground<'_> {
    /// Images of every version, on the node.
    pub fn build_images(&self) -> Result<()> {
        let mut stage = Stage::new(self.keel.clone(), ala(), self.folder.join("build"))?;
        settings(&mut stage, self)?;
        stage.set("DOCKER_HOST", self.lab.node(0).docker_host());
        for version in 0..VERSIONS {
            let mut command = stage.command(&["build", "--version", &name_of(version)]);
            let output = command.env("DOCKER_HOST", self.lab.node(0).docker_host()).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "keel build: {}\n{said}", output.status);
        }
        Ok(())
    }
}

impl<'a> Contender<'a> {
    /// Nothing is deployed yet.
    pub fn start(ground: &'a Ground<'a>, front: Front, round: usize) -> Result<Self> {
        let logs = ground.folder.join(format!("{}-{round}", front.name()));
        let mut stage = Stage::new(ground.keel.clone(), ala(), logs)?;
        let published = settings(&mut stage, ground)?;
        let entries = match front {
            Front::Keel => {
                let node = ground.lab.node(0);
                let (namespace, socket) = (node.namespace_path(), node.socket.clone());
                stage.node = Some(SwarmNode { namespace, socket });
                stage.start()?;
                published
            }
            Front::Nginx | Front::Haproxy => Ports::choose()?,
        };
        Ok(Self { ground, front, entries, stage, proxy: None })
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.stage.set(key, value);
    }

    pub fn logs(&self) -> &std::path::Path {
        &self.stage.logs
    }

    /// Deploys a version and waits for its end; the first time also for whoever is in front.
    pub fn release(&mut self, version: usize) -> Result<()> {
        let ended = self.update(version)?;
        ensure!(ended.how == "completed", "the version to start from: {}", ended.how);
        if self.proxy.is_none() && self.front != Front::Keel {
            self.proxy = Some(Proxy::start(self.front, self.ground, self.entries, self.logs())?);
        }
        let address = self.ground.lab.node(0).address;
        until("the API answers through its entry", PATIENCE, || {
            super::measure::client_as_told(address, self.entries.api).map(drop)
        })?;
        self.await_old_gone()
    }

    /// Deploys a version; how long it takes from the command to the verdict.
    pub fn update(&self, version: usize) -> Result<Ended> {
        match self.front {
            Front::Keel => self.keel_deploy(&name_of(version)),
            Front::Nginx | Front::Haproxy => self.docker_deploy(&name_of(version)),
        }
    }

    fn keel_deploy(&self, version: &str) -> Result<Ended> {
        let words = ["deploy", "ala", "--skip-build", "--version", version];
        let ran = self.stage.run("deploy", &words)?;
        let how = match ran.exit_code {
            0 => "completed",
            3 => "rolled back",
            code => bail!("keel deploy ended with {code}:\n{}", ran.text),
        };
        Ok(Ended { how, took: ran.took })
    }

    /// `docker stack deploy` returns at once: the services' own state says when it is over.
    fn docker_deploy(&self, version: &str) -> Result<Ended> {
        let started = Instant::now();
        let mut command = self.ground.lab.node(0).client();
        command
            .args(["stack", "deploy", "--resolve-image", "never", "-c", "docker-stack.yml", "ala"])
            .current_dir(ala())
            .envs(self.stage.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .env("VERSION", version)
            .stdin(Stdio::null());
        let output = command.output().context("run docker")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker stack deploy: {said}");
        let mut how = "completed";
        for service in SERVICES {
            let state = until(&format!("the update of {service}"), PATIENCE, || {
                let known = self.inspect(service).map_err(|error| error.to_string())?;
                let state = known.pointer("/UpdateStatus/State").and_then(Value::as_str);
                match state.unwrap_or("none") {
                    "none" if self.count(service)? == 2 => Ok("completed"),
                    "completed" => Ok("completed"),
                    "rollback_completed" => Ok("rolled back"),
                    "paused" | "rollback_paused" => Ok("paused"),
                    other => Err(other.to_owned()),
                }
            })?;
            if state != "completed" {
                how = state;
            }
        }
        Ok(Ended { how, took: started.elapsed() })
    }

    fn inspect(&self, service: &str) -> Result<Value> {
        let words = ["service", "inspect", service, "--format", "{{json .}}"];
        Ok(serde_json::from_str(&self.ground.lab.node(0).docker(&words)?)?)
    }

    /// Containers of a service that run, those that are on their way out included.
    fn count(&self, service: &str) -> Result<usize, String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let listed = self.ground.lab.node(0).docker(&["ps", "-q", "--filter", &filter]);
        Ok(listed.map_err(|error| error.to_string())?.lines().count())
    }

    /// Until the last old task is gone: what it does to its clients at its end counts too.
    pub fn await_old_gone(&self) -> Result<()> {
        for service in SERVICES {
            until(&format!("two containers of {service}"), PATIENCE, || {
                match self.count(service)? {
                    2 => Ok(()),
                    count => Err(format!("there are {count}")),
                }
            })?;
        }
        Ok(())
    }

    /// Everything goes, and the node is as it was.
    pub fn remove(mut self) -> Result<()> {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop()?;
        }
        if self.front == Front::Keel {
            let ran = self.stage.run("rm", &["rm", "ala", "--yes"])?;
            ensure!(ran.exit_code == 0, "keel rm: {}", ran.text);
            self.stage.stop()?;
        } else {
            self.ground.lab.node(0).docker(&["stack", "rm", "ala"])?;
        }
        until("the stack is gone", PATIENCE, || {
            let node = self.ground.lab.node(0);
            let filter = ["network", "ls", "-q", "--filter", "name=ala-network"];
            let left = node
                .docker(&["ps", "-q"])
                .and_then(|containers| Ok(containers + &node.docker(&filter)?));
            match left.map_err(|error| error.to_string())? {
                left if left.is_empty() => Ok(()),
                left => Err(left),
            }
        })?;
        Ok(())
    }
}

fn ala() -> PathBuf {
    build::root().join("examples/ala")
}

fn name_of(version: usize) -> String {
    format!("b{version}")
}

/// The values for the stack file, the same for all.
fn settings(stage: &mut Stage, ground: &Ground<'_>) -> Result<Ports> {
    let ports = Ports::choose()?;
    demo::swarm::settings(stage, &ports, ground.database.url_at(ground.lab.gateway()), false);
    stage.set("TEST_USERNAME", "test");
    stage.set("TEST_PASSWORD", "test-password");
    Ok(ports)
}
