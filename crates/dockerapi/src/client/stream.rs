//! Answers that are read piece by piece: JSON values, and logs as frames.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Client, ClientError, escape};
use crate::frame::{Decoder, Stream};

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Streamed {
    path: String,
    body: Incoming,
}

impl Streamed {
    pub(super) fn new(path: &str, body: Incoming) -> Self {
        Self { path: path.to_owned(), body }
    }

    /// The next piece; `None` at the end. Safe to drop between polls.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Protocol {
                        path: self.path.clone(),
                        reason: error.to_string(),
                    });
                }
            }
        }
    }
}

/// JSON values, one after another as they come.
#[derive(Debug)]
pub struct Values {
    body: Streamed,
    /// What came of the next ones.
    rest: Vec<u8>,
}

impl Values {
    pub(super) fn new(body: Streamed) -> Self {
        Self { body, rest: Vec::new() }
    }

    /// The next value; `None` at the end. Safe to drop between polls.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.rest).into_iter();
            match values.next() {
                Some(Ok(value)) => {
                    let read = values.byte_offset();
                    self.rest.drain(..read);
                    return Ok(Some(value));
                }
                Some(Err(error)) if !error.is_eof() => return Err(self.unreadable(&error)),
                cut => match self.body.next().await? {
                    Some(bytes) => self.rest.extend_from_slice(&bytes),
                    None => return cut.transpose().map_err(|error| self.unreadable(&error)),
                },
            }
        }
    }

    fn unreadable(&self, error: &serde_json::Error) -> ClientError {
        ClientError::Protocol { path: self.body.path.clone(), reason: error.to_string() }
    }
}

/// Which log lines.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Goes on with lines to come.
    pub follow: bool,
    /// Only so many of the last lines of each task.
    pub tail: Option<u64>,
    /// Unix time in seconds, with a fraction.
    pub since: Option<String>,
    pub timestamps: bool,
}

impl LogQuery {
    fn text(&self) -> String {
        let mut text = "stdout=1&stderr=1".to_owned();
        if self.follow {
            text.push_str("&follow=1");
        }
        if self.timestamps {
            text.push_str("&timestamps=1");
        }
        if let Some(tail) = self.tail {
            text.push_str(&format!("&tail={tail}"));
        }
        if let Some(since) = &self.since {
            text.push_str(&format!("&since={}", escape(since)));
        }
        text
    }
}

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub stream: Stream,
    /// RFC 3339, when it was asked for.
    pub time: Option<String>,
    /// The task that wrote it; empty when the engine did not say.
    pub task: String,
    /// Without its newline.
    pub text: String,
}

/// Log lines as they come.
#[derive(Debug)]
pub struct LogStream {
    body: Streamed,
    decoder: Decoder,
    timestamps: bool,
    /// Lines say which task they are of.
    has_details: bool,
}

impl LogStream {
    /// The next line; `None` at the end. Safe to drop between polls.
    pub async fn next(&mut self) -> Result<Option<LogLine>, ClientError> {
        loop {
            if let Some((stream, payload)) = self.decoder.next_frame() {
                return Ok(Some(line(stream, &payload, self.timestamps, self.has_details)));
            }
            match self.body.next().await? {
                Some(bytes) => self.decoder.feed(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// `[time ' '] details ' ' text '\n'`, as the API writes it.
fn line(stream: Stream, payload: &[u8], timestamps: bool, has_details: bool) -> LogLine {
    let text = String::from_utf8_lossy(payload);
    let mut text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = LogLine { stream, time: None, task: String::new(), text: String::new() };
    if stream != Stream::System {
        if timestamps && let Some((time, rest)) = text.split_once(' ') {
            line.time = Some(time.to_owned());
            text = rest;
        }
        if let Some((details, rest)) = text.split_once(' ').filter(|_| has_details) {
            let mut pairs = details.split(',').filter_map(|pair| pair.split_once('='));
            if let Some((_, task)) = pairs.find(|(key, _)| *key == "com.docker.swarm.task.id") {
                line.task = task.to_owned();
                text = rest;
            }
        }
    }
    line.text = text.to_owned();
    line
}

impl Client {
    /// Logs of all tasks of a service, those that ended included.
    pub async fn service_logs(&self, id: &str, query: &LogQuery) -> Result<LogStream, ClientError> {
        self.logs(&format!("/services/{}/logs", escape(id)), query, true).await
    }

    /// Logs of one task.
    pub async fn task_logs(&self, id: &str, query: &LogQuery) -> Result<LogStream, ClientError> {
        self.logs(&format!("/tasks/{}/logs", escape(id)), query, true).await
    }

    /// The log of one container; `prefix` comes before Docker's own paths.
    pub async fn container_logs(
        &self,
        prefix: &str,
        id: &str,
        query: &LogQuery,
    ) -> Result<LogStream, ClientError> {
        self.logs(&format!("{prefix}/containers/{}/logs", escape(id)), query, false).await
    }

    async fn logs(
        &self,
        path: &str,
        query: &LogQuery,
        has_details: bool,
    ) -> Result<LogStream, ClientError> {
        let details = if has_details { "&details=1" } else { "" };
        let body = self.stream(&format!("{path}?{}{details}", query.text())).await?;
        let (decoder, timestamps) = (Decoder::default(), query.timestamps);
        Ok(LogStream { body, decoder, timestamps, has_details })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_from_its_time_and_details() {
        let details = "com.docker.swarm.node.id=n,com.docker.swarm.service.id=s,\
                       com.docker.swarm.task.id=t";
        let payload = format!("2026-11-23T09:36:34.772441153Z {details} a b\n");
        let seen = line(Stream::Stderr, payload.as_bytes(), true, true);
        assert_eq!(seen.time.as_deref(), Some("2026-11-23T09:36:34.772441153Z"));
        assert_eq!((seen.task.as_str(), seen.text.as_str()), ("t", "a b"));
        let plain = line(Stream::Stdout, b"no details here\n", false, true);
        assert_eq!((plain.task.as_str(), plain.text.as_str()), ("", "no details here"));
        let text = "com.docker.swarm.task.id=t b";
        assert_eq!(line(Stream::Stdout, text.as_bytes(), false, false).text, text);
    }
}
