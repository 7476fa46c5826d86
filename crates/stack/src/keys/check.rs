//! Holds every key of a tree against the table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Key, Status, child_path, children, table};
use crate::sink::Sink;
use crate::tree::{Entry, Kind, Node};

/// Reports unknown, refused and ignored keys of a whole file.
pub(crate) fn check(sink: &mut Sink, root: &Node) {
    Check { sink, listed: BTreeSet::new() }.node(root, "");
}

struct Check<'a> {
    sink: &'a mut Sink,
    /// Paths whose valid keys were listed once already.
    listed: BTreeSet<String>,
}

type Known = BTreeMap<&'static str, &'static Key>;

impl Check<'_> {
    fn node(&mut self, node: &Node, path: &str) {
        match &node.kind {
            Kind::Null | Kind::Scalar(_) => {}
            Kind::Seq(items) => {
                let path = format!("{path}[]");
                items.iter().for_each(|item| self.node(item, &path));
            }
            Kind::Map(entries) => {
                let Some(known) = children(path) else { return };
                entries.iter().for_each(|entry| self.entry(entry, path, known));
            }
        }
    }

    fn entry(&mut self, entry: &Entry, path: &str, known: &Known) {
        let name = entry.key.as_str();
        let Some(key) = known.get(name).or_else(|| known.get("*")) else {
            return self.without_row(entry, path, known);
        };
        match key.status {
            Status::Supported => self.node(&entry.value, &child_path(path, name)),
            Status::Ignored(reason) => {
                let message = format!("`{name}` is ignored: {reason}");
                self.sink.warn(entry.key_span, "ignored-key", message);
            }
            Status::Refused(reason) => {
                let message = format!("`{name}` is refused: {reason}");
                self.sink.error(entry.key_span, "refused-key", message);
            }
        }
    }

    fn without_row(&mut self, entry: &Entry, path: &str, known: &Known) {
        let name = entry.key.as_str();
        if !name.starts_with("x-") || name == "x-evenkeel" {
            return self.unknown(entry, path, known);
        }
        if known.contains_key("x-evenkeel") && distance(name, "x-evenkeel") <= 2 {
            let message = format!("`{name}` is not read, did you mean `x-evenkeel`?");
            self.sink.warn(entry.key_span, "unknown-extension", message);
        }
    }

    fn unknown(&mut self, entry: &Entry, path: &str, known: &Known) {
        let name = entry.key.as_str();
        let place = match path {
            "" => "at the top level".to_string(),
            "services.*" => "in a service".to_string(),
            _ => format!("in `{}`", last_name(path)),
        };
        let usable = known.iter().filter(|(_, key)| key.status == Status::Supported);
        let names: Vec<&str> = usable.map(|(name, _)| *name).collect();
        let mut hint = Vec::new();
        if let Some(near) = suggestion(name, path, &names) {
            hint.push(format!("did you mean `{near}`?"));
        }
        if self.listed.insert(path.to_string()) {
            hint.push(format!("valid keys: {}", names.join(", ")));
        }
        let message = format!("unknown key `{name}` {place}");
        if hint.is_empty() {
            return self.sink.error(entry.key_span, "unknown-key", message);
        }
        self.sink.error_with_hint(entry.key_span, "unknown-key", message, hint.join(" "));
    }
}

fn last_name(path: &str) -> &str {
    let path = path.trim_end_matches(".*").trim_end_matches("[]");
    path.rsplit('.').next().unwrap_or(path)
}

/// The nearest valid name, or where else a key of this or nearly this name belongs.
fn suggestion(name: &str, path: &str, names: &[&'static str]) -> Option<String> {
    let folded = name.to_lowercase().replace('-', "_");
    let near = |known: &str| distance(&folded, known) <= allowed(name);
    let steps = |known: &&&str| distance(&folded, known);
    if let Some(known) = names.iter().filter(|known| near(known)).min_by_key(steps) {
        return Some(known.to_string());
    }
    let below = format!("{path}.");
    let supported = || table().filter(|key| key.status == Status::Supported);
    let last = |key: &Key| key.path.rsplit('.').next().unwrap_or(key.path);
    let deeper = |fits: &dyn Fn(&str) -> bool| {
        let mut found = supported().filter(|key| fits(last(key)));
        let rest = found.find_map(|key| key.path.strip_prefix(&below));
        rest.filter(|rest| !rest.contains(['*', '[']))
    };
    let anywhere = || supported().find(|key| last(key) == name).map(|key| key.path);
    deeper(&|last| last == name).or_else(anywhere).or_else(|| deeper(&near)).map(str::to_string)
}

/// Edits that still look like a slip.
fn allowed(name: &str) -> usize {
    if name.chars().count() <= 4 { 1 } else { 2 }
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
    (steps <= allowed(name)).then_some(near)
}
