//! Images in Docker's shapes.

use serde_json::{Value, json};

use crate::image::Image;

/// What the API shows of an image beside itself.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) image: &'a Image,
    pub(super) names: Vec<String>,
    pub(super) digests: Vec<String>,
}

/// When the image was made, in seconds since 1970.
pub(super) fn created(image: &Image) -> u64 {
    seconds(&image.config["created"])
}

fn seconds(stamp: &Value) -> u64 {
    let at = stamp.as_str().and_then(dockerapi::stamp::parse);
    at.map_or(0, |at| at.0 / 1_000_000_000)
}

pub(super) fn labels(image: &Image) -> Value {
    let labels = &image.config["config"]["Labels"];
    if labels.is_object() { labels.clone() } else { json!({}) }
}

/// One of `GET /images/json`.
pub(super) fn summary(named: &Named<'_>) -> Value {
    let image = named.image;
    let is_dangling = named.names.is_empty() && named.digests.is_empty();
    let shown = |list: &[String], none: &str| match is_dangling {
        true => json!([none]),
        false => json!(list),
    };
    json!({
        "Id": image.id, "ParentId": "", "RepoTags": shown(&named.names, "<none>:<none>"),
        "RepoDigests": shown(&named.digests, "<none>@<none>"), "Created": created(image),
        "Size": image.size, "VirtualSize": image.size, "SharedSize": -1, "Containers": -1,
        "Labels": labels(image),
    })
}

/// `GET /images/NAME/json`.
pub(super) fn inspect(named: &Named<'_>) -> Value {
    let (image, config) = (named.image, &named.image.config);
    let text = |key: &str| config[key].as_str().unwrap_or("").to_owned();
    let created = config["created"].as_str().unwrap_or("1970-01-01T00:00:00Z");
    let mut shown = json!({
        "Id": image.id, "RepoTags": named.names, "RepoDigests": named.digests, "Parent": "",
        "Comment": text("comment"), "Created": created, "Container": text("container"),
        "DockerVersion": text("docker_version"), "Author": text("author"),
        // Gone from Docker's newer versions; docker-compose 1.29 still reads the second.
        "Config": config["config"], "ContainerConfig": config["config"], "Architecture": text("architecture"), "Os": text("os"),
        "Size": image.size, "VirtualSize": image.size,
        "GraphDriver": { "Data": null, "Name": "evenkeel" },
        "RootFS": { "Type": "layers", "Layers": config["rootfs"]["diff_ids"] },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    for (key, own) in [("Variant", "variant"), ("ContainerConfig", "container_config")] {
        if !config[own].is_null() {
            shown[key] = config[own].clone();
        }
    }
    shown
}

/// `GET /images/NAME/history`, the newest first.
pub(super) fn history(named: &Named<'_>) -> Value {
    let image = named.image;
    let no_history = vec![json!({}); image.layers.len()];
    let steps = image.config["history"].as_array().unwrap_or(&no_history);
    let mut sizes = image.sizes.iter();
    let mut shown: Vec<Value> = steps
        .iter()
        .map(|step| {
            let is_empty = step["empty_layer"].as_bool().unwrap_or(false);
            let size = if is_empty { 0 } else { sizes.next().copied().unwrap_or(0) };
            let text = |key: &str| step[key].as_str().unwrap_or("").to_owned();
            json!({
                "Id": "<missing>", "Created": seconds(&step["created"]), "Tags": null,
                "CreatedBy": text("created_by"), "Size": size, "Comment": text("comment"),
            })
        })
        .collect();
    if let Some(newest) = shown.last_mut() {
        newest["Id"] = json!(image.id);
        newest["Tags"] = json!(named.names);
    }
    shown.reverse();
    Value::Array(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_shows_the_newest_first_with_the_sizes_of_those_that_have_a_layer() {
        let image = json!({
            "id": "sha256:a", "layers": ["sha256:b"], "size": 7, "sizes": [7],
            "config": { "history": [
                { "created": "2026-01-01T00:00:01Z", "created_by": "COPY" },
                { "created_by": "ENTRYPOINT", "empty_layer": true },
            ]},
        });
        let image: Image = serde_json::from_value(image).expect("an image");
        let names = vec!["a:1".to_owned()];
        let shown = history(&Named { image: &image, names, digests: Vec::new() });
        assert_eq!((&shown[0]["Size"], &shown[1]["Size"]), (&json!(0), &json!(7)));
        assert_eq!((&shown[0]["Id"], &shown[0]["Tags"][0]), (&json!("sha256:a"), &json!("a:1")));
        assert_eq!(shown[1]["Created"], json!(1_767_225_601));
    }
}
