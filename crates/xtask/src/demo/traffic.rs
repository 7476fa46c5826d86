//! The demo's database and its load: `load` runs beside the steps and reports at the end.

use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use load::postgres::Postgres;
use serde_json::Value;

use super::Ports;
use crate::stage::await_state;

/// How long the load may take to end: its last WebSocket lives 10 s, and a request that failed may
/// have waited for 20 s.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// A throw-away Postgres under the stage's folder.
pub(super) fn database(folder: &Path) -> Result<Postgres> {
    let port = crate::stage::free_port()?;
    Postgres::start(&folder.join("postgres"), port).context("start Postgres")
}

/// The running load generator; killed when it is dropped before its end.
pub struct Traffic {
    child: Child,
    report: PathBuf,
    snapshot: PathBuf,
}

impl Traffic {
    /// `at` is where the API and the pages are: several addresses share the requests.
    pub fn start(
        load: &Path,
        at: &[IpAddr],
        ports: &Ports,
        url: String,
        rate: u32,
        to: &Path,
    ) -> Result<Self> {
        let report = to.join("load.json");
        let snapshot = to.join("load-now.json");
        let mut command = Command::new(load);
        for address in at {
            command.args(["--api", &format!("http://{}", SocketAddr::new(*address, ports.api))]);
            let pages = SocketAddr::new(*address, ports.frontend);
            command.args(["--frontend", &format!("http://{pages}")]);
        }
        let child = command
            .args(["--rate", &rate.to_string(), "--until-stdin-closes"])
            .arg("--report")
            .arg(&report)
            .arg("--snapshot")
            .arg(&snapshot)
            .env("DATABASE_URL", url)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(to.join("load.out"))?)
            .stderr(fs::File::create(to.join("load.err"))?)
            .spawn()
            .with_context(|| format!("run {}", load.display()))?;
        Ok(Self { child, report, snapshot })
    }

    /// Waits until requests flow.
    pub fn await_flow(&self) -> Result<()> {
        await_state("the first thousand requests", Duration::from_secs(30), || {
            Ok(self.requests() >= 1000)
        })
    }

    /// How many requests were answered, as of the last second.
    pub fn requests(&self) -> u64 {
        let text = fs::read_to_string(&self.snapshot).unwrap_or_default();
        let now: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        now.get("requests").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Nothing more is sent to this address.
    pub fn leave(&self, address: IpAddr) -> Result<()> {
        let mut orders = self.child.stdin.as_ref().context("the load was ended")?;
        writeln!(orders, "leave {address}").context("tell the load to leave an address")
    }

    /// Ends the load and reads what it saw.
    pub fn finish(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        await_state("the end of the load", END_DEADLINE, || Ok(self.child.try_wait()?.is_some()))?;
        let text = fs::read_to_string(&self.report)
            .with_context(|| format!("read {}", self.report.display()))?;
        serde_json::from_str(&text).context("the load's report is JSON")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
