//! The machine that tasks run on, what a task needs of it, and whether it has that
//! (`swarmkit/manager/scheduler/filter.go`).

mod constraint;

use std::{collections::BTreeMap, fmt::Write as _};

pub use constraint::{Constraint, ConstraintError};
use serde::{Deserialize, Serialize};

/// Whether new tasks come to the node (`Availability` of a node's spec).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    #[default]
    Active,
    /// Its tasks go on, new ones do not come.
    Pause,
    /// Its tasks are stopped.
    Drain,
}

/// The node, as far as it decides where tasks run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    pub hostname: String,
    pub address: String,
    /// `manager` or `worker`.
    pub role: String,
    /// `linux`.
    pub os: String,
    /// As the kernel names it: `x86_64`.
    pub arch: String,
    pub labels: BTreeMap<String, String>,
    pub engine_labels: BTreeMap<String, String>,
    pub availability: Availability,
    /// What there is to reserve; none is no limit.
    pub nano_cpus: Option<u64>,
    pub memory_bytes: Option<u64>,
}

/// What a task asks of the node it runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Needs {
    pub constraints: Vec<Constraint>,
    /// Any of these; empty is any at all.
    pub platforms: Vec<Platform>,
    /// Reserved for it alone.
    pub nano_cpus: u64,
    pub memory_bytes: u64,
    /// Generic resources by kind; the embedded engine's node has none.
    pub generic: Vec<String>,
    /// At most so many tasks of its service on one node; 0 is any number.
    pub max_per_node: u64,
    pub host_ports: Vec<HostPort>,
}

/// What an image was built for; an empty part is any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub arch: String,
}

/// A port of the machine that one task has for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    pub port: u16,
}

/// Why a task waits for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unplaced {
    /// In Docker's words, as `Status.Err` has it.
    pub reason: String,
    /// What it needs and what the node has.
    pub detail: String,
}

/// What other tasks have taken of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub nano_cpus: u64,
    pub memory_bytes: u64,
    /// Tasks of the same service.
    pub of_service: u64,
    /// Ports with who holds them.
    pub host_ports: BTreeMap<HostPort, String>,
}

impl Needs {
    /// Nothing that other tasks could have taken.
    pub fn shares_all(&self) -> bool {
        self.nano_cpus == 0
            && self.memory_bytes == 0
            && self.max_per_node == 0
            && self.host_ports.is_empty()
    }

    /// What does not change while the node stays as it is: constraints and platforms.
    pub fn suits(&self, node: &Node) -> bool {
        self.unmet_constraint(node).is_none() && self.is_for_platform(node)
    }

    /// Places the task on the node, or says why not: the filters and their order are Docker's.
    pub fn fit(&self, node: &Node, taken: &Taken) -> Result<(), Unplaced> {
        let refused = |reason: &str, detail: String| {
            Err(Unplaced { reason: format!("no suitable node ({reason})"), detail })
        };
        if let Some(detail) = closed(node) {
            return refused("1 node not available for new tasks", detail);
        }
        if let Some(detail) = self.short_of(node, taken) {
            return refused("insufficient resources on 1 node", detail);
        }
        if let Some(constraint) = self.unmet_constraint(node) {
            let detail = constraint.unmet(node);
            return refused("scheduling constraints not satisfied on 1 node", detail);
        }
        if !self.is_for_platform(node) {
            let mut detail = format!("the node is {}/{}, the image is for", node.os, node.arch);
            for platform in &self.platforms {
                let _ = write!(detail, " {}/{}", platform.os, platform.arch);
            }
            return refused("unsupported platform on 1 node", detail);
        }
        let held =
            self.host_ports.iter().find_map(|port| Some((port, taken.host_ports.get(port)?)));
        if let Some((HostPort { protocol, port }, holder)) = held {
            let detail = format!("port {port}/{protocol} of the machine is held by {holder}");
            return refused("host-mode port already in use on 1 node", detail);
        }
        if self.max_per_node > 0 && taken.of_service >= self.max_per_node {
            let (limit, there) = (self.max_per_node, taken.of_service);
            let detail = format!("at most {limit} of its tasks may run on one node, {there} do");
            return refused("max replicas per node limit exceed", detail);
        }
        Ok(())
    }

