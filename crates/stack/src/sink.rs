//! Collects findings while a load goes on, so that one run reports everything that is wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};

/// Findings beyond this many are counted, not kept.
const MOST_FINDINGS: usize = 100;

/// A place in one of the sources: bytes `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

struct Source {
    path: PathBuf,
    text: Arc<str>,
}

/// The sources and what was found in them.
#[derive(Default)]
pub(crate) struct Sink {
    sources: Vec<Source>,
    found: Vec<Diagnostic>,
    beyond: usize,
}

impl Sink {
    /// Registers a text; spans name it by the number returned.
    pub fn add_source(&mut self, path: &Path, text: &str) -> u32 {
        self.sources.push(Source { path: path.to_path_buf(), text: text.into() });
        (self.sources.len() - 1) as u32
    }

    pub fn text(&self, file: u32) -> Arc<str> {
        self.sources[file as usize].text.clone()
    }

    /// The source text a span covers.
    pub fn slice(&self, span: Span) -> &str {
        let text = &self.sources[span.file as usize].text;
        text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// `file:line` of a span, for hints that point at a second place.
    pub fn place(&self, span: Span) -> String {
        let source = &self.sources[span.file as usize];
        let (line, _) = line_and_column(&source.text, span.start as usize);
        format!("{}:{line}", source.path.display())
    }

    pub fn error(&mut self, span: Span, code: &'static str, message: impl Into<String>) {
        self.push(Severity::Error, span, code, message.into(), None);
    }

    pub fn error_with_hint(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Severity::Error, span, code, message.into(), Some(hint.into()));
    }

    pub fn warn(&mut self, span: Span, code: &'static str, message: impl Into<String>) {
        self.push(Severity::Warning, span, code, message.into(), None);
    }

    /// A finding about a file whose lines are not shown because they hold values.
    pub fn error_in_hidden_file(
        &mut self,
        path: &Path,
        line: usize,
        code: &'static str,
        message: String,
    ) {
        self.keep(Diagnostic {
            severity: Severity::Error,
            code,
            message,
            hint: None,
            file: path.to_path_buf(),
            line,
            column: usize::from(line > 0),
            excerpt: None,
        });
    }

    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    pub fn errors(&self) -> usize {
        self.found.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// The warnings when nothing is wrong, everything otherwise.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Diagnostics> {
        let order = |d: &Diagnostic| self.sources.iter().position(|s| s.path == d.file);
        self.found.sort_by_cached_key(|d| (order(d), d.line, d.column));
        if self.beyond > 0
            && let Some(last) = self.found.last_mut()
        {
            last.hint = Some(format!("{} more findings are not shown", self.beyond));
        }
        if self.has_errors() { Err(Diagnostics(self.found)) } else { Ok(self.found) }
    }

    fn push(
        &mut self,
        severity: Severity,
        span: Span,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) {
        let source = &self.sources[span.file as usize];
        let bytes = one_line(&source.text, span.start as usize..span.end as usize);
        let (line, column) = line_and_column(&source.text, bytes.start);
        let diagnostic = Diagnostic {
            severity,
            code,
            message,
            hint,
            file: source.path.clone(),
            line,
            column,
            excerpt: Some(Excerpt { source: source.text.clone(), bytes }),
        };
        self.keep(diagnostic);
    }

    fn keep(&mut self, diagnostic: Diagnostic) {
        if self.found.contains(&diagnostic) {
            return;
        }
        if self.found.len() >= MOST_FINDINGS {
            self.beyond += 1;
            if diagnostic.severity == Severity::Warning || self.has_errors() {
                return;
            }
            self.found.pop();
        }
        self.found.push(diagnostic);
    }
}

/// The part of `bytes` on its first line, at least the place itself, on character boundaries.
fn one_line(text: &str, bytes: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(bytes.start);
    let end = floor(bytes.end).max(start);
    let line_end = text[start..end].find('\n').map_or(end, |at| start + at);
    start..start + text[start..line_end].trim_end().len()
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
