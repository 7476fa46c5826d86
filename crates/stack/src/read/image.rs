//! Where a service's image comes from: `build` and `x-evenkeel.artifact`.

use std::collections::BTreeMap;

use super::Reader;
use crate::lower::healthcheck_json;
use crate::model::{Artifact, DockerBuild};
use crate::tree::{Kind, Node};

impl Reader<'_> {
    pub fn build(&mut self, node: &Node, name: &str) -> Option<DockerBuild> {
        if let Some(context) = node.scalar() {
            return Some(DockerBuild { context: self.absolute(context), ..DockerBuild::default() });
        }
        let map = self.map(node, name)?;
        let context = self.field(map, "context", Reader::word).unwrap_or_else(|| ".".to_string());
        let args = self.field(map, "args", |r, n, name| r.pairs(n, name, &['=']));
        let args = args.unwrap_or_default().into_iter();
        Some(DockerBuild {
            context: self.absolute(&context),
            dockerfile: self.field(map, "dockerfile", Reader::word),
            target: self.field(map, "target", Reader::word),
            args: args
                .map(|(key, value)| {
                    let value = value.or_else(|| (self.variable)(&key));
                    (key, value)
                })
                .collect(),
            labels: self.field(map, "labels", Reader::dictionary).unwrap_or_default(),
        })
    }

    pub fn artifact(&mut self, node: &Node, name: &str) -> Option<Artifact> {
        let map = self.map(node, name)?;
        let files = self.field(map, "files", Reader::artifact_files);
        if map.get("files").is_none() {
            let hint = "write `files: {/app/server: target/release/server}`";
            let message = "`artifact` names no files for its image";
            self.sink.error_with_hint(map.span, "missing-key", message, hint);
        }
        let command = |r: &mut Self, key| r.field(map, key, Reader::command).unwrap_or_default();
        let health = self.field(map, "healthcheck", Reader::healthcheck);
        Some(Artifact {
            build: self.field(map, "build", Reader::command).filter(|argv| !argv.is_empty()),
            files: files.unwrap_or_default(),
            entrypoint: command(self, "entrypoint"),
            cmd: command(self, "cmd"),
            env: self.field(map, "env", Reader::dictionary).unwrap_or_default(),
            labels: self.field(map, "labels", Reader::dictionary).unwrap_or_default(),
            workdir: self.field(map, "workdir", Reader::word),
            user: self.field(map, "user", Reader::word),
            healthcheck: health.map(|check| healthcheck_json(&check)),
        })
    }

    fn artifact_files(&mut self, node: &Node, name: &str) -> Option<BTreeMap<String, String>> {
        let map = self.map(node, name)?;
        let mut files = BTreeMap::new();
        for entry in map.entries() {
            if !entry.key.starts_with('/') || entry.key.split('/').any(|part| part == "..") {
                let message = format!("`{}` must be an absolute path in the image", entry.key);
                self.sink.error(entry.key_span, "invalid-value", message);
            }
            let host = match entry.value.kind {
                Kind::Scalar(_) => self.word(&entry.value, &entry.key),
                Kind::Null | Kind::Seq(_) | Kind::Map(_) => {
                    self.expected(&entry.value, &entry.key, "a path on the host")
                }
            };
            files.extend(host.map(|host| (entry.key.clone(), host)));
        }
        Some(files)
    }
}
