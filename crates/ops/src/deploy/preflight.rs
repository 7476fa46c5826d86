//! What is checked before anything is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
};

use dockerapi::{Client, publish};
use serde_json::Value;

use super::{Wanted, since, tame};
use crate::{
    error::Error,
    progress::{Progress, Said},
    registry::registry,
    rollout::is_own_engine,
};

/// The engine answers and is a swarm manager. True when it is our own.
pub(super) async fn engine(client: &Client) -> Result<bool, Error> {
    let info = client.info().await?;
    let swarm = &info["Swarm"];
    if swarm["ControlAvailable"] == true {
        return Ok(is_own_engine(&info));
    }
    let (what, hint) = match swarm["LocalNodeState"].as_str() {
        Some("active") => {
            ("is a worker of its swarm", "name a manager of the swarm with -H ssh://user@manager")
        }
        Some("locked") => ("is a locked swarm manager", "run `docker swarm unlock` there"),
        Some(_) | None => ("is not a swarm manager", "run `docker swarm init` there"),
    };
    let text = format!("the engine at {} {what}", client.host());
    Err(Error::new("not-a-manager", text).hint(hint))
}

/// The engine knows what the services ask for.
pub(super) fn version(
    client: &Client,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<(), Error> {
    for service in &wanted.lowered.services {
        let lost = since::lost(&service.name, &service.spec, |version| client.speaks(version));
        let speaks = format!("the engine speaks {}", client.api_version());
        if let Some(text) = lost.meaning.first() {
            return Err(Error::new("engine-version", format!("{text}; {speaks}"))
                .hint("update the engine, or take the key out of the stack file"));
        }
        for text in lost.tuning {
            progress.say(Said::Warning { text: format!("{text}; {speaks} and ignores it") });
        }
    }
    Ok(())
}

/// Makes the services such that a Docker Swarm keeps them as they are meant, and says so.
pub(super) async fn tame(
    client: &Client,
    wanted: &mut Wanted,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let takes_tasks = |node: &&Value| {
        node.pointer("/Spec/Availability").and_then(Value::as_str) == Some("active")
            && node.pointer("/Status/State").and_then(Value::as_str) == Some("ready")
    };
    let nodes = client.nodes().await?;
    let nodes = nodes.iter().filter(takes_tasks).count() as u64;
    for service in &mut wanted.lowered.services {
        let own = service.spec.pointer("/TaskTemplate/ContainerSpec/Healthcheck/Test").cloned();
        let test = match own {
            Some(test) => Some(test),
            None => client
                .image(&service.image)
                .await
                .ok()
                .and_then(|image| image.pointer("/Config/Healthcheck/Test").cloned()),
        };
        let first = test.as_ref().and_then(|test| test.get(0)?.as_str());
        let has_check = first.is_some_and(|first| first != "NONE");
        for text in tame::tame(&service.name, &mut service.spec, has_check, nodes) {
            progress.say(Said::Warning { text });
        }
    }
    Ok(())
}

/// Every image is there; returns image → digest. Another engine may pull what it lacks; ours does
/// so where the name says from where.
pub(super) async fn images(
    client: &Client,
    wanted: &Wanted,
    must_be_there: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let mut digests = BTreeMap::new();
    for service in &wanted.lowered.services {
        let image = &service.image;
        match client.image(image).await {
            Ok(found) => {
                let id = found["Id"].as_str().unwrap_or("").to_owned();
                digests.insert(image.clone(), id);
            }
            Err(error) if error.is_not_found() && must_be_there && registry(image).is_none() => {
                return Err(missing(client, &service.name, image).await);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(digests)
}

async fn missing(client: &Client, service: &str, image: &str) -> Error {
    let repository = image.split(':').next().unwrap_or(image);
    let prefix = format!("{repository}:");
    let mut near: Vec<String> = client
        .images()
        .await
        .unwrap_or_default()
        .iter()
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default())
        .filter_map(|tag| Some(tag.as_str()?.to_owned()))
        .filter(|tag| tag.starts_with(&prefix))
        .collect();
    near.sort();
    near.reverse();
    near.truncate(5);
    let known = if near.is_empty() {
        "there is no image of that name".to_owned()
    } else {
        format!("there are {}", near.join(", "))
    };
    Error::new("image-missing", format!("{service}: No such image: {image}; {known}"))
        .hint("build it with `keel build`, or see `keel images`")
}

/// The newest version for which every image of the stack is there.
pub(super) async fn newest_version(client: &Client, stack: &stack::Stack) -> Result<String, Error> {
    let tags: BTreeSet<String> = client
        .images()
        .await?
        .iter()
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default())
        .filter_map(|tag| Some(tag.as_str()?.to_owned()))
        .collect();
    // Images whose tag is the version; others (a database with a fixed tag) do not decide.
    let repositories: BTreeSet<String> = stack
        .lower("x")
        .services
        .iter()
        .filter_map(|s| Some(s.image.strip_suffix(":latest")?.to_owned()))
        .collect();
    let versions: BTreeSet<&str> =
        tags.iter().filter_map(|t| Some(t.rsplit_once(':')?.1)).collect();
    let has_all = |version: &&&str| {
        repositories.iter().all(|repository| tags.contains(&format!("{repository}:{version}")))
    };
    let newest = versions.iter().filter(|version| **version != "latest").rfind(has_all);
    newest.map(|version| (*version).to_owned()).ok_or_else(|| {
        Error::new("no-version", "there is no version for which all images are there")
            .hint("deploy without --skip-build once, or name one with --version")
    })
}

/// No published port is taken by another service or another process.
pub(super) async fn ports(
    client: &Client,
    wanted: &Wanted,
    current: &BTreeMap<String, Value>,
    is_embedded: bool,
) -> Result<(), Error> {
    let mut own: BTreeSet<u64> = BTreeSet::new();
    current.values().for_each(|spec| own.extend(published(spec)));
    for service in client.services(&[]).await? {
        let name = service.pointer("/Spec/Name").and_then(Value::as_str).unwrap_or("");
        if current.contains_key(name) {
            continue;
        }
        let theirs: BTreeSet<u64> = published(&service["Spec"]).collect();
        for ours in &wanted.lowered.services {
            if let Some(port) = published(&ours.spec).find(|port| theirs.contains(port)) {
                let text = format!("{}: port {port} is published by service {name}", ours.name);
                return Err(Error::new("port-in-use", text)
                    .hint("choose another published port in the stack file"));
            }
        }
    }
    if !is_embedded || !client.host().starts_with("unix://") {
        return Ok(());
    }
    for ours in &wanted.lowered.services {
        for port in published(&ours.spec).filter(|port| !own.contains(port)) {
            let number = u16::try_from(port).unwrap_or(0);
            if let Err(error) = TcpListener::bind(("0.0.0.0", number)) {
                let text = format!("{}: port {port} cannot be published: {error}", ours.name);
                let hint = match error.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        "ports below 1024 need root, or net.ipv4.ip_unprivileged_port_start"
                            .to_owned()
                    }
                    _ => format!("see who has it with `ss -ltnp sport = :{port}`"),
                };
                return Err(Error::new("port-in-use", text).hint(hint));
            }
        }
    }
    Ok(())
}

/// By whoever publishes them: the engine, or an ingress by the service's labels.
fn published(spec: &Value) -> impl Iterator<Item = u64> + '_ {
    let ports = spec.pointer("/EndpointSpec/Ports").and_then(Value::as_array);
    let own = ports
        .into_iter()
        .flatten()
        .filter(|port| port["Protocol"] != "udp")
        .filter_map(|port| port.get("PublishedPort")?.as_u64())
        .filter(|port| *port != 0);
    let labels = spec.get("Labels").and_then(Value::as_object).into_iter().flatten();
    own.chain(labels.filter_map(|(key, _)| key.strip_prefix(publish::PORT)?.parse().ok()))
}
