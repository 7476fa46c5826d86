//! `docker service logs` of a million lines: their rate, complete and in order.

use std::time::Duration;

use anyhow::{Result, ensure};
use conformance::engine::Engine;
use serde_json::json;

use super::{super::median, Both, Metric, peer};

const LINES: usize = 1_000_000;
const ROUNDS: usize = 3;
const PATH: &str = "/v1.41/services/lines/logs?stdout=1&stderr=1&details=1";

pub fn measure(both: &Both) -> Result<Vec<Metric>> {
    for engine in [&both.ours, &both.theirs] {
        let arguments = json!(["lines", LINES.to_string()]);
        let driver = json!({ "Name": "json-file", "Options": { "max-size": "1g" } });
        let settings =
            [("/TaskTemplate/ContainerSpec/Args", arguments), ("/TaskTemplate/LogDriver", driver)];
        peer::create(engine, "lines", 1, &settings)?;
        let done = peer::wait(engine, "lines", "complete", 1, Duration::from_secs(120))?;
        ensure!(done == 1, "{}: a million lines take too long", engine.kind.name());
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(rate(&both.ours)?);
        theirs.push(rate(&both.theirs)?);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let whole = |engine: &Engine| -> Result<f64> {
        let (said, took) = peer::client(engine, &["service", "logs", "--raw", "lines"])?;
        let mut lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        ensure!(lines.by_ref().count() == LINES, "{}: not all lines", engine.kind.name());
        Ok(LINES as f64 / took.as_secs_f64())
    };
    let (our_client, their_client) = (whole(&both.ours)?, whole(&both.theirs)?);
    for engine in [&both.ours, &both.theirs] {
        peer::remove(engine, "lines")?;
    }
    let mut goal = Metric::at_least("logs_of_1000000_lines", ours / theirs, "x faster", 5.0);
    goal.compared_with = Some(format!("{ours:.0} to dockerd's {theirs:.0} lines/s"));
    let mut client = Metric::plain("client_logs_raw", our_client / their_client, "x faster");
    client.compared_with = Some(format!("{our_client:.0} to dockerd's {their_client:.0} lines/s"));
    Ok(vec![goal, client])
}

/// Lines a second of the bare answer: one frame each, all of them, in order.
fn rate(engine: &Engine) -> Result<f64> {
    let (body, took) = peer::ask(&engine.socket, "GET", PATH, "")?;
    let (mut rest, mut number) = (body.as_slice(), 0);
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let length = usize::try_from(length)?;
        ensure!(after.len() >= length, "{}: a frame is cut", engine.kind.name());
        number += 1;
        let wanted = format!(" line {number}\n");
        let line = &after[..length];
        ensure!(
            line.ends_with(wanted.as_bytes()),
            "{}: {:?} is not{wanted:?}",
            engine.kind.name(),
            String::from_utf8_lossy(line)
        );
        rest = &after[length..];
    }
    ensure!(number == LINES && rest.is_empty(), "{}: {number} lines", engine.kind.name());
    Ok(LINES as f64 / took.as_secs_f64())
}
