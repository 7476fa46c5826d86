//! The report: the JSON a run ends with, and, incomplete, its snapshots.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::outcome::Record;
use crate::proof::Verdict;
use crate::schedule::Connection;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether the run is over and everything below is final.
    pub complete: bool,
    pub started_unix_ms: u64,
    /// When this report was made.
    pub unix_ms: u64,
    pub seconds: f64,
    /// Requests with an outcome: `ok + failed + cut_requests`.
    pub requests: u64,
    pub ok: u64,
    pub failed: u64,
    /// Requests the proxy says were cut by the death of a named task.
    pub cut_requests: u64,
    /// The first 5,000 of them.
    pub cut: Vec<CutRequest>,
    /// The first 5,000 failures.
    pub failures: Vec<Failure>,
    pub failed_by_cause: BTreeMap<String, u64>,
    /// Sent, no outcome yet.
    pub in_flight: u64,
    #[serde(flatten)]
    pub writes: WriteReport,
    /// WebSockets whose life is over, and how many of them were cut before that.
    pub websockets: u64,
    pub websockets_open: u64,
    pub websockets_cut: u64,
    pub websocket_messages: u64,
    /// The first 5,000 of them.
    pub websocket_cuts: Vec<WebSocketCut>,
    /// Over all kinds but `slow`, counted from when each request was due.
    #[serde(flatten)]
    pub latency: Latency,
    pub rate_wanted: u32,
    /// Requests sent a second while sending.
    pub rate_achieved: f64,
    pub by_kind: BTreeMap<&'static str, ByKind>,
    /// Answers of the API by the version that gave them.
    pub versions: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct WriteReport {
    pub acknowledged_writes: u64,
    /// Cut or unclear: they may have been carried out, once.
    pub unacknowledged_writes: u64,
    pub refused_writes: u64,
    /// How many of the unacknowledged are there; null until the database was asked.
    pub unacknowledged_found: Option<u64>,
    /// Acknowledged, but not there; null until the database was asked.
    pub lost_writes: Option<u64>,
    /// Carried out, or there, more than once; null until the database was asked.
    pub duplicated_writes: Option<u64>,
    /// The first of each, by id.
    pub lost: Vec<String>,
    pub duplicated: Vec<String>,
    /// Why the database could not be asked.
    pub proof_error: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct ByKind {
    pub requests: u64,
    pub ok: u64,
    pub failed: u64,
    pub cut: u64,
    #[serde(flatten)]
    pub latency: Latency,
}

#[derive(Debug, Clone, Serialize)]
pub struct CutRequest {
    pub task: String,
    pub request_id: String,
    /// The address that was asked.
    pub entry: String,
    pub kind: &'static str,
    pub connection: Connection,
    pub unix_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub cause: String,
    pub detail: String,
    pub request_id: String,
    /// The address that was asked.
    pub entry: String,
    pub kind: &'static str,
    pub connection: Connection,
    /// When the request was due.
    pub unix_ms: u64,
    pub after_ms: f64,
    /// Which replica answered, when one did.
    pub instance: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct WebSocketCut {
    pub id: String,
    pub detail: String,
    /// The address that was asked.
    pub entry: String,
    /// When it was cut.
    pub unix_ms: u64,
    pub after_ms: f64,
    /// Which replica it was open to, when it ever opened.
    pub instance: Option<String>,
}

impl CutRequest {
    pub fn new(task: String, record: Record) -> CutRequest {
        CutRequest {
            task,
            request_id: record.request_id,
            entry: record.entry,
            kind: record.kind.name(),
            connection: record.connection,
            unix_ms: record.unix_ms,
        }
    }
}

impl Failure {
    pub fn new(cause: String, detail: String, record: Record) -> Failure {
        Failure {
            cause,
            detail,
            request_id: record.request_id,
            entry: record.entry,
            kind: record.kind.name(),
            connection: record.connection,
            unix_ms: record.unix_ms,
            after_ms: record.latency.as_secs_f64() * 1000.0,
            instance: record.instance,
        }
    }
}

impl WriteReport {
    /// Adds what the database said.
    pub fn prove(&mut self, verdict: Result<Verdict, String>) {
        match verdict {
            Ok(verdict) => {
                self.unacknowledged_found = Some(verdict.unacknowledged_found);
                self.lost_writes = Some(verdict.lost.len() as u64);
                self.duplicated_writes = Some(verdict.duplicated.len() as u64);
                self.lost = verdict.lost.into_iter().take(50).collect();
                self.duplicated = verdict.duplicated.into_iter().take(50).collect();
            }
            Err(reason) => self.proof_error = Some(reason),
        }
    }
}

impl Report {
    /// Whether nothing went wrong: no failure, no cut, and no write lost or doubled.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
            && self.cut_requests == 0
            && self.websockets_cut == 0
            && self.writes.lost_writes.unwrap_or(0) == 0
            && self.writes.duplicated_writes.unwrap_or(0) == 0
            && self.writes.proof_error.is_none()
    }

    /// Replaces the file as a whole, so that a reader never sees half a report.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&beside, text + "\n")?;
        std::fs::rename(&beside, path)
    }
}
