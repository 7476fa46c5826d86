//! The one table that says what each Compose key means here.
//!
//! A path is written with dots; `*` stands for any name (a service, a network), `[]` for the items
//! of a list. A path without children in the table holds a free-form value. Every check of keys
//! and the page `docs/compose-keys.md` come from this table.

mod check;
mod deploy;
#[cfg(test)]
mod effect;
mod page;
mod service;
mod top;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(crate) use check::{check, nearest};
pub use page::markdown;

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Supported,
    /// A warning with this reason; the value is not looked at.
    Ignored(&'static str),
    /// An error with this reason.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub path: &'static str,
    pub status: Status,
    /// What is worth knowing about a supported key; often nothing.
    pub note: &'static str,
}

/// All rows, in the order of the page.
pub fn table() -> impl Iterator<Item = &'static Key> + Clone {
    top::KEYS.iter().chain(service::KEYS).chain(deploy::KEYS)
}

const fn ok(path: &'static str, note: &'static str) -> Key {
    Key { path, status: Status::Supported, note }
}

const fn ignored(path: &'static str, reason: &'static str) -> Key {
    Key { path, status: Status::Ignored(reason), note: "" }
}

const fn refused(path: &'static str, reason: &'static str) -> Key {
    Key { path, status: Status::Refused(reason), note: "" }
}

/// Children of each path that has any, by their last segment.
static CHILDREN: LazyLock<BTreeMap<&'static str, BTreeMap<&'static str, &'static Key>>> =
    LazyLock::new(|| {
        let mut children: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for key in table() {
            let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            children.entry(parent).or_default().insert(name, key);
        }
        children
    });

/// The keys known under a path; nothing when any key may stand there.
fn children(path: &str) -> Option<&'static BTreeMap<&'static str, &'static Key>> {
    CHILDREN.get(path)
}

/// The table's path of `name` under `parent`.
pub(crate) fn child_path(parent: &str, name: &str) -> String {
    let known = children(parent);
    let name = match known {
        Some(known) if !known.contains_key(name) && known.contains_key("*") => "*",
        Some(_) | None => name,
    };
    if parent.is_empty() { name.to_string() } else { format!("{parent}.{name}") }
}
