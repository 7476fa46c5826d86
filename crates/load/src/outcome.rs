//! What came of one request.

use std::time::Duration;

use crate::schedule::{Connection, Kind};

/// Why a request counts as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No connection could be made.
    Connect(String),
    /// The connection broke after the request was written, in part or whole.
    Broken(String),
    /// No complete answer in time.
    Timeout,
    /// An answer with another status than the one expected.
    Status(u16),
    /// The right status with the wrong content: what was wrong.
    Content(String),
    /// Never sent: too many requests were waiting already.
    Unsent,
}

impl Cause {
    /// The class, for counting.
    pub fn class(&self) -> String {
        match self {
            Cause::Connect(_) => "connect".to_owned(),
            Cause::Broken(_) => "broken".to_owned(),
            Cause::Timeout => "timeout".to_owned(),
            Cause::Status(status) => format!("status {status}"),
            Cause::Content(_) => "content".to_owned(),
            Cause::Unsent => "unsent".to_owned(),
        }
    }

    pub fn detail(&self) -> String {
        match self {
            Cause::Connect(error) => format!("no connection: {error}"),
            Cause::Broken(error) => format!("connection broken after writing: {error}"),
            Cause::Timeout => "no complete answer in time".to_owned(),
            Cause::Status(status) => format!("status {status}"),
            Cause::Content(what) => what.clone(),
            Cause::Unsent => "too many requests were waiting".to_owned(),
        }
    }

    /// Whether the server may have carried the request out all the same.
    pub fn is_undecided(&self) -> bool {
        match self {
            Cause::Broken(_) | Cause::Timeout | Cause::Content(_) => true,
            Cause::Status(status) => *status >= 500,
            Cause::Connect(_) | Cause::Unsent => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The proxy named the task whose death cut the request.
    Cut {
        task: String,
    },
    Failed(Cause),
}

/// One request, finished.
#[derive(Debug, Clone)]
pub struct Record {
    pub kind: Kind,
    pub connection: Connection,
    pub outcome: Outcome,
    pub request_id: String,
    /// The address that was asked.
    pub entry: String,
    /// Which replica answered, when it said so.
    pub instance: Option<String>,
    /// Which version answered, when it said so.
    pub version: Option<String>,
    /// When it was due, in milliseconds since 1970.
    pub unix_ms: u64,
    /// From when it was due to its complete answer.
    pub latency: Duration,
}
