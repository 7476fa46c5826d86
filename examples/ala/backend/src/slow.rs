//! `GET /api/slow`: a request that takes its time, as a large report would.

use std::time::Duration;

use serde::Serialize;

use crate::api::Reply;

const LONGEST: f64 = 60.0;

#[derive(Serialize)]
struct Slept<'a> {
    slept_seconds: f64,
    tag: &'a str,
}

/// `seconds` (default 2) is how long; `tag` comes back as it was sent.
pub async fn show(seconds: Option<&str>, tag: Option<&str>) -> Reply {
    let seconds = seconds.and_then(|s| s.parse().ok()).unwrap_or(2.0_f64);
    let slept_seconds = if seconds.is_finite() { seconds.clamp(0.0, LONGEST) } else { 2.0 };
    tokio::time::sleep(Duration::from_secs_f64(slept_seconds)).await;
    Reply::json(200, &Slept { slept_seconds, tag: tag.unwrap_or("") })
}
