//! Images on every node of a Swarm before the first task stops, without a registry: only the layers
//! that a node lacks, through the daemon of that node, checked by the image's digest.
//!
//! ```text
//! this node's Docker ──save──▶ archive ──without the layers that are there──▶ daemon of the node ──load──▶ its Docker
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
    time::Instant,
};

use dockerapi::{
    Client,
    client::{escape, of_node},
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::{
    error::Error,
    progress::{Progress, Said},
    rollout::milliseconds,
};

/// What an archive says of itself is small.
const MANIFEST_BYTES: u64 = 4 << 20;

/// A node that may get tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    id: String,
    hostname: String,
    /// Swarm hears from it. One that it does not hear from may be back in a moment: a new leader
    /// has yet to hear from anybody.
    is_ready: bool,
}

/// Brings images (reference → id) to every node of the Swarm that lacks one. An image that some
/// registry has is left to Swarm.
pub async fn spread(
    client: &Client,
    images: &BTreeMap<String, String>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let nodes = nodes(&client.nodes().await?);
    if nodes.len() < 2 {
        return Ok(());
    }
    bring(client, images, &nodes, progress).await
}

/// As [`spread`], to one node that takes no tasks yet: what services need may be newer than what it
/// had when it left. `node` is the raw one.
pub(crate) async fn catch_up(
    client: &Client,
    node: &Value,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut images = BTreeMap::new();
    for service in client.services(&[]).await? {
        let image = service.pointer("/Spec/TaskTemplate/ContainerSpec/Image");
        let Some(reference) = image.and_then(Value::as_str) else { continue };
        // What is not here either is a registry's.
        let here = client.image(reference).await.unwrap_or_default();
        if let Some(id) = here["Id"].as_str() {
            images.insert(reference.to_owned(), id.to_owned());
        }
    }
    bring(client, &images, &[Node::of(node)], progress).await
}

async fn bring(
    client: &Client,
    images: &BTreeMap<String, String>,
    nodes: &[Node],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut away: Vec<&Node> = Vec::new();
    for (reference, id) in images {
        if is_from_registry(client, reference).await {
            continue;
        }
        let mut archive: Option<tempfile::NamedTempFile> = None;
        for node in nodes {
            if away.contains(&node) {
                continue;
            }
            let there = match on(client, node, &format!("/images/{}/json", escape(reference))).await
            {
                Err(error) if !node.is_ready => {
                    let text = format!("{}; when it is back: `keel node activate`", error.message);
                    progress.say(Said::Warning { text });
                    away.push(node);
                    continue;
                }
                there => there?,
            };
            if there.is_some_and(|there| there["Id"] == id.as_str()) {
                continue;
            }
            let (step, started) = (format!("{reference} to {}", node.hostname), Instant::now());
            progress.say(Said::Step { name: step.clone() });
            if archive.is_none() {
                archive = Some(save(client, reference).await?);
            }
            if let Some(archive) = &archive {
                send(client, node, reference, id, archive.path()).await?;
            }
            progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
        }
    }
    Ok(())
}

impl Node {
    fn of(node: &Value) -> Self {
        Self {
            id: text(node, "/ID"),
            hostname: text(node, "/Description/Hostname"),
            is_ready: text(node, "/Status/State") == "ready",
        }
    }
}

/// Nodes that take tasks, now or when they are back.
fn nodes(nodes: &[Value]) -> Vec<Node> {
    let is_used = |node: &&Value| text(node, "/Spec/Availability") != "drain";
    nodes.iter().filter(is_used).map(Node::of).collect()
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned()
}

/// A registry has it under this very name: nodes pull it by themselves.
async fn is_from_registry(client: &Client, reference: &str) -> bool {
    let image = client.image(reference).await.unwrap_or_default();
    let digests = image.get("RepoDigests").and_then(Value::as_array);
    let repository = repository(reference);
    digests
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|digest| digest.split('@').next() == Some(repository))
}

