//! What a service is attached to: networks, dependencies, environment files.

use std::collections::BTreeMap;

use super::{Reader, Referent};
use crate::dotenv::{self, Format};
use crate::model::Attachment;
use crate::tree::{Kind, Node};

impl Reader<'_> {
    pub fn attachments(&mut self, node: &Node, name: &str) -> Option<BTreeMap<String, Attachment>> {
        let mut networks = BTreeMap::new();
        if let Kind::Seq(items) = &node.kind {
            for item in items {
                let Some(name) = self.word(item, "networks[]") else { continue };
                self.refer(Referent::Network, &name, item.span);
                networks.insert(name, Attachment::default());
            }
            return Some(networks);
        }
        for entry in self.entries(node, name) {
            let mut attachment = Attachment::default();
            if !entry.value.is_null()
                && let Some(map) = self.map(&entry.value, &entry.key)
            {
                attachment.aliases = self.field(map, "aliases", Reader::texts).unwrap_or_default();
                let options = self.field(map, "driver_opts", Reader::dictionary);
                attachment.driver_opts = options.unwrap_or_default();
            }
            self.refer(Referent::Network, &entry.key, entry.key_span);
            networks.insert(entry.key.clone(), attachment);
        }
        Some(networks)
    }

    /// Short names; an optional dependency (`required: false`) only if it exists.
    pub fn dependencies(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let mut names = Vec::new();
        if let Kind::Seq(items) = &node.kind {
            for item in items {
                let Some(name) = self.word(item, "depends_on[]") else { continue };
                self.refer(Referent::Service, &name, item.span);
                names.push(name);
            }
            return Some(names);
        }
        for entry in self.entries(node, name) {
            let mut required = true;
            if !entry.value.is_null()
                && let Some(map) = self.map(&entry.value, &entry.key)
            {
                let _ = self.field(map, "condition", Reader::condition);
                required = self.field(map, "required", Reader::flag).unwrap_or(true);
            }
            if required || self.services.contains(&entry.key) {
                self.refer(Referent::Service, &entry.key, entry.key_span);
                names.push(entry.key.clone());
            }
        }
        Some(names)
    }

    fn condition(&mut self, node: &Node, name: &str) -> Option<()> {
        if node.scalar() == Some("service_completed_successfully") {
            let message = "a service is waited for until it is live, not until it has ended";
            let hint = "run one-time work as a step before the deploy";
            self.sink.error_with_hint(node.span, "refused-value", message, hint);
            return None;
        }
        self.choice(node, name, &["service_started", "service_healthy"]).map(drop)
    }

    /// Variables of all `env_file`s; a later file wins.
    pub fn env_files(
        &mut self,
        node: &Node,
        name: &str,
    ) -> Option<BTreeMap<String, Option<String>>> {
        let items = match node.kind {
            Kind::Scalar(_) => std::slice::from_ref(node),
            Kind::Null | Kind::Seq(_) | Kind::Map(_) => self.items(node, name),
        };
        let mut vars = BTreeMap::new();
        for item in items {
            vars.extend(self.env_file(item).unwrap_or_default());
        }
        Some(vars)
    }

    fn env_file(&mut self, item: &Node) -> Option<Vec<(String, Option<String>)>> {
        let (mut required, mut format) = (true, Format::Compose);
        let path_node = match item.kind {
            Kind::Map(_) => {
                required = self.field(item, "required", Reader::flag).unwrap_or(true);
                let raw = self.field(item, "format", |r, n, name| r.choice(n, name, &["raw"]));
                format = raw.map_or(format, |_| Format::Raw);
                let Some(path) = item.get("path") else {
                    self.sink.error(item.span, "missing-key", "an `env_file` has no `path`");
                    return None;
                };
                path
            }
            Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => item,
        };
        let path = self.word(path_node, "env_file").map(|path| self.absolute(&path))?;
        let text = match self.files.read(&path) {
            Ok(text) => text,
            Err(_) if !required => return None,
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let hint = "`required: false` makes the file optional";
                self.sink.error_with_hint(path_node.span, "file-unreadable", message, hint);
                return None;
            }
        };
        match dotenv::parse(&text, format, self.variable) {
            Ok(vars) => Some(vars),
            Err(bad) => {
                for line in bad {
                    self.sink.error_in_hidden_file(&path, line.line, "env-syntax", line.message);
                }
                None
            }
        }
    }

    pub fn environment(
        &mut self,
        node: &Node,
        name: &str,
    ) -> Option<BTreeMap<String, Option<String>>> {
        let pairs = self.pairs(node, name, &['='])?;
        let filled = pairs.into_iter().map(|(key, value)| {
            let value = value.or_else(|| (self.variable)(&key));
            (key, value)
        });
        Some(filled.collect())
    }
}
