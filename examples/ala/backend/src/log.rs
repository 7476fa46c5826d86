//! Log lines: one JSON object a line on standard output.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    event: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
pub struct RequestLine<'a> {
    pub time: String,
    pub level: &'static str,
    pub event: &'static str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub ms: f64,
    pub request_id: &'a str,
}

pub fn info(event: &str, message: &str) {
    write(&Line { time: now(), level: "info", event, message });
}

pub fn warn(event: &str, message: &str) {
    write(&Line { time: now(), level: "warn", event, message });
}

pub fn error(event: &str, message: &str) {
    write(&Line { time: now(), level: "error", event, message });
}

pub fn request(method: &str, path: &str, status: u16, took: Duration, request_id: &str) {
    let level = if status >= 500 { "error" } else { "info" };
    let ms = (took.as_secs_f64() * 1e5).round() / 100.0;
    let event = "request";
    write(&RequestLine { time: now(), level, event, method, path, status, ms, request_id });
}

/// The time now as RFC 3339 in UTC with milliseconds.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Whoever reads the log may be gone; the service goes on without it.
fn write(line: &impl Serialize) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&text);
    }
}