/// The reference without its tag or digest.
pub(crate) fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Asks a node's Docker; none when it does not know the thing.
async fn on(client: &Client, node: &Node, path: &str) -> Result<Option<Value>, Error> {
    match client.get(&through(node, path)).await {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() && error.to_string().contains("page not found") => {
            Err(not_reached(node, "this engine has no way to other nodes"))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(not_reached(node, &error.to_string())),
    }
}

fn through(node: &Node, path: &str) -> String {
    format!("{}{path}", of_node(&node.id))
}

fn not_reached(node: &Node, why: &str) -> Error {
    let text = format!("images cannot be brought to node {}: {why}", node.hostname);
    Error::new("node-not-reached", text).hint(
        "run `keel daemon --swarm --background` on every node and deploy through it, or push the \
         images to a registry",
    )
}

/// `docker save` into a file.
async fn save(client: &Client, reference: &str) -> Result<tempfile::NamedTempFile, Error> {
    let failed = |error: io::Error| {
        Error::new("image-save", format!("save {reference}: {error}"))
            .hint("free space in the temporary folder (TMPDIR)")
    };
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    let mut out = tokio::fs::File::create(file.path()).await.map_err(failed)?;
    let mut archive = client.stream(&format!("/images/{}/get", escape(reference))).await?;
    while let Some(piece) = archive.next().await? {
        out.write_all(&piece).await.map_err(failed)?;
    }
    out.sync_data().await.map_err(failed)?;
    Ok(file)
}

/// Loads what the node lacks of an image, and makes sure that it is the same there.
async fn send(
    client: &Client,
    node: &Node,
    reference: &str,
    id: &str,
    archive: &Path,
) -> Result<(), Error> {
    let wanted = layers(&client.image(reference).await?);
    let mut known = Vec::new();
    let list = on(client, node, "/images/json").await?.unwrap_or_default();
    for image in list.as_array().into_iter().flatten() {
        let id = image.get("Id").and_then(Value::as_str).unwrap_or("");
        if let Some(image) = on(client, node, &format!("/images/{}/json", escape(id))).await? {
            known.push(layers(&image));
        }
    }
    let there = common(&wanted, &known);
    let from = archive.to_owned();
    let failed = |error: &dyn std::fmt::Display| {
        Error::new("image-send", format!("{reference} to node {}: {error}", node.hostname))
    };
    let thinned = tokio::task::spawn_blocking(move || thin(&from, there)).await;
    let thinned = thinned.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let path = through(node, "/images/load?quiet=1");
    let answer = client.upload_file(&path, thinned.path()).await?;
    let said = String::from_utf8_lossy(&answer).into_owned();
    let loaded = on(client, node, &format!("/images/{}/json", escape(reference))).await?;
    match loaded {
        Some(image) if image["Id"] == id => Ok(()),
        Some(image) => Err(failed(&format!("it is {} there, not {id}", image["Id"]))),
        None => Err(failed(&format!("it was not taken: {}", said.trim()))),
    }
}

/// Digests of an image's layers, the lowest first.
fn layers(image: &Value) -> Vec<String> {
    let layers = image.pointer("/RootFS/Layers").and_then(Value::as_array);
    layers.into_iter().flatten().filter_map(|l| Some(l.as_str()?.to_owned())).collect()
}

/// How many of the lowest layers one of the known images has as well. A layer is the same only on
/// top of the same ones.
fn common(wanted: &[String], known: &[Vec<String>]) -> usize {
    let with = |other: &Vec<String>| wanted.iter().zip(other).take_while(|(a, b)| a == b).count();
    known.iter().map(with).max().unwrap_or(0)
}

/// The archive without its lowest `skip` layers.
fn thin(archive: &Path, skip: usize) -> io::Result<tempfile::NamedTempFile> {
    let skipped = lowest(archive, skip)?;
    let mut out = tempfile::NamedTempFile::new()?;
    let mut builder = tar::Builder::new(out.as_file_mut());
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if skipped.contains(path.trim_start_matches("./")) {
            continue;
        }
        let mut header = entry.header().clone();
        match entry.link_name()? {
            Some(link) => builder.append_link(&mut header, &path, link)?,
            None => builder.append_data(&mut header, &path, &mut entry)?,
        }
    }
    builder.finish()?;
    drop(builder);
    Ok(out)
}

