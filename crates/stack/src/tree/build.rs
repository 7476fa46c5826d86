//! Builds the tree from parser events.

use std::collections::HashMap;

use granit_parser::{
    Event, Options, Parser, ScalarStyle, ScanError, Span as RawSpan, Tag as RawTag,
};

use super::{Entry, Kind, Node, Scalar, Tag};
use crate::sink::{Sink, Span};

/// Nodes after alias expansion.
const MOST_NODES: usize = 100_000;
/// Nesting after alias expansion.
const DEEPEST: usize = 64;
const LARGEST_BYTES: usize = 4 << 20;

/// The one document of a source, or nothing when findings were reported that leave no tree.
pub(crate) fn parse(sink: &mut Sink, file: u32) -> Option<Node> {
    let text = sink.text(file);
    let whole = Span { file, start: 0, end: 0 };
    if text.len() > LARGEST_BYTES {
        sink.error(whole, "file-too-large", "the file is larger than 4 MiB");
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::new(file);
    for event in Parser::new_from_str_with_options(&text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(sink, event, span),
            Err(error) => {
                report_syntax(sink, file, &text, &error);
                Err(Stop)
            }
        };
        if taken.is_err() {
            return None;
        }
    }
    let root = builder.root.take();
    if let Some(node) = root.as_ref().filter(|n| !n.is_null() && !matches!(n.kind, Kind::Map(_))) {
        let message = format!("a stack file is a map with `services:`, this is {}", node.noun());
        sink.error(node.span, "wrong-type", message);
        return None;
    }
    if root.as_ref().is_none_or(Node::is_null) {
        sink.error_with_hint(whole, "empty-file", "the file is empty", "it needs `services:`");
        return None;
    }
    root
}

fn report_syntax(sink: &mut Sink, file: u32, text: &str, error: &ScanError) {
    let at = error.marker().byte_offset().unwrap_or(0).min(text.len());
    let span = Span { file, start: at as u32, end: at as u32 + 1 };
    let message = format!("not valid YAML: {}", error.kind());
    let line = text[..at].rfind('\n').map_or(text, |n| &text[n + 1..]);
    if line.starts_with([' ', '\t']) && line.trim_start_matches(' ').starts_with('\t') {
        return sink.error_with_hint(span, "yaml-syntax", message, "indent with spaces, not tabs");
    }
    sink.error(span, "yaml-syntax", message);
}

/// A finding was reported after which building cannot go on.
struct Stop;

fn stop<T>(sink: &mut Sink, span: Span, code: &'static str, message: &str) -> Result<T, Stop> {
    sink.error(span, code, message);
    Err(Stop)
}

enum Frame {
    Seq { items: Vec<Node> },
    Map { entries: Vec<Entry>, merges: Vec<Node>, key: Option<(String, Span, bool)> },
}

struct Open {
    frame: Frame,
    span: Span,
    tag: Tag,
    anchor: usize,
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Builder {
    file: u32,
    stack: Vec<Open>,
    anchors: HashMap<usize, Option<Anchored>>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
}

impl Builder {
    fn new(file: u32) -> Self {
        let (stack, anchors) = (Vec::new(), HashMap::new());
        Self { file, stack, anchors, nodes: 0, documents: 0, root: None }
    }

