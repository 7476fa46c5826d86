//! Several stack files made into one, as `docker stack deploy -c a -c b` and Compose do it.
//!
//! Maps are merged key by key and the later file wins. Lists are appended, except where a list is
//! one value (a command: replaced) or its items have an identity (ports, mounts, grants: replaced
//! item by item). Where Compose takes a list or a map, both forms are merged as maps.

use crate::keys::child_path;
use crate::tree::{Entry, Kind, Node, Scalar, Tag};

/// `over` laid on top of `base`; both stand at `path`.
pub(crate) fn merge(base: Node, over: Node, path: &str) -> Node {
    if over.tag == Tag::Override || over.tag == Tag::Reset {
        return over;
    }
    if over.is_null() {
        return base;
    }
    let rule = rule(path);
    if matches!(rule, Rule::Replace) {
        return over;
    }
    let (base, over) = match rule {
        Rule::Dictionary(separators) => (as_map(base, separators), as_map(over, separators)),
        Rule::Append => (as_list(base), as_list(over)),
        Rule::Build => (as_build(base), as_build(over)),
        Rule::Replace | Rule::ByIdentity(_) | Rule::Logging | Rule::Plain => (base, over),
    };
    let span = over.span;
    let kind = match (base.kind, over.kind) {
        (Kind::Map(below), Kind::Map(above)) => {
            if matches!(rule, Rule::Logging)
                && driver(&below) != driver(&above)
                && driver(&above).is_some()
            {
                Kind::Map(above)
            } else {
                Kind::Map(merge_maps(below, above, path))
            }
        }
        (Kind::Seq(below), Kind::Seq(above)) => Kind::Seq(match rule {
            Rule::ByIdentity(identity) => merge_by(below, above, identity),
            Rule::Replace
            | Rule::Dictionary(_)
            | Rule::Append
            | Rule::Build
            | Rule::Logging
            | Rule::Plain => append(below, above),
        }),
        (_, kind) => kind,
    };
    Node { span, tag: base.tag, kind }
}

/// Takes out what `!reset` marks.
pub(crate) fn drop_reset(node: &mut Node) {
    match &mut node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::Seq(items) => items.iter_mut().for_each(drop_reset),
        Kind::Map(entries) => {
            entries.retain(|entry| entry.value.tag != Tag::Reset);
            entries.iter_mut().for_each(|entry| drop_reset(&mut entry.value));
        }
    }
}

