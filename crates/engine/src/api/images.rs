//! `/images`: load, list, inspect, tag, remove.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use dockerapi::{ApiError, filter::Filters, spec};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use hyper::{Response, body::Incoming};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::{Answer, Api, Body, Call, empty, json as respond};
use crate::image::{self, Error, Image};

/// The largest archive that is taken.
const ARCHIVE_LIMIT: usize = 16 << 30;
/// How long a client may take for the next piece of one: what makes it may be slow.
const PIECE_TIME: Duration = Duration::from_secs(300);

pub(super) fn no_registry(name: &str) -> ApiError {
    let why = "the embedded engine has no registry; load images with `keel build` or `docker load`";
    ApiError::not_found(format!("image {name} cannot be looked up in a registry: {why}"))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound(_) => Self::not_found(text),
            Error::InUse { .. } => Self { status: StatusCode::CONFLICT, message: text },
            Error::Archive(_) | Error::Digest(_) | Error::Escape { .. } => {
                Self::bad_parameter(text)
            }
            Error::Io { .. } => Self::internal(text),
        }
    }
}

fn summary(image: &Image, names: &[String]) -> Value {
    let created = image.config.get("created").and_then(Value::as_str);
    let seconds = created.and_then(dockerapi::stamp::parse).map_or(0, |at| at.0 / 1_000_000_000);
    json!({
        "Id": image.id, "RepoTags": names, "RepoDigests": [], "ParentId": "",
        "Created": seconds, "Size": image.size, "SharedSize": -1, "Containers": -1,
        "Labels": image.config.pointer("/config/Labels").cloned().unwrap_or(json!({})),
    })
}

pub(super) fn summaries(images: &image::Store) -> Vec<Value> {
    images.list().iter().map(|(image, names)| summary(image, names)).collect()
}

impl Api {
    pub(super) fn images(&self) -> Response<Body> {
        respond(&json!(summaries(&self.images)))
    }

    pub(super) fn image(&self, name: &str) -> Answer {
        let image = self.images.get(name)?;
        let names = self.images.list().into_iter().find(|(known, _)| known.id == image.id);
        let part = |key: &str| image.config.get(key).cloned().unwrap_or(Value::Null);
        Ok(respond(&json!({
            "Id": image.id, "RepoTags": names.map(|(_, names)| names).unwrap_or_default(),
            "RepoDigests": [], "Parent": "", "Comment": "", "Created": part("created"),
            "Architecture": part("architecture"), "Os": part("os"), "Size": image.size,
            "Config": part("config"), "RootFS": { "Type": "layers", "Layers": image.layers },
        })))
    }

    pub(super) async fn load_image(&self, call: Call) -> Answer {
        let (chunks, received) = chunks();
        let images = self.images.clone();
        let loading = tokio::task::spawn_blocking(move || images.load(received));
        let sent = feed(call.body, chunks).await;
        let loaded = loading.await.map_err(|error| ApiError::internal(error.to_string()))?;
        let names = loaded?;
        sent?;
        let lines: String = names
            .iter()
            .map(|name| format!("{}\n", json!({ "stream": format!("Loaded image: {name}\n") })))
            .collect();
        let mut response = Response::new(super::full(lines));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        Ok(response)
    }

