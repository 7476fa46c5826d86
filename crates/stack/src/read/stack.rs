//! The top level: services, networks, volumes, settings.

use super::Reader;
use crate::model::{Network, Stack, StackSettings, Subnet, Volume};
use crate::sink::Span;
use crate::tree::{Entry, Kind, Node};

fn named_well(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl Reader<'_> {
    /// The whole tree.
    pub fn stack(&mut self, root: &Node) -> Stack {
        let mut stack = Stack { name: self.field(root, "name", Reader::word), ..Stack::default() };
        for entry in self.section(root, "services") {
            self.check_name(entry);
            self.service.clone_from(&entry.key);
            let service = self.read_service(&entry.key, entry.key_span, &entry.value);
            stack.services.insert(entry.key.clone(), service);
        }
        if stack.services.is_empty() && !self.sink.has_errors() {
            let start = Span { end: root.span.start, ..root.span };
            let at = root.entry("services").map_or(start, |entry| entry.key_span);
            let hint = "write `services:` with a name and an `image` below it";
            self.sink.error_with_hint(at, "no-services", "the file has no service", hint);
        }
        for entry in self.section(root, "networks") {
            stack.networks.insert(entry.key.clone(), self.network(&entry.value, &entry.key));
        }
        for entry in self.section(root, "volumes") {
            stack.volumes.insert(entry.key.clone(), self.volume(&entry.value, &entry.key));
        }
        stack.configs = self.contents(root, "configs");
        stack.secrets = self.contents(root, "secrets");
        if let Some(settings) = root.get("x-evenkeel") {
            stack.settings = self.settings(settings);
        }
        stack
    }

    fn section<'n>(&mut self, root: &'n Node, name: &str) -> &'n [Entry] {
        match root.get(name) {
            Some(node) => self.entries(node, name),
            None => &[],
        }
    }

    fn check_name(&mut self, entry: &Entry) {
        if named_well(&entry.key) {
            return;
        }
        let message = format!("`{}` cannot be the name of a service", entry.key);
        let hint = "letters, digits, `-`, `_` and `.`, the first one a letter or digit";
        self.sink.error_with_hint(entry.key_span, "bad-name", message, hint);
    }

    fn settings(&mut self, node: &Node) -> StackSettings {
        let default = StackSettings::default();
        let Some(map) = self.map(node, "x-evenkeel") else { return default };
        StackSettings {
            keep_images: self
                .field(map, "keep_images", Reader::number)
                .unwrap_or(default.keep_images),
            keep_releases: self
                .field(map, "keep_releases", Reader::number)
                .unwrap_or(default.keep_releases),
        }
    }

    fn network(&mut self, node: &Node, key: &str) -> Network {
        if node.is_null() || self.map(node, key).is_none() {
            return Network::default();
        }
        let (external, name) = self.external(node, key);
        let mut network = Network {
            external,
            name,
            driver: self.field(node, "driver", Reader::word),
            driver_opts: self.field(node, "driver_opts", Reader::dictionary).unwrap_or_default(),
            internal: self.field(node, "internal", Reader::flag).unwrap_or_default(),
            attachable: self.field(node, "attachable", Reader::flag).unwrap_or_default(),
            enable_ipv6: self.field(node, "enable_ipv6", Reader::flag),
            labels: self.field(node, "labels", Reader::dictionary).unwrap_or_default(),
            ..Network::default()
        };
        if let Some(ipam) = node.get("ipam").and_then(|ipam| self.map(ipam, "ipam")) {
            network.ipam_driver = self.field(ipam, "driver", Reader::word);
            network.subnets = self.field(ipam, "config", Reader::subnets).unwrap_or_default();
        }
        network
    }

    fn subnets(&mut self, node: &Node, name: &str) -> Option<Vec<Subnet>> {
        let items = self.items(node, name);
        let maps: Vec<&Node> = items.iter().filter_map(|item| self.map(item, name)).collect();
        let subnets = maps.into_iter().map(|map| Subnet {
            subnet: self.field(map, "subnet", Reader::word),
            ip_range: self.field(map, "ip_range", Reader::word),
            gateway: self.field(map, "gateway", Reader::word),
        });
        Some(subnets.collect())
    }

    fn volume(&mut self, node: &Node, key: &str) -> Volume {
        if node.is_null() || self.map(node, key).is_none() {
            return Volume::default();
        }
        let (external, name) = self.external(node, key);
        Volume {
            external,
            name,
            driver: self.field(node, "driver", Reader::word),
            driver_opts: self.field(node, "driver_opts", Reader::dictionary).unwrap_or_default(),
            labels: self.field(node, "labels", Reader::dictionary).unwrap_or_default(),
        }
    }

    /// `external` and the name in the engine, from `external: true`, `external: {name: …}`, `name`.
    pub fn external(&mut self, node: &Node, key: &str) -> (bool, Option<String>) {
        let name = self.field(node, "name", Reader::word);
        let Some(entry) = node.entry("external") else { return (false, name) };
        let (external, inner) = match entry.value.kind {
            Kind::Map(_) => (true, self.field(&entry.value, "name", Reader::word)),
            Kind::Null => (false, None),
            Kind::Scalar(_) | Kind::Seq(_) => {
                (self.flag(&entry.value, "external").unwrap_or(true), None)
            }
        };
        if inner.is_some() && name.is_some() {
            let message = format!("`{key}` has both `name` and `external.name`");
            let hint = "`external: true` with `name` is enough";
            self.sink.error_with_hint(entry.key_span, "conflict", message, hint);
        }
        if external {
            let own = ["driver", "driver_opts", "labels", "ipam", "internal", "file", "content"];
            let clash = node.entries().iter().find(|e| own.contains(&e.key.as_str()));
            if let Some(clash) = clash {
                let message = format!("`{}` says nothing about what is external", clash.key);
                let hint = "an external object exists already; only `name` may be given";
                self.sink.error_with_hint(clash.key_span, "conflict", message, hint);
            }
        }
        (external, inner.or(name))
    }
}
