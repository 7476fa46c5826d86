//! Single values, lists and dictionaries.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::Reader;
use crate::tree::{Entry, Kind, Node};
use crate::{quantity, words};

impl Reader<'_> {
    pub fn text(&mut self, node: &Node, name: &str) -> Option<String> {
        match node.scalar() {
            Some(text) => Some(text.to_string()),
            None => self.expected(node, name, "a string"),
        }
    }

    /// A text that must not be empty.
    pub fn word(&mut self, node: &Node, name: &str) -> Option<String> {
        let text = self.text(node, name)?;
        if text.trim().is_empty() {
            self.sink.error(node.span, "empty-value", format!("`{name}` must not be empty"));
            return None;
        }
        Some(text)
    }

    /// One of a few words.
    pub fn choice(&mut self, node: &Node, name: &str, choices: &[&str]) -> Option<String> {
        let text = self.text(node, name)?;
        if choices.contains(&text.as_str()) {
            return Some(text);
        }
        if node.is_hidden() {
            return self.hidden(node, name);
        }
        let message = format!("`{name}` cannot be `{text}`");
        let hint = format!("one of: {}", choices.join(", "));
        self.sink.error_with_hint(node.span, "invalid-value", message, hint);
        None
    }

    pub fn flag(&mut self, node: &Node, name: &str) -> Option<bool> {
        match node.scalar() {
            Some("true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => {
                Some(true)
            }
            Some("false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => {
                Some(false)
            }
            Some(_) | None => self.expected(node, name, "`true` or `false`"),
        }
    }

    pub fn number<T: FromStr>(&mut self, node: &Node, name: &str) -> Option<T> {
        match node.scalar().map(|text| text.trim().parse()) {
            Some(Ok(number)) => Some(number),
            Some(Err(_)) | None => {
                let signed = "-1".parse::<T>().is_ok();
                let kind = if signed { "a whole number" } else { "a whole number, 0 or more" };
                self.expected(node, name, kind)
            }
        }
    }

    pub fn duration(&mut self, node: &Node, name: &str) -> Option<Duration> {
        self.quantity(node, name, "a duration such as `30s`", quantity::duration)
    }

    pub fn bytes(&mut self, node: &Node, name: &str) -> Option<u64> {
        self.quantity(node, name, "a size such as `64M`", quantity::bytes)
    }

    /// A scalar that `parse` understands.
    pub fn quantity<T>(
        &mut self,
        node: &Node,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some(text) = node.scalar() else { return self.expected(node, name, expected) };
        match parse(text) {
            Ok(value) => Some(value),
            Err(_) if node.is_hidden() => self.hidden(node, name),
            Err(reason) => {
                let message = format!("`{name}` cannot be `{text}`: {reason}");
                self.sink.error(node.span, "invalid-value", message);
                None
            }
        }
    }

    /// A wrong value that may not be shown.
    fn hidden<T>(&mut self, node: &Node, name: &str) -> Option<T> {
        let message = format!("`{name}` has a value it cannot have");
        let hint = "the value is not shown: it comes from a variable that is called like a secret";
        self.sink.error_with_hint(node.span, "invalid-value", message, hint);
        None
    }

    /// An octal file mode: `0444`, `0o444`, `"444"`.
    pub fn file_mode(&mut self, node: &Node, name: &str) -> Option<u32> {
        self.quantity(node, name, "an octal file mode such as `0444`", |text| {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
            mode.ok_or_else(|| "expected an octal file mode such as `0444`".to_string())
        })
    }

    pub fn items<'n>(&mut self, node: &'n Node, name: &str) -> &'n [Node] {
        match &node.kind {
            Kind::Seq(items) => items,
            Kind::Null => &[],
            Kind::Scalar(_) | Kind::Map(_) => {
                let _: Option<()> = self.expected(node, name, "a list");
                &[]
            }
        }
    }

    pub fn entries<'n>(&mut self, node: &'n Node, name: &str) -> &'n [Entry] {
        if !matches!(node.kind, Kind::Map(_) | Kind::Null) {
            let _: Option<()> = self.expected(node, name, "a map");
        }
        node.entries()
    }

    /// The node, if it is a map.
    pub fn map<'n>(&mut self, node: &'n Node, name: &str) -> Option<&'n Node> {
        match node.kind {
            Kind::Map(_) => Some(node),
            Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => self.expected(node, name, "a map"),
        }
    }

    pub fn texts(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let items = self.items(node, name);
        let item_name = format!("{name}[]");
        Some(items.iter().filter_map(|item| self.text(item, &item_name)).collect())
    }

    /// A list, or one item of it.
    pub fn text_or_texts(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        match node.scalar() {
            Some(text) => Some(vec![text.to_string()]),
            None => self.texts(node, name),
        }
    }

    /// A list, or one string split as a shell would.
    pub fn command(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        match node.scalar() {
            Some(_) => self.quantity(node, name, "a command", words::split),
            None => self.texts(node, name),
        }
    }

    /// A map, or a list of `name<separator>value`; a name alone has no value.
    pub fn pairs(
        &mut self,
        node: &Node,
        name: &str,
        separators: &[char],
    ) -> Option<Vec<(String, Option<String>)>> {
        if !matches!(node.kind, Kind::Seq(_) | Kind::Map(_)) {
            return self.expected(node, name, "a map or a list");
        }
        let mut pairs = Vec::new();
        for entry in node.entries() {
            let value = match entry.value.kind {
                Kind::Null => None,
                Kind::Scalar(_) | Kind::Seq(_) | Kind::Map(_) => {
                    let Some(value) = self.text(&entry.value, &entry.key) else { continue };
                    Some(value)
                }
            };
            pairs.push((entry.key.clone(), value));
        }
        if let Kind::Seq(items) = &node.kind {
            for item in items {
                let Some(text) = self.text(item, &format!("{name}[]")) else { continue };
                match text.split_once(separators) {
                    Some((key, value)) => pairs.push((key.to_string(), Some(value.to_string()))),
                    None => pairs.push((text, None)),
                }
            }
        }
        if let Some(empty) = pairs.iter().position(|(key, _)| key.trim().is_empty()) {
            self.sink.error(node.span, "empty-value", format!("`{name}` has an empty name"));
            pairs.remove(empty);
        }
        Some(pairs)
    }

    /// Pairs in which a missing value is an empty text: labels, options.
    pub fn dictionary(&mut self, node: &Node, name: &str) -> Option<BTreeMap<String, String>> {
        let pairs = self.pairs(node, name, &['='])?;
        Some(pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }
}
