//! `/images`: list, inspect, tag, remove, prune. `transfer` has archives, `registry` the registries.

mod registry;
mod shape;
mod transfer;

use std::{collections::BTreeSet, sync::Arc};

use dockerapi::{ApiError, filter::Filters, spec, stamp};
use http::StatusCode;
use hyper::Response;
use orchestrator::Time;
use serde_json::{Value, json};

use self::shape::Named;
pub(super) use self::{
    registry::credential,
    transfer::{chunks, feed},
};
use super::{Answer, Api, Body, Call, empty, json as respond};
use crate::image::{self, Error, Gone, Image, Prune, name::Name, pattern};

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound(_) => Self::not_found(text),
            Error::InUse { .. } | Error::ManyNames { .. } => {
                Self { status: StatusCode::CONFLICT, message: text }
            }
            Error::Archive(_) | Error::Digest(_) | Error::Escape { .. } | Error::Name(_) => {
                Self::bad_parameter(text)
            }
            Error::Io { .. } => Self::internal(text),
        }
    }
}

pub(super) fn summaries(images: &image::Store) -> Vec<Value> {
    let all = images.list();
    let named = all.iter().map(|(image, names)| {
        let digests = images.digests(&image.id);
        shape::summary(&Named { image, names: names.clone(), digests })
    });
    named.collect()
}

/// Which images are listed.
struct Wanted {
    filters: Filters,
    before: Option<u64>,
    since: Option<u64>,
    until: Option<Time>,
}

const LIST_KEYS: [&str; 6] = ["dangling", "reference", "before", "since", "label", "until"];

impl Wanted {
    fn read(images: &image::Store, call: &Call) -> Result<Self, ApiError> {
        let filters = Filters::parse(call.get("filters"), &LIST_KEYS)?;
        let made = |key: &str| -> Result<Option<u64>, ApiError> {
            let name = filters.get(key).and_then(|values| values.first());
            name.map(|name| Ok(shape::created(&images.get(name)?))).transpose()
        };
        let (before, since) = (made("before")?, made("since")?);
        let until = until(&filters)?;
        dangling(&filters)?;
        Ok(Self { filters, before, since, until })
    }

    /// The image with those of its names that are wanted; none when it is not.
    fn choose(&self, image: &Image, names: Vec<String>, digests: Vec<String>) -> Option<Value> {
        let created = shape::created(image);
        let is_dangling = names.is_empty();
        let fits = self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until.0 / 1_000_000_000)
            && dangling(&self.filters).ok()?.is_none_or(|wanted| wanted == is_dangling)
            && self.filters.labels(&shape::labels(image));
        let mut named = Named { image, names, digests };
        if self.filters.get("reference").is_some() {
            named.names.retain(|name| self.is_meant(name));
            named.digests.retain(|digest| self.is_meant(digest));
        }
        let is_meant = self.filters.get("reference").is_none()
            || !(named.names.is_empty() && named.digests.is_empty());
        (fits && is_meant).then(|| shape::summary(&named))
    }

    fn is_meant(&self, name: &str) -> bool {
        let repository = Name::parse(name).map(|name| name.repository()).unwrap_or_default();
        self.filters.any("reference", |wanted| {
            pattern::matches(wanted, name) || pattern::matches(wanted, &repository)
        })
    }
}

fn dangling(filters: &Filters) -> Result<Option<bool>, ApiError> {
    let Some(value) = filters.get("dangling").and_then(|values| values.first()) else {
        return Ok(None);
    };
    match value.as_str() {
        "1" | "true" | "True" => Ok(Some(true)),
        "0" | "false" | "False" => Ok(Some(false)),
        other => Err(ApiError::bad_parameter(format!("invalid filter 'dangling=[{other}]'"))),
    }
}

/// A time, or how long ago.
fn until(filters: &Filters) -> Result<Option<Time>, ApiError> {
    let Some(text) = filters.get("until").and_then(|values| values.first()) else {
        return Ok(None);
    };
    let ago = |text: &str| {
        let ago = u64::try_from(stamp::parse_duration(text)?.as_nanos()).ok()?;
        Some(Time(stamp::now().0.saturating_sub(ago)))
    };
    let read = ago(text).or_else(|| stamp::parse_unix(text)).or_else(|| stamp::parse(text));
    let wrong = || ApiError::bad_parameter(format!("invalid value for until: {text}"));
    read.ok_or_else(wrong).map(Some)
}

fn shown(gone: &[Gone]) -> Vec<Value> {
    let one = |gone: &Gone| match gone {
        Gone::Untagged(name) => json!({ "Untagged": name }),
        Gone::Deleted(id) => json!({ "Deleted": id }),
    };
    gone.iter().map(one).collect()
}