    pub(super) async fn tag_image(&self, name: &str, call: &Call) -> Answer {
        let repo = call.get("repo").unwrap_or("");
        let tag = call.get("tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
        if repo.is_empty() {
            return Err(ApiError::bad_parameter("repo is missing"));
        }
        let (images, name, new) = (self.images.clone(), name.to_owned(), format!("{repo}:{tag}"));
        blocking(move || images.tag(&name, &new)).await??;
        Ok(empty(StatusCode::CREATED))
    }

    pub(super) async fn remove_image(&self, name: &str) -> Answer {
        let used = self.used_images().await?;
        let (images, name) = (self.images.clone(), name.to_owned());
        let removed = blocking(move || -> Result<Value, Error> {
            let image = images.get(&name)?;
            let is_id = !names_of(&images, &image.id).contains(&image::normalised(&name));
            if is_id && used.contains(&image.id) {
                return Err(Error::InUse { name, by: "a service".to_owned() });
            }
            let mut gone = Vec::new();
            let names = match is_id {
                true => names_of(&images, &image.id),
                false => vec![image::normalised(&name)],
            };
            for name in names {
                images.remove(&name, &used)?;
                gone.push(json!({ "Untagged": name }));
            }
            if images.get(&image.id).is_err() {
                gone.push(json!({ "Deleted": image.id }));
            }
            Ok(Value::Array(gone))
        });
        Ok(respond(&removed.await??))
    }

    /// Removes what no service refers to. `keep` spares the names that begin with a prefix
    /// (`filters={"keep":["ala-"]}`), `dangling=true` (Docker's default) only what has no name.
    pub(super) async fn prune_images(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &["dangling", "keep", "label", "until"])?;
        if filters.get("until").is_some() {
            return Err(ApiError::not_supported(
                "the embedded engine does not prune images by their age (`until`)",
            ));
        }
        let is_all = filters.get("dangling").is_some_and(|values| {
            values.iter().any(|value| matches!(value.as_str(), "false" | "0"))
        });
        let kept = filters.get("keep").unwrap_or_default().to_vec();
        let used = self.used_images().await?;
        let images = self.images.clone();
        let pruned = blocking(move || -> Result<Value, Error> {
            let (mut gone, mut bytes) = (Vec::new(), 0);
            for (image, names) in images.list().iter().filter(|_| is_all) {
                let labels = &image.config["config"]["Labels"];
                if used.contains(&image.id) || !filters.labels(labels) {
                    continue;
                }
                for name in names.iter().filter(|n| !kept.iter().any(|k| n.starts_with(k))) {
                    match images.remove(name, &used) {
                        Ok(()) => gone.push(json!({ "Untagged": name })),
                        Err(Error::InUse { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                if images.get(&image.id).is_err() {
                    bytes += image.size;
                    gone.push(json!({ "Deleted": image.id }));
                }
            }
            Ok(json!({ "ImagesDeleted": gone, "SpaceReclaimed": bytes }))
        });
        Ok(respond(&pruned.await??))
    }

    /// Names and ids of the images that tasks run or services may start: theirs now, and those
    /// that a rollback returns to.
    async fn used_images(&self) -> Result<BTreeSet<String>, ApiError> {
        let definitions: BTreeSet<Arc<str>> = self
            .control
            .read(|state| {
                let live = state.world.tasks().filter(|task| !task.is_over());
                let tasks = live.map(|task| Arc::clone(&task.spec.definition));
                let services = state.world.services().filter(|service| !service.is_removed);
                let specs = services.flat_map(|service| {
                    let back = service.is_rolling().then_some(service.last_good.as_ref());
                    let back = back.flatten().map(|(_, spec)| spec);
                    std::iter::once(&service.spec).chain(back)
                });
                tasks.chain(specs.map(|spec| Arc::clone(&spec.task.definition))).collect()
            })
            .await?;
        let names = definitions.iter().filter_map(|definition| {
            let read: spec::Definition = serde_json::from_str(definition).ok()?;
            Some(image::normalised(&read.task_template.container_spec?.image))
        });
        let mut used: BTreeSet<String> = names.collect();
        let ids = used.iter().filter_map(|name| Some(self.images.get(name).ok()?.id));
        let ids: Vec<String> = ids.collect();
        used.extend(ids);
        Ok(used)
    }
}

fn names_of(images: &image::Store, id: &str) -> Vec<String> {
    let found = images.list().into_iter().find(|(image, _)| image.id == id);
    found.map(|(_, names)| names).unwrap_or_default()
}

/// Off the threads that serve: it deletes files.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::internal(error.to_string()))
}

/// Passes the body on piece by piece; a slow disk slows the client down.
pub(super) async fn feed(
    body: Incoming,
    chunks: mpsc::Sender<io::Result<bytes::Bytes>>,
) -> Result<(), ApiError> {
    let mut body = Limited::new(body, ARCHIVE_LIMIT);
    loop {
        let frame = match timeout(PIECE_TIME, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(|error| error.to_string()),
            Ok(None) => return Ok(()),
            Err(_) => Err(format!("nothing came for {} s", PIECE_TIME.as_secs())),
        };
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(chunk) => Ok(chunk),
                Err(_) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let is_end = chunk.is_err();
        // The reader stopped: its own error tells why.
        if chunks.send(chunk).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// Both ends of a body on its way to whoever reads it off the threads that serve.
pub(super) fn chunks() -> (mpsc::Sender<io::Result<bytes::Bytes>>, Chunks) {
    let (sender, received) = mpsc::channel(16);
    (sender, Chunks { received, rest: bytes::Bytes::new() })
}

pub(super) struct Chunks {
    received: mpsc::Receiver<io::Result<bytes::Bytes>>,
    rest: bytes::Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.received.blocking_recv() {
                Some(chunk) => self.rest = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
