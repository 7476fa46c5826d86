//! Configs and secrets: their definitions and the services' use of them.

use std::collections::BTreeMap;

use super::{Reader, Referent};
use crate::model::{Content, Grant, Payload};
use crate::tree::{Entry, Kind, Node};

/// What Docker accepts as content of a config; secrets have half of it.
const LARGEST_CONFIG: usize = 1000 * 1024;
const LARGEST_SECRET: usize = 500 * 1024;

impl Reader<'_> {
    /// The top-level `configs` or `secrets`.
    pub fn contents(&mut self, root: &Node, section: &str) -> BTreeMap<String, Content> {
        let mut contents = BTreeMap::new();
        let Some(node) = root.get(section) else { return contents };
        let largest = if section == "secrets" { LARGEST_SECRET } else { LARGEST_CONFIG };
        for entry in self.entries(node, section) {
            let content = self.content(entry, largest);
            contents.insert(entry.key.clone(), content);
        }
        contents
    }

    fn content(&mut self, entry: &Entry, largest: usize) -> Content {
        let (node, key) = (&entry.value, entry.key.as_str());
        if !node.is_null() && self.map(node, key).is_none() {
            return Content { external: true, ..Content::default() };
        }
        let (external, name) = self.external(node, key);
        let content = Content {
            external,
            name,
            labels: self.field(node, "labels", Reader::dictionary).unwrap_or_default(),
            template_driver: self
                .field(node, "template_driver", |r, n, name| r.choice(n, name, &["golang"])),
            payload: Payload::default(),
        };
        let sources = ["file", "environment", "content"];
        let given: Vec<&Entry> =
            node.entries().iter().filter(|e| sources.contains(&e.key.as_str())).collect();
        match given.as_slice() {
            [] if external => content,
            [one] if !external => {
                let payload = self.payload(one);
                if payload.0.len() > largest {
                    let message =
                        format!("the content of `{key}` is larger than {} KiB", largest / 1024);
                    self.sink.error(one.value.span, "content-too-large", message);
                }
                Content { payload, ..content }
            }
            [] => {
                let message = format!("`{key}` has no content");
                let hint = "give one of `file`, `environment`, `content` or `external: true`";
                self.sink.error_with_hint(entry.key_span, "no-content", message, hint);
                content
            }
            [.., last] => {
                let message = format!("`{key}` has more than one content");
                let hint = "give one of `file`, `environment`, `content` or `external: true`";
                self.sink.error_with_hint(last.key_span, "conflict", message, hint);
                content
            }
        }
    }

    fn payload(&mut self, source: &Entry) -> Payload {
        let Some(text) = self.text(&source.value, &source.key) else { return Payload::default() };
        match source.key.as_str() {
            "file" => {
                let path = self.absolute(&text);
                match self.files.read_bytes(&path) {
                    Ok(bytes) => Payload(bytes),
                    Err(reason) => {
                        let message = format!("cannot read `{}`: {reason}", path.display());
                        self.sink.error(source.value.span, "file-unreadable", message);
                        Payload::default()
                    }
                }
            }
            "environment" => match (self.variable)(&text) {
                Some(value) => Payload(value.into_bytes()),
                None => {
                    let message = format!("the variable `{text}` is not set");
                    let hint = format!("set it in the environment or write `{text}=…` into `.env`");
                    let span = source.value.span;
                    self.sink.error_with_hint(span, "unset-variable", message, hint);
                    Payload::default()
                }
            },
            _ => Payload(text.into_bytes()),
        }
    }

    /// A service's `configs` or `secrets`.
    pub fn grants(&mut self, node: &Node, name: &str) -> Option<Vec<Grant>> {
        let items = self.items(node, name);
        let to = if name == "secrets" { Referent::Secret } else { Referent::Config };
        let mut grants: Vec<Grant> = Vec::new();
        for item in items {
            let Some(grant) = self.grant(item, name) else { continue };
            let source = item.get("source").unwrap_or(item);
            self.refer(to, &grant.source, source.span);
            let place = |g: &Grant| g.target.clone().unwrap_or_else(|| g.source.clone());
            if grants.iter().any(|known| place(known) == place(&grant)) {
                let message = format!("two {name} have the target `{}`", place(&grant));
                self.sink.error(item.span, "duplicate-target", message);
            }
            grants.push(grant);
        }
        Some(grants)
    }

    fn grant(&mut self, item: &Node, name: &str) -> Option<Grant> {
        let short = |source: String| Grant {
            source,
            target: None,
            uid: "0".to_string(),
            gid: "0".to_string(),
            mode: 0o444,
        };
        match item.kind {
            Kind::Scalar(_) => self.word(item, name).map(short),
            Kind::Map(_) => {
                let Some(source) = self.field(item, "source", Reader::word) else {
                    if item.get("source").is_none() {
                        let message = format!("an item of `{name}` has no `source`");
                        self.sink.error(item.span, "missing-key", message);
                    }
                    return None;
                };
                let default = short(source);
                Some(Grant {
                    target: self.field(item, "target", Reader::word),
                    uid: self.field(item, "uid", Reader::word).unwrap_or(default.uid),
                    gid: self.field(item, "gid", Reader::word).unwrap_or(default.gid),
                    mode: self.field(item, "mode", Reader::file_mode).unwrap_or(default.mode),
                    source: default.source,
                })
            }
            Kind::Null | Kind::Seq(_) => {
                self.expected(item, &format!("{name}[]"), "a name or a map")
            }
        }
    }
}
