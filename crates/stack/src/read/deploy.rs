//! `deploy:` and the older `restart:`.

use super::Reader;
use crate::model::{Deploy, Mode, Resources, RestartPolicy, UpdateConfig};
use crate::quantity;
use crate::tree::{Kind, Node};

impl Reader<'_> {
    pub fn deploy(&mut self, node: &Node, name: &str) -> Option<Deploy> {
        let map = self.map(node, name)?;
        let mut deploy = Deploy {
            mode: self.field(map, "mode", Reader::mode).unwrap_or_default(),
            replicas: self.field(map, "replicas", Reader::number),
            labels: self.field(map, "labels", Reader::dictionary).unwrap_or_default(),
            update_config: self.field(map, "update_config", Reader::update_config),
            rollback_config: self.field(map, "rollback_config", Reader::update_config),
            restart_policy: self.field(map, "restart_policy", Reader::restart_policy),
            endpoint_mode: self
                .field(map, "endpoint_mode", |r, n, name| r.choice(n, name, &["vip", "dnsrr"])),
            ..Deploy::default()
        };
        if let Some(resources) = map.get("resources").and_then(|n| self.map(n, "resources")) {
            deploy.limits = self.field(resources, "limits", Reader::resources);
            deploy.reservations = self.field(resources, "reservations", Reader::resources);
        }
        if let Some(placement) = map.get("placement").and_then(|n| self.map(n, "placement")) {
            deploy.constraints =
                self.field(placement, "constraints", Reader::constraints).unwrap_or_default();
            deploy.spread =
                self.field(placement, "preferences", Reader::preferences).unwrap_or_default();
            deploy.max_replicas_per_node =
                self.field(placement, "max_replicas_per_node", Reader::number);
        }
        self.check_mode(map, &deploy);
        Some(deploy)
    }

    fn check_mode(&mut self, map: &Node, deploy: &Deploy) {
        let global = matches!(deploy.mode, Mode::Global | Mode::GlobalJob);
        if let (true, Some(entry)) =
            (global, map.entry("replicas").filter(|_| deploy.replicas.is_some()))
        {
            let message = "`replicas` has no meaning in global mode: one task runs on every node";
            self.sink.error(entry.key_span, "conflict", message);
        }
    }

    fn mode(&mut self, node: &Node, name: &str) -> Option<Mode> {
        let choices = ["replicated", "global", "replicated-job", "global-job"];
        let mode = self.choice(node, name, &choices)?;
        Some(match mode.as_str() {
            "global" => Mode::Global,
            "replicated-job" => Mode::ReplicatedJob,
            "global-job" => Mode::GlobalJob,
            _ => Mode::Replicated,
        })
    }

    /// `update_config` or `rollback_config`; a rollback cannot be rolled back.
    fn update_config(&mut self, node: &Node, name: &str) -> Option<UpdateConfig> {
        let map = self.map(node, name)?;
        let all = ["pause", "continue", "rollback"];
        let actions = if name == "rollback_config" { &all[..2] } else { &all[..] };
        let orders = ["stop-first", "start-first"];
        Some(UpdateConfig {
            parallelism: self.field(map, "parallelism", Reader::number),
            delay: self.field(map, "delay", Reader::duration),
            failure_action: self
                .field(map, "failure_action", |r, n, name| r.choice(n, name, actions)),
            monitor: self.field(map, "monitor", Reader::duration),
            max_failure_ratio: self.field(map, "max_failure_ratio", Reader::ratio),
            order: self.field(map, "order", |r, n, name| r.choice(n, name, &orders)),
        })
    }

    fn ratio(&mut self, node: &Node, name: &str) -> Option<f64> {
        self.quantity(node, name, "a number from 0 to 1", |text| {
            let ratio = text.trim().parse::<f64>().ok().filter(|r| (0.0..=1.0).contains(r));
            ratio.ok_or_else(|| "expected a number from 0 to 1".to_string())
        })
    }

    fn restart_policy(&mut self, node: &Node, name: &str) -> Option<RestartPolicy> {
        let map = self.map(node, name)?;
        let conditions = ["any", "on-failure", "none"];
        Some(RestartPolicy {
            condition: self.field(map, "condition", |r, n, name| r.choice(n, name, &conditions)),
            delay: self.field(map, "delay", Reader::duration),
            max_attempts: self.field(map, "max_attempts", Reader::number),
            window: self.field(map, "window", Reader::duration),
        })
    }

    /// The older `restart:`, converted as docker/cli does, except that `no` really means none.
    pub fn restart(&mut self, node: &Node, name: &str) -> Option<RestartPolicy> {
        let text = self.text(node, name)?;
        let policy = |condition: &str, max_attempts| {
            let condition = Some(condition.to_string());
            Some(RestartPolicy { condition, max_attempts, ..RestartPolicy::default() })
        };
        match text.split_once(':') {
            None if text == "always" || text == "unless-stopped" => policy("any", None),
            None if text == "on-failure" => policy("on-failure", None),
            None if text.is_empty() || text == "no" || text == "false" => policy("none", None),
            Some(("on-failure", times)) if times.parse::<u64>().is_ok() => {
                policy("on-failure", times.parse().ok())
            }
            Some(_) | None => {
                let message = format!("`restart` cannot be `{text}`");
                let hint = "one of: no, always, unless-stopped, on-failure, on-failure:3";
                self.sink.error_with_hint(node.span, "invalid-value", message, hint);
                None
            }
        }
    }

    fn resources(&mut self, node: &Node, name: &str) -> Option<Resources> {
        let map = self.map(node, name)?;
        Some(Resources {
            nano_cpus: self.field(map, "cpus", |r, n, name| {
                r.quantity(n, name, "a number of processors", quantity::nano_cpus)
            }),
            memory_bytes: self.field(map, "memory", Reader::bytes),
            pids: self.field(map, "pids", Reader::number),
            generic: self.field(map, "generic_resources", Reader::generic).unwrap_or_default(),
        })
    }

    fn generic(&mut self, node: &Node, name: &str) -> Option<Vec<(String, i64)>> {
        let mut all = Vec::new();
        for item in self.items(node, name) {
            let spec =
                item.get("discrete_resource_spec").filter(|n| matches!(n.kind, Kind::Map(_)));
            let Some(spec) = spec else {
                let _: Option<()> =
                    self.expected(item, name, "a map with `discrete_resource_spec`");
                continue;
            };
            let kind = self.field(spec, "kind", Reader::word);
            let amount = self.field(spec, "value", Reader::number);
            all.extend(kind.zip(amount));
        }
        Some(all)
    }

    fn constraints(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let mut constraints = Vec::new();
        for item in self.items(node, name) {
            let Some(text) = self.text(item, "constraints[]") else { continue };
            let parts = text.split_once("==").or_else(|| text.split_once("!="));
            if parts.is_none_or(|(key, value)| key.trim().is_empty() || value.trim().is_empty()) {
                let message = format!("`{text}` is not a constraint");
                let hint = "for example `node.role == manager` or `node.labels.disk != slow`";
                self.sink.error_with_hint(item.span, "invalid-value", message, hint);
                continue;
            }
            constraints.push(text);
        }
        Some(constraints)
    }

    fn preferences(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let items = self.items(node, name);
        let maps: Vec<&Node> =
            items.iter().filter_map(|item| self.map(item, "preferences[]")).collect();
        Some(maps.into_iter().filter_map(|map| self.field(map, "spread", Reader::word)).collect())
    }
}
