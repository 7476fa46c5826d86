//! What is shown, as plain values: facts from the engine, gathered once, said as a table or as JSON.

pub mod service;
pub mod stats;
pub mod task;

use std::collections::BTreeMap;

use dockerapi::{Client, ClientError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;

/// The label that names a service's stack.
pub const STACK: &str = "com.docker.stack.namespace";
/// The label that names a service's release.
pub const RELEASE: &str = "evenkeel.release";

/// Raw objects as typed ones.
pub fn typed<T: DeserializeOwned>(list: Vec<Value>) -> Result<Vec<T>, Failure> {
    list.into_iter().map(one).collect()
}

pub fn one<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::new(
            "engine-answer-unreadable",
            format!("the engine's answer cannot be read: {error}"),
        )
    })
}

/// A filter on the stack's label.
pub fn of_stack(stack: Option<&str>) -> Option<String> {
    stack.map(|stack| format!("{STACK}={stack}"))
}

/// What keel's own engine knows of its tasks beyond Docker's API, by task id; nothing on Docker.
pub async fn own_tasks(client: &Client) -> Result<BTreeMap<String, Value>, Failure> {
    match client.get("/evenkeel/v1/tasks").await {
        Ok(list) => {
            let list = list.as_array().cloned().unwrap_or_default();
            let named = list.into_iter().filter_map(|task| Some((text(&task, "ID")?, task)));
            Ok(named.collect())
        }
        Err(error) if is_unknown(&error) => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// This engine is a Docker with a daemon of ours on each node.
pub async fn has_daemons(client: &Client) -> bool {
    let ready = client.get("/evenkeel/v1/ready").await.unwrap_or_default();
    ready["engine"] == "swarm"
}

/// The engine is not keel's own.
pub fn is_unknown(error: &ClientError) -> bool {
    error.is_not_found()
}

pub fn text(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

/// An image's name without the digest that Docker adds to it.
pub fn image_name(image: &str) -> &str {
    image.split_once('@').map_or(image, |(name, _)| name)
}
