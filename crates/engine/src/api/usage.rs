//! What takes room on the disk, and what may go: `docker system df`, the prunes of volumes and
//! networks.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use dockerapi::{ApiError, filter::Filters};
use serde_json::{Value, json};

use super::{
    Answer, Api, Call,
    container::{Container, Kind},
    images::blocking,
    json as respond,
};
use crate::{
    control::{State, container_id, name_of},
    driver::mount,
};

/// Bytes that a folder takes, links not followed.
pub(super) fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(known) if known.is_dir() => size(&entry.path()),
        Ok(known) => known.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// How many containers and services have a named volume.
fn users(state: &State, volume: &str) -> usize {
    let mounts = Container::all(state)
        .into_iter()
        .filter(|container| container.is_running() || matches!(container.kind, Kind::Alone(_)))
        .filter(|container| {
            let mounts = container.spec().mounts;
            mounts.iter().any(|mount| mount.kind != "bind" && mount.source == volume)
        });
    let services = state.world.services().filter(|service| {
        let raw: Value = serde_json::from_str(&service.spec.raw).unwrap_or_default();
        let mounts = raw["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array();
        !service.is_removed
            && mounts.into_iter().flatten().any(|m| m["Type"] != "bind" && m["Source"] == volume)
    });
    mounts.count() + services.count()
}

/// Docker's words for a volume that cannot go.
pub(super) fn refuse_used_volume(state: &State, volume: &str) -> Result<(), ApiError> {
    let users: Vec<String> = state
        .containers
        .values()
        .filter(|own| {
            let spec = Container::alone(own).spec();
            spec.mounts.iter().any(|mount| mount.kind != "bind" && mount.source == volume)
        })
        .map(|own| container_id(&own.id))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(super::containers::conflict(format!(
        "remove {volume}: volume is in use - [{}]",
        users.join(", ")
    )))
}

/// Ids of networks that neither a service nor a container is in, built-in ones apart.
fn unused_networks(state: &State) -> Vec<(String, String)> {
    let used: BTreeSet<String> =
        Container::all(state).iter().flat_map(Container::networks).collect();
    let networks = state.objects["network"].iter().filter(|(id, network)| {
        let name = name_of(network);
        let is_built_in = network["Ingress"] == true || is_predefined(name);
        !is_built_in && !used.contains(name) && state.users_of(id).is_empty()
    });
    networks.map(|(id, network)| (id.clone(), name_of(network).to_owned())).collect()
}

/// The networks that every engine has.
pub(super) fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

impl Api {
    pub(super) async fn disk_usage(&self) -> Answer {
        let known = self.control.read(|state| {
            let volumes: Vec<(Value, usize)> = state.objects["volume"]
                .values()
                .map(|volume| (volume.clone(), users(state, name_of(volume))))
                .collect();
            (Container::all(state), volumes)
        });
        let (containers, volumes) = known.await?;
        let now = dockerapi::stamp::now();
        let mut shown = Vec::new();
        let mut used: Vec<String> = Vec::new();
        for container in &containers {
            let seen = self.seen(container);
            let mut summary = container.summary(&seen, now);
            let folder = self.tasks.join(&container.id.0);
            summary["SizeRw"] = json!(blocking(move || size(&folder)).await?);
            used.push(seen.image_id);
            shown.push(summary);
        }
        let mut images = super::images::summaries(&self.images);
        for image in &mut images {
            image["Containers"] = json!(used.iter().filter(|id| image["Id"] == **id).count());
            image["SharedSize"] = json!(0);
        }
        let total: u64 = images.iter().filter_map(|image| image["Size"].as_u64()).sum();
        let mut sized = Vec::new();
        for (mut volume, count) in volumes {
            let folder = mount::volume(&self.tasks, name_of(&volume)).unwrap_or_default();
            let bytes = blocking(move || size(&folder)).await?;
            volume["UsageData"] = json!({ "Size": bytes, "RefCount": count });
            sized.push(volume);
        }
        Ok(respond(&json!({
            "LayersSize": total, "Images": images, "Containers": shown, "Volumes": sized,
            "BuildCache": [],
        })))
    }

    /// Named volumes only go with `all`; those without a name go with their container.
    pub(super) async fn prune_volumes(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &["label", "label!", "all"])?;
        let is_all = filters.get("all").is_some_and(|values| {
            values.iter().any(|value| matches!(value.as_str(), "1" | "true"))
        });
        let prune = self.control.write(move |state| {
            let unused = state.objects["volume"].values().filter(|volume| {
                is_all && filters.labels(&volume["Labels"]) && users(state, name_of(volume)) == 0
            });
            let names: Vec<String> = unused.map(|volume| name_of(volume).to_owned()).collect();
            for name in &names {
                state.delete_object("volume", name);
                state.event("volume", "destroy", name, json!({ "driver": "local" }));
            }
            Ok(names)
        });
        let names = prune.await?;
        let folders: Vec<_> =
            names.iter().filter_map(|name| mount::volume(&self.tasks, name)).collect();
        let freed = blocking(move || {
            let freed: u64 = folders.iter().map(|folder| size(folder)).sum();
            for folder in folders {
                if let Err(error) = fs::remove_dir_all(&folder)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, folder = %folder.display(), "a volume's files stay");
                }
            }
            freed
        });
        let freed = freed.await?;
        Ok(respond(&json!({ "VolumesDeleted": names, "SpaceReclaimed": freed })))
    }

    pub(super) async fn prune_networks(&self, call: &Call) -> Answer {
        let filters = Filters::parse(call.get("filters"), &["label", "until"])?;
        if filters.get("until").is_some() {
            return Err(ApiError::not_supported(
                "the embedded engine does not prune networks by their age (`until`)",
            ));
        }
        let prune = self.control.write(move |state| {
            let mut names = Vec::new();
            for (id, name) in unused_networks(state) {
                if filters.labels(&state.objects["network"][&id]["Labels"]) {
                    state.delete_object("network", &id);
                    state.event("network", "destroy", &id, json!({ "name": name }));
                    names.push(name);
                }
            }
            Ok(names)
        });
        Ok(respond(&json!({ "NetworksDeleted": prune.await? })))
    }

    /// Told and shown; nothing is joined or separated by it.
    pub(super) async fn connect_network(&self, key: &str, call: Call, joins: bool) -> Answer {
        let body = call.json().await?;
        let container = body["Container"].as_str().unwrap_or("").to_owned();
        let own = self.alone(&container).await?;
        let key = key.to_owned();
        let change = self.control.write(move |state| {
            let network = state.find_object("network", &key)?;
            let name = name_of(&state.objects["network"][&network]).to_owned();
            let Some(known) = state.containers.get(&own.id) else { return Ok(()) };
            let mut changed = known.clone();
            let is_in = Container::alone(&changed).networks().contains(&name);
            let refuse =
                |text: String| Err(ApiError { status: http::StatusCode::FORBIDDEN, message: text });
            let endpoints = &mut changed.asked["NetworkingConfig"]["EndpointsConfig"];
            match (joins, is_in) {
                (true, true) => {
                    return refuse(format!(
                        "endpoint with name {} already exists in network {name}",
                        own.name
                    ));
                }
                (false, false) => {
                    return refuse(format!(
                        "container {} is not connected to network {name}",
                        container_id(&own.id)
                    ));
                }
                (true, false) => endpoints[&name] = body["EndpointConfig"].clone(),
                (false, true) => {
                    if let Some(all) = endpoints.as_object_mut() {
                        all.remove(&name);
                    }
                }
            }
            state.put_container(changed);
            let action = if joins { "connect" } else { "disconnect" };
            let attributes = json!({ "name": name, "container": container_id(&own.id) });
            state.event("network", action, &network, attributes);
            Ok(())
        });
        change.await?;
        Ok(super::empty(http::StatusCode::OK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_size_is_that_of_all_files_in_it_and_of_none_behind_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        fs::create_dir_all(path.join("a/b")).expect("made");
        fs::write(path.join("a/b/file"), vec![1; 100_000]).expect("written");
        fs::write(folder.path().join("big"), vec![1; 1_000_000]).expect("written");
        std::os::unix::fs::symlink(folder.path(), path.join("out")).expect("linked");
        let size = size(&path);
        assert!((100_000..200_000).contains(&size), "{size}");
    }
}
