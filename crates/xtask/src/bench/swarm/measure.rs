//! One update under load: every request and WebSocket counted, from before it until the last old
//! task is gone.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::contender::Contender;
use crate::stage::await_state;

const RATE: u32 = 350;
/// Requests that are answered before the update begins.
const WARM: u64 = 1000;
/// The last WebSocket lives 10 s, and a failed request may wait for 20 s.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// What is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// The application finishes its requests on SIGTERM.
    Graceful,
    /// A version that crashes 3 s after it began to listen, and is taken back.
    Crash,
    /// The application exits on SIGTERM at once.
    Rude,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Graceful, Self::Crash, Self::Rude];

    pub fn name(self) -> &'static str {
        match self {
            Self::Graceful => "update, graceful application",
            Self::Crash => "update that crashes after 3 s",
            Self::Rude => "update, rude application",
        }
    }
}

/// One update of one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub case: &'static str,
    pub front: &'static str,
    pub round: usize,
    pub requests: u64,
    pub failed: u64,
    /// Why, and how many.
    pub reasons: BTreeMap<String, u64>,
    pub websockets: u64,
    pub websockets_cut: u64,
    /// Acknowledged and not in the database; null when it could not be asked.
    pub lost_writes: Option<u64>,
    pub duplicated_writes: Option<u64>,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// From the command to the verdict.
    pub seconds: f64,
    pub ended: &'static str,
    /// Whether the application was told the client's own address, in `X-Forwarded-For`.
    pub client_address_kept: bool,
}

impl Sample {
    pub fn line(&self) -> String {
        let Self { round, front, case, failed, requests, websockets_cut, .. } = self;
        format!(
            "round {round}, {front}, {case}: {failed} of {requests} failed {:?}, \
             {websockets_cut} WebSockets cut, {} in {:.1} s",
            self.reasons, self.ended, self.seconds
        )
    }
}

pub fn update(
    contender: &Contender<'_>,
    case: Case,
    round: usize,
    version: usize,
) -> Result<Sample> {
    let address = contender.ground.lab.node(0).address;
    let told = client_as_told(address, contender.entries.api).map_err(anyhow::Error::msg)?;
    let load = Load::start(contender, case)?;
    load.await_flow()?;
    let ended = contender.update(version)?;
    contender.await_old_gone()?;
    let report = load.finish()?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64);
    let figure = |key: &str| report.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let count = |key: &str| number(key).with_context(|| format!("the load's report has no {key}"));
    let mut reasons: BTreeMap<String, u64> =
        serde_json::from_value(report["failed_by_cause"].clone()).unwrap_or_default();
    // The answer that names the task whose death cut the request is a failure as any other.
    let cut = count("cut_requests")?;
    if cut > 0 {
        reasons.insert("cut by a task's end".to_owned(), cut);
    }
    Ok(Sample {
        case: case.name(),
        front: contender.front.name(),
        round,
        requests: count("requests")?,
        failed: count("failed")? + cut,
        reasons,
        websockets: count("websockets")?,
        websockets_cut: count("websockets_cut")?,
        lost_writes: number("lost_writes"),
        duplicated_writes: number("duplicated_writes"),
        p50_ms: figure("p50_ms"),
        p99_ms: figure("p99_ms"),
        max_ms: figure("max_ms"),
        seconds: ended.took.as_secs_f64(),
        ended: ended.how,
        client_address_kept: told,
    })
}

/// Asks the API once: whether the last entry of the `X-Forwarded-For` that it got is the address
/// the request came from.
pub fn client_as_told(address: Ipv4Addr, port: u16) -> Result<bool, String> {
    let ask = || -> std::io::Result<(String, String)> {
        let entry = SocketAddr::from((address, port));
        let mut stream = TcpStream::connect_timeout(&entry, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET /api/version HTTP/1.1\r\nHost: ala\r\nConnection: close\r\n\r\n")?;
        let own = stream.local_addr()?.ip().to_string();
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok((own, answer))
    };
    let (own, answer) = ask().map_err(|error| error.to_string())?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(answer);
    }
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let body = body.get(body.find('{').unwrap_or(0)..=body.rfind('}').unwrap_or(0));
    let told: Value = serde_json::from_str(body.unwrap_or_default()).unwrap_or(Value::Null);
    let list = told["forwarded_for"].as_str().unwrap_or_default();
    Ok(list.rsplit(',').next().is_some_and(|last| last.trim() == own))
}

/// The running load generator.
struct Load {
    child: Child,
    report: std::path::PathBuf,
    snapshot: std::path::PathBuf,
}

impl Load {
    fn start(contender: &Contender<'_>, case: Case) -> Result<Self> {
        let to = contender.logs();
        let name = format!("load-{case:?}").to_lowercase();
        let (report, snapshot) =
            (to.join(format!("{name}.json")), to.join(format!("{name}-now.json")));
        let at = contender.ground.lab.node(0).address;
        let child = Command::new(&contender.ground.load)
            .args(["--api", &format!("http://{at}:{}", contender.entries.api)])
            .args(["--frontend", &format!("http://{at}:{}", contender.entries.frontend)])
            .args(["--rate", &RATE.to_string(), "--until-stdin-closes"])
            .arg("--report")
            .arg(&report)
            .arg("--snapshot")
            .arg(&snapshot)
            .env("DATABASE_URL", contender.ground.database.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(to.join(format!("{name}.err")))?)
            .spawn()
            .with_context(|| format!("run {}", contender.ground.load.display()))?;
        Ok(Self { child, report, snapshot })
    }

    fn await_flow(&self) -> Result<()> {
        await_state("the first requests", Duration::from_secs(30), || {
            let text = fs::read_to_string(&self.snapshot).unwrap_or_default();
            let now: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            Ok(now["requests"].as_u64().is_some_and(|requests| requests >= WARM))
        })
    }

    fn finish(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        let ended = await_state("the end of the load", END_DEADLINE, || {
            Ok(self.child.try_wait()?.is_some())
        });
        if let Err(error) = ended {
            let _ = self.child.kill();
            bail!(error);
        }
        let text = fs::read_to_string(&self.report)
            .with_context(|| format!("read {}", self.report.display()))?;
        serde_json::from_str(&text).context("the load's report is JSON")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After an error nobody closes its input in time.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