    fn take(&mut self, sink: &mut Sink, event: Event<'_>, raw: RawSpan) -> Result<(), Stop> {
        let span = self.span(&raw);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let message = "a stack file is one YAML document, this is a second one";
                    return stop(sink, span, "yaml-syntax", message);
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let kind = scalar_kind(&text, plain, tag.as_deref());
                let node = Node { span, tag: merge_tag(tag.as_deref()), kind };
                self.close(sink, node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(sink, Frame::Seq { items: Vec::new() }, span, anchor, tag.as_deref())
            }
            Event::MappingStart(_, anchor, tag) => {
                let frame = Frame::Map { entries: Vec::new(), merges: Vec::new(), key: None };
                self.open(sink, frame, span, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(sink, span),
            Event::Alias(id) => self.alias(sink, id, span),
            _ => Ok(()),
        }
    }

    fn span(&self, raw: &RawSpan) -> Span {
        let range = raw.byte_range().unwrap_or(0..0);
        Span { file: self.file, start: range.start as u32, end: range.end as u32 }
    }

    fn open(
        &mut self,
        sink: &mut Sink,
        frame: Frame,
        span: Span,
        anchor: usize,
        tag: Option<&RawTag>,
    ) -> Result<(), Stop> {
        if self.stack.len() >= DEEPEST {
            return stop(sink, span, "yaml-too-deep", "the file is nested too deeply");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        self.stack.push(Open { frame, span, tag: merge_tag(tag), anchor });
        Ok(())
    }

    fn end(&mut self, sink: &mut Sink, end: Span) -> Result<(), Stop> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let span = Span { end: end.end.max(open.span.end), ..open.span };
        let kind = match open.frame {
            Frame::Seq { items } => Kind::Seq(items),
            Frame::Map { entries, merges, .. } => Kind::Map(merged(sink, entries, merges)),
        };
        self.close(sink, Node { span, tag: open.tag, kind }, open.anchor)
    }

    fn alias(&mut self, sink: &mut Sink, id: usize, span: Span) -> Result<(), Stop> {
        let Some(Some(anchored)) = self.anchors.get(&id) else {
            let message = "this alias refers to a value that contains it";
            return stop(sink, span, "yaml-alias", message);
        };
        if self.stack.len() + anchored.depth > DEEPEST {
            return stop(sink, span, "yaml-too-deep", "this alias nests too deeply");
        }
        if self.nodes + anchored.nodes > MOST_NODES {
            let message = "the file is too large once its aliases are expanded";
            return stop(sink, span, "yaml-too-large", message);
        }
        let (node, nodes) = (anchored.node.clone(), anchored.nodes);
        self.nodes += nodes - 1;
        self.close(sink, node, 0)
    }

    /// A node is complete: remember its anchor and hand it to whatever is open.
    fn close(&mut self, sink: &mut Sink, node: Node, anchor: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return stop(sink, node.span, "yaml-too-large", "the file has too many values");
        }
        if anchor > 0 {
            let (nodes, depth) = measure(&node);
            self.anchors.insert(anchor, Some(Anchored { node: node.clone(), nodes, depth }));
        }
        match self.stack.last_mut().map(|open| &mut open.frame) {
            None => self.root = Some(node),
            Some(Frame::Seq { items }) => items.push(node),
            Some(Frame::Map { entries, merges, key }) => match key.take() {
                None => *key = Some(key_of(sink, &node)?),
                Some((_, _, true)) => merges.push(node),
                Some((name, key_span, false)) => {
                    if let Some(first) = entries.iter().find(|e| e.key == name) {
                        let hint = format!("first given at {}", sink.place(first.key_span));
                        let message = format!("the key `{name}` is given twice");
                        sink.error_with_hint(key_span, "duplicate-key", message, hint);
                    } else {
                        entries.push(Entry { key: name, key_span, value: node });
                    }
                }
            },
        }
        Ok(())
    }
}

fn key_of(sink: &mut Sink, node: &Node) -> Result<(String, Span, bool), Stop> {
    match &node.kind {
        Kind::Scalar(scalar) => {
            let is_merge = scalar.plain && scalar.text == "<<";
            Ok((scalar.text.clone(), node.span, is_merge))
        }
        Kind::Null => Ok((String::from("null"), node.span, false)),
        Kind::Seq(_) | Kind::Map(_) => {
            stop(sink, node.span, "yaml-key", "a key is a string, not a list or map")
        }
    }
}

/// `entries` and what `<<` brings in: own keys win, then the earlier merge.
fn merged(sink: &mut Sink, mut entries: Vec<Entry>, merges: Vec<Node>) -> Vec<Entry> {
    let mut sources = Vec::new();
    for merge in merges {
        match merge.kind {
            Kind::Seq(items) => sources.extend(items),
            Kind::Null => {}
            Kind::Map(_) | Kind::Scalar(_) => sources.push(merge),
        }
    }
    for source in sources {
        match source.kind {
            Kind::Map(inherited) => {
                for entry in inherited {
                    if !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Kind::Null | Kind::Scalar(_) | Kind::Seq(_) => {
                let message = format!("`<<` merges maps, this is {}", source.noun());
                sink.error(source.span, "yaml-merge", message);
            }
        }
    }
    entries
}

fn measure(node: &Node) -> (usize, usize) {
    let children: Vec<&Node> = match &node.kind {
        Kind::Null | Kind::Scalar(_) => return (1, 0),
        Kind::Seq(items) => items.iter().collect(),
        Kind::Map(entries) => entries.iter().map(|entry| &entry.value).collect(),
    };
    let measured = children.into_iter().map(measure);
    let (nodes, depth) = measured.fold((1, 0), |(n, d), (cn, cd)| (n + cn, d.max(cd)));
    (nodes, depth + 1)
}

fn merge_tag(tag: Option<&RawTag>) -> Tag {
    match tag.map(RawTag::original).as_deref() {
        Some("!reset") => Tag::Reset,
        Some("!override") => Tag::Override,
        Some(_) | None => Tag::None,
    }
}

fn scalar_kind(text: &str, plain: bool, tag: Option<&RawTag>) -> Kind {
    let is_string = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    let plain = plain && !is_string;
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Kind::Null;
    }
    Kind::Scalar(Scalar { text: text.to_string(), plain, hidden: false })
}
