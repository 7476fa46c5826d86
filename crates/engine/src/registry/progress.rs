//! What a pull or push tells while it goes on, as the docker client reads it: one JSON object per
//! line.

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Tells somebody, or nobody.
#[derive(Clone, Debug, Default)]
pub struct Teller(Option<mpsc::Sender<Value>>);

impl Teller {
    pub fn new(lines: mpsc::Sender<Value>) -> Self {
        Self(Some(lines))
    }

    pub(super) async fn say(&self, line: Value) {
        if let Some(lines) = &self.0 {
            let _ = lines.send(line).await;
        }
    }

    pub(super) async fn status(&self, text: impl Into<String>) {
        self.say(json!({ "status": text.into() })).await;
    }

    /// The state of one blob.
    pub(super) async fn blob(&self, digest: &str, status: &str) {
        let line = json!({ "status": status, "progressDetail": {}, "id": short(digest) });
        self.say(line).await;
    }

    /// How far a blob is; left out when the listener is behind.
    pub(super) fn far(&self, digest: &str, status: &str, current: u64, total: u64) {
        if let Some(lines) = &self.0 {
            let _ = lines.try_send(json!({
                "status": status,
                "progressDetail": { "current": current, "total": total },
                "progress": bar(current, total), "id": short(digest),
            }));
        }
    }
}

/// The first twelve digits.
pub(super) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

/// Docker's bar: `[====>    ]  1.2MB/3MB`.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: u64 = 50;
    let done = (WIDTH * current.min(total)).checked_div(total).unwrap_or(WIDTH);
    let (done, left) = (done as usize, (WIDTH - done) as usize);
    let head = if left > 0 { ">" } else { "" };
    let line = format!("{}{head}{}", "=".repeat(done), " ".repeat(left.saturating_sub(1)));
    format!("[{line}]  {}/{}", size(current), size(total))
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return format!("{}{unit}", precise(value));
        }
        value /= 1000.0;
    }
    format!("{}GB", precise(value))
}

/// Four digits, as Docker shows them.
fn precise(value: f64) -> String {
    let digits = if value >= 1000.0 { 0 } else { 3 - (value.max(1.0).log10().floor() as usize) };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_as_docker_s() {
        let half = format!("[{}>{}]  1.5kB/3kB", "=".repeat(25), " ".repeat(24));
        assert_eq!(bar(1500, 3000), half);
        assert_eq!(bar(7, 7), format!("[{}]  7B/7B", "=".repeat(50)));
        assert_eq!((size(1_234_567), size(0)), ("1.235MB".to_owned(), "0B".to_owned()));
    }
}
