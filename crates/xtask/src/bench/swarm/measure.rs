//! One update under load: every request and WebSocket counted, from before it until the last old
//! task is gone.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::contender::Contender;
use crate::demo::traffic::Traffic;

const RATE: u32 = 350;

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
    let to = contender.logs().join(format!("load-{case:?}").to_lowercase());
    fs::create_dir_all(&to)?;
    let ground = contender.ground;
    let url = ground.database.url();
    let traffic =
        Traffic::start(&ground.load, &[address.into()], &contender.entries, url, RATE, &to)?;
    traffic.await_flow()?;
    let ended = contender.update(version)?;
    contender.await_old_gone()?;
    let report = traffic.finish()?;
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
