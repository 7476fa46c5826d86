//! YAML as a tree in which every node knows its place in the source.
//!
//! Built from parser events with an explicit stack: anchors and `<<` merges are resolved, a key
//! given twice is an error, and the size and depth after alias expansion are bounded, so that no
//! text makes this slow or deep.

mod build;

pub(crate) use build::parse;

use crate::sink::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub span: Span,
    pub tag: Tag,
    pub kind: Kind,
}

/// Compose's tags for merging several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tag {
    #[default]
    None,
    /// `!reset`: as if the key were in no file.
    Reset,
    /// `!override`: replaces what earlier files say instead of being merged with it.
    Override,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Scalar(Scalar),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub text: String,
    /// Written without quotes, so that it may be read as a number or truth value.
    pub plain: bool,
    /// Made with a variable whose name looks like that of a secret: never shown.
    pub hidden: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// What a person calls this: "a list".
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar(s) if !s.plain => "a string",
            Kind::Scalar(s) if matches!(s.text.as_str(), "true" | "false") => "a truth value",
            Kind::Scalar(s) if s.text.parse::<f64>().is_ok() => "a number",
            Kind::Scalar(_) => "a string",
            Kind::Seq(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// Entries of a map; of anything else none.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => &[],
        }
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value under `key` unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// Whether the value may not be part of a message.
    pub fn is_hidden(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.hidden)
    }

    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            Kind::Null | Kind::Seq(_) | Kind::Map(_) => None,
        }
    }
}
