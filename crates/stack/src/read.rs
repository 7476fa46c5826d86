//! Reads the checked tree into the model: each short form is written out, each wrong value is
//! reported where it stands and left out.

mod attach;
mod content;
mod deploy;
mod image;
mod mount;
mod port;
mod process;
mod reference;
mod service;
mod stack;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reference::{Published, Reference, Referent};

use crate::Files;
use crate::interpolate::Lookup;
use crate::model::Stack;
use crate::sink::{Sink, Span};
use crate::tree::Node;

/// What reading needs beside the tree.
pub(crate) struct Reader<'a> {
    pub sink: &'a mut Sink,
    pub files: &'a dyn Files,
    pub variable: Lookup<'a>,
    pub project_dir: &'a Path,
    /// Names of all services of the file.
    pub services: Vec<String>,
    /// The service being read.
    pub service: String,
    pub references: Vec<Reference>,
    pub published: Vec<Published>,
    /// Where each service's `depends_on` stands.
    pub depends_on: BTreeMap<String, Span>,
}

/// The stack a tree describes. What is wrong is reported to the sink and left out.
pub(crate) fn read(
    sink: &mut Sink,
    root: &Node,
    files: &dyn Files,
    variable: Lookup<'_>,
    project_dir: &Path,
) -> Stack {
    let services = root.get("services").map(Node::entries).unwrap_or_default();
    let mut reader = Reader {
        sink,
        files,
        variable,
        project_dir,
        services: services.iter().map(|entry| entry.key.clone()).collect(),
        service: String::new(),
        references: Vec::new(),
        published: Vec::new(),
        depends_on: BTreeMap::new(),
    };
    let stack = reader.stack(root);
    reader.check_references(&stack);
    stack
}

impl Reader<'_> {
    /// A path of the stack file as an absolute one; `~` is the user's home.
    pub fn absolute(&self, path: &str) -> PathBuf {
        let home = || (self.variable)("HOME").map(PathBuf::from);
        let joined = match path.strip_prefix("~") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => match home() {
                Some(home) => home.join(rest.trim_start_matches('/')),
                None => PathBuf::from(path),
            },
            Some(_) | None => self.project_dir.join(path),
        };
        normal(&joined)
    }

    /// The value under `key`, read by `read`, which is told the key's name for its messages.
    pub fn field<T>(
        &mut self,
        map: &Node,
        key: &str,
        read: impl FnOnce(&mut Self, &Node, &str) -> Option<T>,
    ) -> Option<T> {
        let node = map.get(key)?;
        read(self, node, key)
    }

    /// Reports that `node` should have been something else.
    pub fn expected<T>(&mut self, node: &Node, name: &str, expected: &str) -> Option<T> {
        let message = format!("`{name}` must be {expected}, not {}", node.noun());
        self.sink.error(node.span, "wrong-type", message);
        None
    }
}

/// `a/./b/../c` is `a/c`.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.parent().is_some() => {
                out.pop();
            }
            Component::ParentDir
            | Component::Normal(_)
            | Component::RootDir
            | Component::Prefix(_) => out.push(part),
        }
    }
    out
}