impl Api {
    pub(super) fn images(&self, call: &Call) -> Answer {
        let wanted = Wanted::read(&self.images, call)?;
        let all = self.images.list().into_iter().filter_map(|(image, names)| {
            let digests = self.images.digests(&image.id);
            wanted.choose(&image, names, digests)
        });
        let mut all: Vec<Value> = all.collect();
        all.sort_by_key(|image| std::cmp::Reverse(image["Created"].as_u64()));
        Ok(respond(&json!(all)))
    }

    pub(super) fn image(&self, name: &str) -> Answer {
        self.show_image(name, shape::inspect)
    }

    pub(super) fn image_history(&self, name: &str) -> Answer {
        self.show_image(name, shape::history)
    }

    fn show_image(&self, name: &str, shape: impl Fn(&Named<'_>) -> Value) -> Answer {
        let image = self.images.get(name)?;
        let (names, digests) = (self.images.names(&image.id), self.images.digests(&image.id));
        Ok(respond(&shape(&Named { image: &image, names, digests })))
    }

    pub(super) async fn tag_image(&self, name: &str, call: &Call) -> Answer {
        let repo = call.get("repo").unwrap_or("");
        let tag = call.get("tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
        if repo.is_empty() {
            return Err(ApiError::bad_parameter("repo is missing"));
        }
        let (images, name, new) = (self.images.clone(), name.to_owned(), format!("{repo}:{tag}"));
        let told = new.clone();
        blocking(move || images.tag(&name, &new)).await??;
        self.tell("tag", &told).await;
        Ok(empty(StatusCode::CREATED))
    }

    pub(super) async fn remove_image(&self, name: &str, call: &Call) -> Answer {
        let used = self.used_images().await?;
        let (images, name, force) = (self.images.clone(), name.to_owned(), call.is_set("force"));
        let gone = blocking(move || images.remove(&name, &used, force)).await??;
        self.tell_gone(&gone).await;
        Ok(respond(&Value::Array(shown(&gone))))
    }

    /// Removes what no service refers to. `keep` spares the names that begin with a prefix
    /// (`filters={"keep":["ala-"]}`), `dangling=true` (Docker's default) only what has no name.
    pub(super) async fn prune_images(&self, call: &Call) -> Answer {
        let known = ["dangling", "keep", "label", "label!", "until"];
        let filters = Filters::parse(call.get("filters"), &known)?;
        let is_all = dangling(&filters)? == Some(false);
        let until = until(&filters)?;
        let used = self.used_images().await?;
        let images = self.images.clone();
        let pruned = blocking(move || {
            let fits = |image: &Image| {
                let labels = shape::labels(image);
                let is_spared = filters.get("label!").is_some_and(|spared| {
                    spared.iter().any(|label| match label.split_once('=') {
                        Some((key, value)) => labels[key] == value,
                        None => labels.get(label).is_some(),
                    })
                });
                until.is_none_or(|until| shape::created(image) < until.0 / 1_000_000_000)
                    && filters.labels(&labels)
                    && !is_spared
            };
            let kept = filters.get("keep").unwrap_or_default();
            images.prune(&Prune { is_all, kept, fits: &fits }, &used)
        });
        let (gone, bytes) = pruned.await??;
        self.tell_gone(&gone).await;
        Ok(respond(&json!({ "ImagesDeleted": shown(&gone), "SpaceReclaimed": bytes })))
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
                let alone = state.containers.values().map(|own| Arc::clone(&own.definition));
                let specs = specs.map(|spec| Arc::clone(&spec.task.definition));
                tasks.chain(specs).chain(alone).collect()
            })
            .await?;
        let references = definitions.iter().filter_map(|definition| {
            let read: spec::Definition = serde_json::from_str(definition).ok()?;
            Some(read.task_template.container_spec?.image)
        });
        let mut used = BTreeSet::new();
        for reference in references {
            used.extend(self.images.get(&reference).ok().map(|image| image.id));
            used.insert(image::normalised(&reference));
        }
        Ok(used)
    }

    /// An event of `GET /events`.
    async fn tell(&self, action: &'static str, name: &str) {
        let name = name.to_owned();
        let told = self.control.write(move |state| {
            state.event("image", action, &name, json!({ "name": name }));
            Ok(())
        });
        // The engine is ending, and nobody listens.
        let _ = told.await;
    }

    async fn tell_gone(&self, gone: &[Gone]) {
        for gone in gone {
            match gone {
                Gone::Untagged(name) => self.tell("untag", name).await,
                Gone::Deleted(id) => self.tell("delete", id).await,
            }
        }
    }
}

/// Off the threads that serve: it deletes files.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::internal(error.to_string()))
}

/// 200 with lines of JSON.
fn lines(text: String) -> Response<Body> {
    let mut response = Response::new(super::full(text));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
