//! How the process inside a container runs.

use std::collections::BTreeMap;

use super::Reader;
use crate::model::{Healthcheck, Logging, Process, Ulimit};
use crate::tree::{Kind, Node};

/// Docker refuses shorter intervals in a health check.
const SHORTEST_INTERVAL_MS: u128 = 1;

impl Reader<'_> {
    pub fn process(&mut self, map: &Node) -> Process {
        let flag = |r: &mut Self, key| r.field(map, key, Reader::flag).unwrap_or_default();
        let texts = |r: &mut Self, key| r.field(map, key, Reader::texts).unwrap_or_default();
        let either =
            |r: &mut Self, key| r.field(map, key, Reader::text_or_texts).unwrap_or_default();
        Process {
            hostname: self.field(map, "hostname", Reader::word),
            user: self.field(map, "user", Reader::word),
            groups: texts(self, "group_add"),
            working_dir: self.field(map, "working_dir", Reader::word),
            stop_signal: self.field(map, "stop_signal", Reader::word),
            stop_grace_period: self.field(map, "stop_grace_period", Reader::duration),
            init: self.field(map, "init", Reader::flag),
            read_only: flag(self, "read_only"),
            tty: flag(self, "tty"),
            stdin_open: flag(self, "stdin_open"),
            isolation: self.field(map, "isolation", Reader::word),
            oom_score_adj: self.field(map, "oom_score_adj", Reader::number),
            cap_add: texts(self, "cap_add"),
            cap_drop: texts(self, "cap_drop"),
            sysctls: self.field(map, "sysctls", Reader::dictionary).unwrap_or_default(),
            ulimits: self.field(map, "ulimits", Reader::ulimits).unwrap_or_default(),
            extra_hosts: self.field(map, "extra_hosts", Reader::extra_hosts).unwrap_or_default(),
            dns: either(self, "dns"),
            dns_search: either(self, "dns_search"),
            dns_options: either(self, "dns_opt"),
        }
    }

    fn ulimits(&mut self, node: &Node, name: &str) -> Option<BTreeMap<String, Ulimit>> {
        let mut limits = BTreeMap::new();
        for entry in self.entries(node, name) {
            let limit = match entry.value.kind {
                Kind::Map(_) => {
                    let soft = self.field(&entry.value, "soft", Reader::number);
                    let hard = self.field(&entry.value, "hard", Reader::number);
                    if soft.is_none() && hard.is_none() {
                        let message = format!("`{}` needs `soft` and `hard`", entry.key);
                        self.sink.error(entry.key_span, "missing-key", message);
                    }
                    soft.or(hard).zip(hard.or(soft)).map(|(soft, hard)| Ulimit { soft, hard })
                }
                Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => {
                    let number = self.number(&entry.value, &entry.key);
                    number.map(|both| Ulimit { soft: both, hard: both })
                }
            };
            limits.extend(limit.map(|limit| (entry.key.clone(), limit)));
        }
        Some(limits)
    }

    /// `(address, name)` in the order given.
    fn extra_hosts(&mut self, node: &Node, name: &str) -> Option<Vec<(String, String)>> {
        let mut hosts = Vec::new();
        for entry in node.entries().iter().filter(|e| matches!(e.value.kind, Kind::Seq(_))) {
            let addresses = self.texts(&entry.value, &entry.key).unwrap_or_default();
            hosts.extend(addresses.into_iter().map(|address| (address, entry.key.clone())));
        }
        let single = match &node.kind {
            Kind::Map(entries) => {
                let single = entries.iter().filter(|e| !matches!(e.value.kind, Kind::Seq(_)));
                Node { kind: Kind::Map(single.cloned().collect()), ..*node }
            }
            Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => node.clone(),
        };
        for (host, address) in self.pairs(&single, name, &['=', ':'])? {
            match address.map(|a| a.trim_matches(['[', ']']).to_string()) {
                Some(address) if !address.is_empty() => hosts.push((address, host)),
                Some(_) | None => {
                    let message = format!("the host `{host}` has no address");
                    let hint = "write `name:address`";
                    self.sink.error_with_hint(node.span, "invalid-value", message, hint);
                }
            }
        }
        Some(hosts)
    }

    pub fn logging(&mut self, node: &Node, name: &str) -> Option<Logging> {
        let map = self.map(node, name)?;
        Some(Logging {
            driver: self.field(map, "driver", Reader::word),
            options: self.field(map, "options", Reader::dictionary).unwrap_or_default(),
        })
    }

    pub fn healthcheck(&mut self, node: &Node, name: &str) -> Option<Healthcheck> {
        let map = self.map(node, name)?;
        let mut check = Healthcheck {
            test: self.field(map, "test", Reader::health_test).unwrap_or_default(),
            interval: self.field(map, "interval", Reader::duration),
            timeout: self.field(map, "timeout", Reader::duration),
            start_period: self.field(map, "start_period", Reader::duration),
            start_interval: self.field(map, "start_interval", Reader::duration),
            retries: self.field(map, "retries", Reader::number),
        };
        for key in ["interval", "timeout", "start_period", "start_interval"] {
            let Some(entry) = map.entry(key) else { continue };
            let text = entry.value.scalar().unwrap_or_default();
            let given = crate::quantity::duration(text).unwrap_or_default();
            if !given.is_zero() && given.as_millis() < SHORTEST_INTERVAL_MS {
                let message = format!("`{key}` must be at least 1ms");
                self.sink.error(entry.value.span, "invalid-value", message);
            }
        }
        if self.field(map, "disable", Reader::flag) == Some(true) {
            if let Some(test) = map.entry("test").filter(|_| check.test != ["NONE"]) {
                let message = "`test` has no meaning beside `disable: true`";
                self.sink.error(test.key_span, "conflict", message);
            }
            check = Healthcheck { test: vec!["NONE".to_string()], ..Healthcheck::default() };
        }
        Some(check)
    }

    fn health_test(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        if let Some(text) = node.scalar() {
            let shell = |text: &str| vec!["CMD-SHELL".to_string(), text.to_string()];
            return self.word(node, name).map(|_| shell(text));
        }
        let test = self.texts(node, name)?;
        match (test.first().map(String::as_str), test.len()) {
            (None, _) | (Some("CMD"), 2..) | (Some("CMD-SHELL"), 2) | (Some("NONE"), 1) => {
                Some(test)
            }
            (Some("CMD" | "CMD-SHELL" | "NONE"), _) => {
                let message = format!("`test` has the wrong number of items for `{}`", test[0]);
                let hint =
                    "`[\"CMD\", program, argument, …]`, `[\"CMD-SHELL\", command]` or `[\"NONE\"]`";
                self.sink.error_with_hint(node.span, "invalid-value", message, hint);
                None
            }
            (Some(first), _) => {
                let message = format!("`test` cannot start with `{first}`");
                let hint = "put `CMD` in front, or write the command as one string";
                self.sink.error_with_hint(node.span, "invalid-value", message, hint);
                None
            }
        }
    }
}
