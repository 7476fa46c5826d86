//! `keel scale` and `keel restart`: one field of a service changed, and followed to its end.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::change::Interrupts;
use crate::{args, command::Context, failure::Outcome, human, progress::Shown};

pub async fn run(context: &Context, scale: &args::Scale) -> Outcome {
    let output = context.output;
    let client = context.announced().await?;
    let interrupts = Interrupts::listen(output)?;
    let started = Instant::now();
    let wanted: Vec<(String, u64)> =
        scale.wanted.iter().map(|(name, count)| (name.clone(), u64::from(*count))).collect();
    let progress = Shown::new(output);
    let heard = interrupts.heard.clone();
    let scaled = ops::scale::scale(&client, &wanted, scale.timeout, &progress, heard).await;
    progress.end();
    scaled?;
    if output.json {
        let services: Map<String, Value> =
            wanted.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        output.json(&json!({ "verdict": "scaled", "services": services, "milliseconds": took }))?;
        return Ok(());
    }
    for (name, count) in &wanted {
        output.line(&format!("{name} scaled to {count}"))?;
    }
    output.success(&format!("in {}; see `keel ls`", human::took(started.elapsed())));
    Ok(())
}

pub async fn restart(context: &Context, restart: &args::Restart) -> Outcome {
    let output = context.output;
    let client = context.announced().await?;
    let interrupts = Interrupts::listen(output)?;
    let started = Instant::now();
    let progress = Shown::new(output);
    let (name, heard) = (&restart.service, interrupts.heard.clone());
    let done = ops::scale::restart(&client, name, restart.timeout, &progress, heard).await;
    progress.end();
    done?;
    if output.json {
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        output.json(&json!({ "verdict": "restarted", "service": name, "milliseconds": took }))?;
    } else {
        let took = human::took(started.elapsed());
        output.line(&format!("every task of {name} was replaced ({took})"))?;
    }
    Ok(())
}
