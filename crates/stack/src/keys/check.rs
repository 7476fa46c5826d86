//! Holds every key of a tree against the table.

use std::collections::BTreeMap;

use super::{Key, Status, child_path, children, table};
use crate::sink::Sink;
use crate::tree::{Entry, Kind, Node};

/// Reports unknown, refused and ignored keys below `node`, which stands at `path`.
pub(crate) fn check(sink: &mut Sink, node: &Node, path: &str) {
    match &node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::Seq(items) => {
            let path = format!("{path}[]");
            items.iter().for_each(|item| check(sink, item, &path));
        }
        Kind::Map(entries) => {
            let Some(known) = children(path) else { return };
            for entry in entries {
                check_entry(sink, entry, path, known);
            }
        }
    }
}

fn check_entry(
    sink: &mut Sink,
    entry: &Entry,
    path: &str,
    known: &BTreeMap<&'static str, &'static Key>,
) {
    let name = entry.key.as_str();
    let Some(key) = known.get(name).or_else(|| known.get("*")) else {
        if name.starts_with("x-") && name != "x-evenkeel" {
            let near = known.contains_key("x-evenkeel") && distance(name, "x-evenkeel") <= 2;
            if near {
                let message = format!("`{name}` is not read, did you mean `x-evenkeel`?");
                sink.warn(entry.key_span, "unknown-extension", message);
            }
            return;
        }
        return unknown(sink, entry, path, known);
    };
    match key.status {
        Status::Supported => check(sink, &entry.value, &child_path(path, name)),
        Status::Ignored(reason) => {
            let message = format!("`{name}` is ignored: {reason}");
            sink.warn(entry.key_span, "ignored-key", message);
        }
        Status::Refused(reason) => {
            sink.error(entry.key_span, "refused-key", format!("`{name}` is refused: {reason}"));
        }
    }
}

fn unknown(
    sink: &mut Sink,
    entry: &Entry,
    path: &str,
    known: &BTreeMap<&'static str, &'static Key>,
) {
    let name = entry.key.as_str();
    let place = match path {
        "" => "at the top level".to_string(),
        "services.*" => "in a service".to_string(),
        _ => format!("in `{}`", last_name(path)),
    };
    let usable = known.iter().filter(|(_, key)| !matches!(key.status, Status::Refused(_)));
    let names: Vec<&str> = usable.map(|(name, _)| *name).collect();
    let list = format!("valid keys: {}", names.join(", "));
    let hint = match suggestion(name, path, &names) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    };
    let message = format!("unknown key `{name}` {place}");
    sink.error_with_hint(entry.key_span, "unknown-key", message, hint);
}

fn last_name(path: &str) -> &str {
    let path = path.trim_end_matches(".*").trim_end_matches("[]");
    path.rsplit('.').next().unwrap_or(path)
}

/// The nearest valid name, or where else a key of exactly this name belongs.
fn suggestion(name: &str, path: &str, names: &[&'static str]) -> Option<String> {
    let near = names.iter().map(|known| (distance(name, known), *known)).min();
    let allowed = if name.chars().count() <= 4 { 1 } else { 2 };
    if let Some((steps, known)) = near
        && steps <= allowed
    {
        return Some(known.to_string());
    }
    let below = format!("{path}.");
    let mut elsewhere = table()
        .filter(|key| key.status == Status::Supported && key.path.rsplit('.').next() == Some(name));
    let deeper = elsewhere.clone().find_map(|key| key.path.strip_prefix(&below));
    let deeper = deeper.filter(|rest| !rest.contains(['*', '[']));
    let found = deeper.or_else(|| elsewhere.next().map(|key| key.path));
    found.map(str::to_string).or_else(|| {
        let folded = name.to_lowercase().replace('-', "_");
        names.iter().find(|known| **known == folded).map(|known| known.to_string())
    })
}

/// Edits (insert, delete, replace, swap neighbours) between two names.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// The name nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> Option<&'a String> {
    let (steps, near) = known.map(|k| (distance(name, k), k)).min()?;
    (steps <= 2 && steps < name.chars().count()).then_some(near)
}