#[derive(Clone, Copy)]
enum Rule {
    /// The later value stands alone.
    Replace,
    /// A map, or a list of items `name<separator>value`.
    Dictionary(&'static [char]),
    /// A list, or one item of it.
    Append,
    /// A list whose items replace earlier ones of the same identity.
    ByIdentity(fn(&Node) -> Option<String>),
    /// A path is short for `{context: path}`.
    Build,
    /// Options belong to a driver.
    Logging,
    Plain,
}

fn rule(path: &str) -> Rule {
    let inside = path.strip_prefix("services.*.").unwrap_or_default();
    match inside {
        "command" | "entrypoint" | "healthcheck.test" => return Rule::Replace,
        "environment" | "sysctls" | "build.args" | "annotations" | "networks" | "depends_on" => {
            return Rule::Dictionary(&['=']);
        }
        "extra_hosts" => return Rule::Dictionary(&['=', ':']),
        "env_file" | "dns" | "dns_search" | "dns_opt" | "tmpfs" => return Rule::Append,
        "ports" => return Rule::ByIdentity(port_identity),
        "volumes" => return Rule::ByIdentity(mount_identity),
        "configs" | "secrets" => return Rule::ByIdentity(grant_identity),
        "build" => return Rule::Build,
        "logging" => return Rule::Logging,
        _ => {}
    }
    if path.ends_with(".labels") {
        return Rule::Dictionary(&['=']);
    }
    match inside.strip_prefix("x-evenkeel.artifact.") {
        Some("env") => Rule::Dictionary(&['=']),
        Some("build" | "entrypoint" | "cmd" | "healthcheck.test") => Rule::Replace,
        Some(_) | None => Rule::Plain,
    }
}

fn merge_maps(mut below: Vec<Entry>, above: Vec<Entry>, path: &str) -> Vec<Entry> {
    for entry in above {
        match below.iter_mut().find(|known| known.key == entry.key) {
            None => below.push(entry),
            Some(known) => {
                let path = child_path(path, &entry.key);
                let earlier = std::mem::replace(&mut known.value, null_at(&entry.value));
                known.value = merge(earlier, entry.value, &path);
                known.key_span = entry.key_span;
            }
        }
    }
    below
}

fn append(mut below: Vec<Node>, above: Vec<Node>) -> Vec<Node> {
    for item in above {
        let known = below.iter().any(|b| b.scalar().is_some() && b.scalar() == item.scalar());
        if !known {
            below.push(item);
        }
    }
    below
}

fn merge_by(
    mut below: Vec<Node>,
    above: Vec<Node>,
    identity: fn(&Node) -> Option<String>,
) -> Vec<Node> {
    for item in above {
        let own = identity(&item);
        match below.iter_mut().find(|known| own.is_some() && identity(known) == own) {
            Some(known) => *known = item,
            None => below.push(item),
        }
    }
    below
}

fn null_at(node: &Node) -> Node {
    Node { span: node.span, tag: Tag::None, kind: Kind::Null }
}

/// A list of `name=value` as a map; anything else as it is.
fn as_map(node: Node, separators: &[char]) -> Node {
    let Kind::Seq(items) = node.kind else { return node };
    let mut entries: Vec<Entry> = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.scalar() else { continue };
        let (key, value) = match text.split_once(separators) {
            Some((key, value)) => {
                let scalar =
                    Scalar { text: value.to_string(), plain: false, hidden: item.is_hidden() };
                (key.to_string(), Node { kind: Kind::Scalar(scalar), ..null_at(&item) })
            }
            None => (text.to_string(), null_at(&item)),
        };
        entries.retain(|known| known.key != key);
        entries.push(Entry { key, key_span: item.span, value });
    }
    Node { kind: Kind::Map(entries), ..node }
}

fn as_list(node: Node) -> Node {
    match node.kind {
        Kind::Scalar(_) => Node { span: node.span, tag: node.tag, kind: Kind::Seq(vec![node]) },
        Kind::Null | Kind::Seq(_) | Kind::Map(_) => node,
    }
}

fn as_build(node: Node) -> Node {
    match node.kind {
        Kind::Scalar(_) => {
            let (span, tag) = (node.span, node.tag);
            let entry = Entry { key: "context".to_string(), key_span: span, value: node };
            Node { span, tag, kind: Kind::Map(vec![entry]) }
        }
        Kind::Null | Kind::Seq(_) | Kind::Map(_) => node,
    }
}

fn driver(entries: &[Entry]) -> Option<&str> {
    entries.iter().find(|entry| entry.key == "driver").and_then(|entry| entry.value.scalar())
}

fn grant_identity(node: &Node) -> Option<String> {
    node.scalar().or_else(|| node.get("source")?.scalar()).map(str::to_string)
}

fn mount_identity(node: &Node) -> Option<String> {
    match node.scalar() {
        Some(short) => {
            let mut parts = short.split(':');
            let first = parts.next()?;
            Some(parts.next().unwrap_or(first).trim_end_matches('/').to_string())
        }
        None => Some(node.get("target")?.scalar()?.trim_end_matches('/').to_string()),
    }
}

/// The published port and protocol; without a published port, the target.
fn port_identity(node: &Node) -> Option<String> {
    let (published, target, protocol) = match node.scalar() {
        Some(short) => {
            let (ports, protocol) = short.split_once('/').unwrap_or((short, "tcp"));
            let (before, target) = match ports.rsplit_once(':') {
                Some((before, target)) => (before, target),
                None => ("", ports),
            };
            let published = before.rsplit(':').next().unwrap_or(before);
            (published, target, protocol)
        }
        None => {
            let field = |key| node.get(key).and_then(Node::scalar);
            let protocol = field("protocol").unwrap_or("tcp");
            (field("published").unwrap_or(""), field("target")?, protocol)
        }
    };
    Some(match published {
        "" => format!(":{target}/{protocol}"),
        published => format!("{published}/{protocol}"),
    })
}
