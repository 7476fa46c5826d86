//! `keel releases`: what was released, when, by whom, and how it ended.

use std::time::Duration;

use dockerapi::stamp;
use ops::record::{self, Record};
use serde_json::{Value, json};

use crate::{args, command::Context, failure::Outcome, human, table, view};

pub async fn run(context: &Context, releases: &args::Releases) -> Outcome {
    let client = context.client().await?;
    let stacks = match &releases.stack {
        Some(stack) => vec![stack.clone()],
        None => record::stacks(&client).await?,
    };
    let mut rows: Vec<(Record, bool)> = Vec::new();
    for stack in stacks {
        let records = record::all(&client, &stack).await?;
        // A stack that was removed has no live release any more.
        let is_there = !view::service::list(&client, Some(&stack)).await?.is_empty();
        let live = record::live(&records).filter(|_| is_there).map(|record| record.seq);
        rows.extend(records.into_iter().rev().map(|record| {
            let is_live = Some(record.seq) == live;
            (record, is_live)
        }));
    }
    show(context, &rows)
}

fn show(context: &Context, rows: &[(Record, bool)]) -> Outcome {
    let output = context.output;
    if output.json {
        let list: Vec<Value> =
            rows.iter().map(|(record, is_live)| shown(record, *is_live)).collect();
        output.json(&json!(list))?;
    } else if output.quiet {
        for (record, _) in rows {
            output.line(&record.version)?;
        }
    } else if rows.is_empty() {
        output.note("nothing was released yet; see `keel deploy --help`");
    } else {
        let now = stamp::now();
        let header = ["STACK", "SEQ", "VERSION", "KIND", "VERDICT", "WHEN", "TOOK", "BY", "COMMIT"];
        let lines = rows.iter().map(|(record, is_live)| {
            [
                record.stack.clone(),
                record.seq.to_string(),
                record.version.clone(),
                record.kind.clone(),
                word(record, *is_live),
                human::ago(now, &record.finished),
                human::took(Duration::from_millis(record.milliseconds)),
                format!("{}@{}", record.by, record.host),
                record.commit.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        output.line(&table::render(header, lines))?;
    }
    Ok(())
}

/// Recorded as live is what was; one of them is it now.
fn word(record: &Record, is_live: bool) -> String {
    match record.verdict.as_str() {
        "live" if is_live => "live now".to_owned(),
        "live" => "was live".to_owned(),
        other => other.replace('_', " "),
    }
}

/// Without the specs: they hold environments, and those hold secrets.
fn shown(record: &Record, is_live: bool) -> Value {
    let mut value = json!(record);
    if let Some(map) = value.as_object_mut() {
        map.remove("specs");
        map.insert("is_live".to_owned(), json!(is_live));
    }
    value
}
