//! nginx or haproxy on the node, kept in step with the tasks by `follow.py`.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::contender::{Front, Ground};
use crate::{build, demo::Ports, stage::await_state};

/// Fails when a program is not on the search path.
pub fn require(tool: &str) -> Result<()> {
    let found = Command::new("which").arg(tool).stdout(Stdio::null()).status()?.success();
    ensure!(found, "{tool} is missing; `make bench ENGINE=swarm` installs it");
    Ok(())
}

pub struct Proxy {
    /// The script, which ends the proxy with itself.
    script: Child,
}

impl Proxy {
    pub fn start(front: Front, ground: &Ground<'_>, at: Ports, logs: &Path) -> Result<Self> {
        let sources = build::root().join("crates/xtask/src/bench/swarm");
        let template = match front {
            Front::Nginx => "nginx.conf",
            Front::Haproxy | Front::Keel => "haproxy.cfg",
        };
        let log = fs::File::create(logs.join("follow.log"))?;
        let script = ground
            .lab
            .node(0)
            .run_in("python3")
            .arg(sources.join("follow.py"))
            .arg(front.name())
            .arg(sources.join(template))
            .arg(std::path::absolute(logs)?)
            .arg(format!("api=ala_api:5000:{}", at.api))
            .arg(format!("frontend=ala_frontend:8080:{}", at.frontend))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the script that follows Docker")?;
        Ok(Self { script })
    }

    pub fn stop(mut self) -> Result<()> {
        self.end();
        await_state("the end of the proxy", Duration::from_secs(15), || {
            Ok(self.script.try_wait()?.is_some())
        })
    }

    fn end(&self) {
        let pid = i32::try_from(self.script.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Ok(None) = self.script.try_wait() {
            self.end();
        }
    }
}
