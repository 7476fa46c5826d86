//! Placement constraints: `node.labels.zone==a` (`swarmkit/manager/constraint`).

use serde::{Deserialize, Serialize};

use super::{Node, architecture};

/// One constraint. Values compare without regard to case, as Docker's do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    key: String,
    is_equal: bool,
    value: String,
}

/// Why a constraint cannot be read, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintError(String);

impl std::fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConstraintError {}

impl Constraint {
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let parts = text.split_once("==").map(|parts| (true, parts));
        let parts = parts.or_else(|| text.split_once("!=").map(|parts| (false, parts)));
        let Some((is_equal, (key, value))) = parts else {
            let what = "constraint expected one operator from ==, !=";
            return Err(ConstraintError(what.to_owned()));
        };
        let (key, value) = (key.trim(), value.trim());
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.len() < 2 || !key.starts_with(char::is_alphabetic) || !key.chars().all(is_key) {
            return Err(ConstraintError(format!("key '{key}' is invalid")));
        }
        let is_value = |c: char| c.is_ascii_alphanumeric() || ":-_ .*()?+[]\\^$|/".contains(c);
        if value.is_empty() || !value.chars().all(is_value) {
            return Err(ConstraintError(format!("value '{value}' is invalid")));
        }
        let constraint = Self { key: key.to_owned(), is_equal, value: value.to_owned() };
        if constraint.label().is_none() && constraint.known(&Node::default()).is_none() {
            // Docker accepts it and no node ever satisfies it.
            let known = "node.id, node.hostname, node.ip, node.role, node.platform.os, \
                         node.platform.arch, node.labels.NAME or engine.labels.NAME";
            return Err(ConstraintError(format!("key '{key}' is invalid: use {known}")));
        }
        Ok(constraint)
    }

    pub fn is_met(&self, node: &Node) -> bool {
        let has = match self.label() {
            Some((is_engine, name)) => {
                let labels = if is_engine { &node.engine_labels } else { &node.labels };
                labels.get(name).map_or("", String::as_str)
            }
            None => self.known(node).unwrap_or(""),
        };
        let is_arch = self.key.eq_ignore_ascii_case("node.platform.arch");
        let is_same = if is_arch {
            architecture(&self.value.to_lowercase()) == architecture(&has.to_lowercase())
        } else {
            self.value.eq_ignore_ascii_case(has)
        };
        is_same == self.is_equal
    }

    /// Which constraint, and what the node has.
    pub(super) fn unmet(&self, node: &Node) -> String {
        let has = match self.label() {
            Some((is_engine, name)) => {
                let labels = if is_engine { &node.engine_labels } else { &node.labels };
                match labels.get(name) {
                    Some(value) => format!("{} of this node is `{value}`", self.key),
                    None => format!("this node has no label `{name}`"),
                }
            }
            None => format!("{} of this node is `{}`", self.key, self.known(node).unwrap_or("")),
        };
        format!("the constraint `{self}` is not met: {has}")
    }

    /// Whether the label is the engine's, and its name.
    fn label(&self) -> Option<(bool, &str)> {
        let rest = |prefix: &str| {
            let head = self.key.get(..prefix.len())?;
            let name = self.key.get(prefix.len()..).filter(|name| !name.is_empty())?;
            head.eq_ignore_ascii_case(prefix).then_some(name)
        };
        rest("node.labels.")
            .map(|name| (false, name))
            .or_else(|| rest("engine.labels.").map(|name| (true, name)))
    }

    fn known<'a>(&self, node: &'a Node) -> Option<&'a str> {
        Some(match self.key.to_ascii_lowercase().as_str() {
            "node.id" => &node.id,
            "node.hostname" => &node.hostname,
            "node.ip" => &node.address,
            "node.role" => &node.role,
            "node.platform.os" => &node.os,
            "node.platform.arch" => &node.arch,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operator = if self.is_equal { "==" } else { "!=" };
        write!(f, "{}{operator}{}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: "n1".to_owned(),
            hostname: "vm".to_owned(),
            role: "manager".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            ..Node::default()
        }
    }

    #[test]
    fn constraints_match_as_docker_s_do() {
        let table = [
            ("node.role==manager", true),
            ("node.role == MANAGER", true),
            ("node.role!=manager", false),
            ("node.hostname!=other", true),
            ("node.id==n1", true),
            ("node.labels.zone==a", true),
            ("node.labels.zone==b", false),
            ("node.labels.disk!=ssd", true),
            ("engine.labels.zone==a", false),
            ("node.platform.os==linux", true),
            ("node.platform.arch==amd64", true),
            ("node.platform.arch!=arm64", true),
        ];
        for (text, wanted) in table {
            let constraint = Constraint::parse(text).expect(text);
            assert_eq!(constraint.is_met(&node()), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_what_is_one() {
        let told = |text: &str| Constraint::parse(text).expect_err(text).to_string();
        assert_eq!(told("node.role=manager"), "constraint expected one operator from ==, !=");
        assert_eq!(told("node role==a"), "key 'node role' is invalid");
        assert_eq!(told("node.role=="), "value '' is invalid");
        assert!(told("node.rolle==manager").contains("use node.id, node.hostname"));
    }

    #[test]
    fn an_unmet_constraint_says_what_the_node_has() {
        let told = |text: &str| Constraint::parse(text).expect(text).unmet(&node());
        assert_eq!(
            told("node.labels.zone==b"),
            "the constraint `node.labels.zone==b` is not met: node.labels.zone of this node is `a`"
        );
        assert_eq!(
            told("node.labels.disk==ssd"),
            "the constraint `node.labels.disk==ssd` is not met: this node has no label `disk`"
        );
    }
}
