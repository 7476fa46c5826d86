//! `GET /events`: what happened since a time, and what happens until one.

use std::time::Duration;

use bytes::Bytes;
use dockerapi::{ApiError, filter::Filters, stamp};
use orchestrator::Time;
use serde_json::Value;

use super::{Answer, Api, Call, stream};

const KEYS: [&str; 16] = [
    "type",
    "event",
    "scope",
    "label",
    "container",
    "service",
    "config",
    "secret",
    "network",
    "node",
    "volume",
    "image",
    "daemon",
    "plugin",
    "reference",
    "exec",
];

impl Api {
    /// Until the client goes, or the time given. One that stops reading loses the connection.
    pub(super) async fn events(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &KEYS)?;
        let (since, until) = (time(call, "since")?, time(call, "until")?);
        let (recent, mut coming) = self.control.events.subscribe();
        let (lines, response) = stream::open("application/json");
        let mut ends = self.ends.clone();
        tokio::spawn(async move {
            let left = until.map(|until| until.since(stamp::now()));
            let mut over = std::pin::pin!(async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            });
            let is_between = |event: &Value| {
                let at = event["timeNano"].as_u64().map_or(Time(0), Time);
                since.is_some_and(|since| at >= since) && until.is_none_or(|until| at <= until)
            };
            for event in recent.iter().filter(|event| is_between(event) && fits(&filters, event)) {
                if lines.send(line(event)).await.is_err() {
                    return;
                }
            }
            if left.is_some_and(|left| left <= Duration::ZERO) {
                return;
            }
            loop {
                let event = tokio::select! {
                    event = coming.recv() => event,
                    () = &mut over => return,
                    () = lines.closed() => return,
                    _ = ends.wait_for(|ends| *ends) => return,
                };
                // Behind by too much, or the engine is gone.
                let Ok(event) = event else { return };
                if fits(&filters, &event) && lines.send(line(&event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(response)
    }
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

fn time(call: &Call, key: &str) -> Result<Option<Time>, ApiError> {
    match call.get(key).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match stamp::parse_unix(text).or_else(|| stamp::parse(text)) {
            Some(time) => Ok(Some(time)),
            None => Err(ApiError::bad_parameter(format!("invalid value for {key}: {text}"))),
        },
    }
}

fn fits(filters: &Filters, event: &Value) -> bool {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("");
    let (kind, action) = (text("/Type"), text("/Action"));
    let is_of = |key: &str| {
        filters.any(key, |wanted| {
            kind == key
                && (text("/Actor/ID").starts_with(wanted)
                    || text("/Actor/Attributes/name") == wanted)
        })
    };
    filters.any("type", |wanted| wanted == kind)
        && filters.any("scope", |wanted| wanted == text("/scope"))
        && filters.any("event", |wanted| {
            action == wanted || action.split_once(": ").is_some_and(|(name, _)| name == wanted)
        })
        && filters.labels(&event["Actor"]["Attributes"])
        && KEYS[4..].iter().all(|key| is_of(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_found_by_type_action_object_and_label() {
        let event = json!({
            "Type": "container", "Action": "health_status: healthy", "scope": "local",
            "Actor": { "ID": "abc", "Attributes": { "name": "web.1.x", "team": "a" } },
        });
        let fits =
            |filters: &str| fits(&Filters::parse(Some(filters), &KEYS).expect("parses"), &event);
        assert!(fits("{}"));
        assert!(fits(r#"{"type":["container"],"event":["health_status"]}"#));
        assert!(fits(r#"{"container":["web.1.x"],"label":["team=a"]}"#));
        assert!(!fits(r#"{"service":["web"]}"#));
        assert!(!fits(r#"{"event":["die"]}"#));
    }
}
