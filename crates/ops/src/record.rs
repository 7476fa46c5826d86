//! What is kept of releases, in the engine, as config objects: a record of each release, and the
//! intent of one that is under way.

use std::collections::BTreeMap;

use base64::Engine as _;
use dockerapi::{Client, client::Kind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;

/// A release as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub stack: String,
    pub seq: u64,
    pub version: String,
    /// `deploy` or `rollback`.
    pub kind: String,
    /// `live`, `rolled_back`, `failed`, `interrupted`.
    pub verdict: String,
    pub cause: Option<String>,
    pub commit: Option<String>,
    pub by: String,
    pub host: String,
    pub started: String,
    pub finished: String,
    pub milliseconds: u64,
    /// Service → milliseconds its rollout took.
    pub durations: BTreeMap<String, u64>,
    /// Image → content digest.
    pub digests: BTreeMap<String, String>,
    /// Service → raw spec. Secrets are references here, never values.
    pub specs: BTreeMap<String, Value>,
}

/// Written before the first change, deleted at the end: what a later run needs to know of one that
/// was killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub version: String,
    /// Service → raw spec before the release; none when there was no such service.
    pub previous: BTreeMap<String, Option<Value>>,
}

fn encode(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode<T: serde::de::DeserializeOwned>(object: &Value) -> Option<T> {
    let data = object.pointer("/Spec/Data")?.as_str()?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    serde_json::from_slice(&bytes).ok()
}

async fn of_kind(client: &Client, stack: &str, kind: &str) -> Result<Vec<Value>, Error> {
    let (kind, stack) = (format!("evenkeel.kind={kind}"), format!("evenkeel.stack={stack}"));
    let wanted = [("label", kind.as_str()), ("label", stack.as_str())];
    Ok(client.blobs(Kind::Config, &wanted).await?)
}

/// All records of a stack, oldest first.
pub async fn all(client: &Client, stack: &str) -> Result<Vec<Record>, Error> {
    let objects = of_kind(client, stack, "release").await?;
    let mut records: Vec<Record> = objects.iter().filter_map(decode).collect();
    records.sort_by_key(|record| record.seq);
    Ok(records)
}

/// Stacks that have records.
pub async fn stacks(client: &Client) -> Result<Vec<String>, Error> {
    let objects = client.blobs(Kind::Config, &[("label", "evenkeel.kind=release")]).await?;
    let names = objects.iter().filter_map(|object| {
        Some(object.pointer("/Spec/Labels")?.get("evenkeel.stack")?.as_str()?.to_owned())
    });
    Ok(names.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
}

/// Saves a record and deletes the oldest beyond `keep`.
pub async fn save(client: &Client, record: &Record, keep: usize) -> Result<(), Error> {
    let spec = json!({
        "Name": format!("evenkeel.{}.release.{}", record.stack, record.seq),
        "Labels": {
            "evenkeel.kind": "release",
            "evenkeel.stack": record.stack,
            "evenkeel.version": record.version,
            "evenkeel.verdict": record.verdict,
        },
        "Data": encode(record),
    });
    client.create_blob(Kind::Config, &spec).await?;
    let known = all(client, &record.stack).await?;
    for old in known.iter().take(known.len().saturating_sub(keep.max(2))) {
        let name = format!("evenkeel.{}.release.{}", old.stack, old.seq);
        let _ = client.remove_blob(Kind::Config, &name).await;
    }
    Ok(())
}

/// The live release: the newest that ended well.
pub fn live(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|record| record.verdict == "live")
}

fn intent_name(stack: &str) -> String {
    format!("evenkeel.{stack}.intent")
}

pub async fn intent(client: &Client, stack: &str) -> Option<Intent> {
    decode(&client.blob(Kind::Config, &intent_name(stack)).await.ok()?)
}

pub async fn save_intent(client: &Client, stack: &str, intent: &Intent) -> Result<(), Error> {
    let _ = client.remove_blob(Kind::Config, &intent_name(stack)).await;
    let spec = json!({
        "Name": intent_name(stack),
        "Labels": { "evenkeel.kind": "intent", "evenkeel.stack": stack },
        "Data": encode(intent),
    });
    client.create_blob(Kind::Config, &spec).await?;
    Ok(())
}

pub async fn drop_intent(client: &Client, stack: &str) {
    let _ = client.remove_blob(Kind::Config, &intent_name(stack)).await;
}