/// Paths of the lowest layers in an archive of one image.
fn lowest(archive: &Path, count: usize) -> io::Result<BTreeSet<String>> {
    if count == 0 {
        return Ok(BTreeSet::new());
    }
    for entry in tar::Archive::new(File::open(archive)?).entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() != "manifest.json" {
            continue;
        }
        let mut text = String::new();
        entry.take(MANIFEST_BYTES).read_to_string(&mut text)?;
        let manifest: Value = serde_json::from_str(&text)?;
        let layers = manifest.pointer("/0/Layers").and_then(Value::as_array);
        let all: Vec<&str> = layers.into_iter().flatten().filter_map(Value::as_str).collect();
        // The same layer may be needed again further up.
        let rest: BTreeSet<&str> = all.iter().skip(count).copied().collect();
        let lowest = all.iter().take(count).filter(|path| !rest.contains(*path));
        return Ok(lowest.map(|path| (*path).to_owned()).collect());
    }
    Err(io::Error::other("the archive has no manifest.json"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_taken_apart() {
        for (reference, wanted) in [
            ("ala-api:1", "ala-api"),
            ("127.0.0.1:5000/ala-api", "127.0.0.1:5000/ala-api"),
            ("127.0.0.1:5000/ala-api:1@sha256:ab", "127.0.0.1:5000/ala-api"),
        ] {
            assert_eq!(repository(reference), wanted);
        }
    }

    #[test]
    fn only_layers_on_top_of_the_same_ones_are_the_same() {
        let list = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(common(&list("a b c"), &[list("a x"), list("a b")]), 2);
        assert_eq!(common(&list("a b c"), &[list("b c")]), 0);
        assert_eq!(common(&list("a"), &[]), 0);
    }

    #[test]
    fn drained_nodes_get_nothing_and_those_that_are_away_may_come_back() {
        let node = |id: &str, state: &str, availability: &str| {
            json!({
                "ID": id, "Description": { "Hostname": id },
                "Status": { "State": state }, "Spec": { "Availability": availability },
            })
        };
        let all = [
            node("a", "ready", "active"),
            node("b", "down", "active"),
            node("c", "ready", "drain"),
            node("d", "ready", "pause"),
        ];
        let found: Vec<(String, bool)> =
            nodes(&all).into_iter().map(|node| (node.id, node.is_ready)).collect();
        assert_eq!(found, [("a".into(), true), ("b".into(), false), ("d".into(), true)]);
    }

    #[test]
    fn an_archive_loses_the_layers_that_are_there() {
        let mut builder = tar::Builder::new(Vec::new());
        let manifest = json!([{ "Config": "c.json", "Layers": ["1/layer.tar", "2/layer.tar"] }]);
        for (path, text) in [
            ("1/layer.tar", "one".to_owned()),
            ("2/layer.tar", "two".to_owned()),
            ("c.json", "{}".to_owned()),
            ("manifest.json", manifest.to_string()),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, text.as_bytes()).expect("appended");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), builder.into_inner().expect("an archive")).expect("written");
        let thinned = thin(file.path(), 1).expect("thinned");
        let mut archive = tar::Archive::new(File::open(thinned.path()).expect("there"));
        let paths: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|e| e.expect("one").path().expect("a path").to_string_lossy().into_owned())
            .collect();
        assert_eq!(paths, ["2/layer.tar", "c.json", "manifest.json"]);
    }
}