    fn unmet_constraint(&self, node: &Node) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| !constraint.is_met(node))
    }

    fn is_for_platform(&self, node: &Node) -> bool {
        let fits = |wanted: &str, has: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(has);
        self.platforms.is_empty()
            || self.platforms.iter().any(|platform| {
                fits(&platform.os, &node.os)
                    && fits(architecture(&platform.arch), architecture(&node.arch))
            })
    }

    fn short_of(&self, node: &Node, taken: &Taken) -> Option<String> {
        if let Some(total) = node.memory_bytes.filter(|_| self.memory_bytes > 0) {
            let free = total.saturating_sub(taken.memory_bytes);
            if self.memory_bytes > free {
                let [needs, free, total] = [self.memory_bytes, free, total].map(bytes);
                return Some(format!("needs {needs} of memory; {free} of {total} is free"));
            }
        }
        if let Some(total) = node.nano_cpus.filter(|_| self.nano_cpus > 0) {
            let free = total.saturating_sub(taken.nano_cpus);
            if self.nano_cpus > free {
                let [needs, free, total] = [self.nano_cpus, free, total].map(cpus);
                return Some(format!("needs {needs} CPUs; {free} of {total} are free"));
            }
        }
        let kind = self.generic.first()?;
        Some(format!("needs the generic resource {kind}; the node has none"))
    }
}

fn closed(node: &Node) -> Option<String> {
    let how = match node.availability {
        Availability::Active => return None,
        Availability::Pause => "paused",
        Availability::Drain => "drained",
    };
    let name = &node.hostname;
    Some(format!(
        "the node is {how}; open it with `docker node update --availability active {name}`"
    ))
}

/// Go's and the kernel's names of one architecture are one.
fn architecture(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| count >= *size) else {
        return format!("{count} B");
    };
    let text = format!("{:.1}", count as f64 / *size as f64);
    format!("{} {unit}", text.trim_end_matches(".0"))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
fn cpus(nanos: u64) -> String {
    let text = format!("{:.2}", nanos as f64 / 1e9);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: "n1".to_owned(),
            hostname: "vm".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            memory_bytes: Some(4 << 30),
            nano_cpus: Some(2_000_000_000),
            ..Node::default()
        }
    }

    #[test]
    fn what_is_missing_is_said_in_dockers_words_and_in_more() {
        let needs = Needs { memory_bytes: 4 << 30, ..Needs::default() };
        let taken = Taken { memory_bytes: (28 << 30) / 10, ..Taken::default() };
        let unplaced = needs.fit(&node(), &taken).expect_err("does not fit");
        assert_eq!(unplaced.reason, "no suitable node (insufficient resources on 1 node)");
        assert_eq!(unplaced.detail, "needs 4 GiB of memory; 1.2 GiB of 4 GiB is free");
        let needs = Needs { nano_cpus: 1_500_000_000, ..Needs::default() };
        let taken = Taken { nano_cpus: 1_000_000_000, ..Taken::default() };
        let unplaced = needs.fit(&node(), &taken).expect_err("does not fit");
        assert_eq!(unplaced.detail, "needs 1.5 CPUs; 1 of 2 are free");
        assert_eq!(needs.fit(&node(), &Taken::default()), Ok(()));
    }

    #[test]
    fn a_platform_may_be_named_as_go_or_as_the_kernel_does() {
        let on = |os: &str, arch: &str| {
            let platform = Platform { os: os.to_owned(), arch: arch.to_owned() };
            Needs { platforms: vec![platform], ..Needs::default() }.fit(&node(), &Taken::default())
        };
        assert_eq!(on("linux", "amd64"), Ok(()));
        assert_eq!(on("", ""), Ok(()));
        let unplaced = on("linux", "arm64").expect_err("another architecture");
        assert_eq!(unplaced.reason, "no suitable node (unsupported platform on 1 node)");
    }
}
