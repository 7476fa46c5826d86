//! What is wrong with a stack file, where, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::mask;

/// How bad it is: an error stops the load, a warning does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One finding, with the place in the file it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable, for scripts: `unknown-key`, `undefined-network`, …
    pub code: &'static str,
    pub message: String,
    /// What to do about it, when that is known.
    pub hint: Option<String>,
    /// As the caller named it.
    pub file: PathBuf,
    /// 1-based; 0 when the finding is about the file as a whole.
    pub line: usize,
    /// 1-based, in characters; 0 when the finding is about the file as a whole.
    pub column: usize,
    /// The text the finding is in and the bytes it is about. Absent for files that hold values
    /// of environment variables, whose lines are not shown.
    pub excerpt: Option<Excerpt>,
}

/// A place inside a source text.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub source: Arc<str>,
    pub bytes: Range<usize>,
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Excerpt({:?})", self.bytes)
    }
}

impl Diagnostic {
    /// The finding as shown in a pipe: message, excerpt with a caret, hint. No colour.
    pub fn rendered(&self) -> String {
        self.render(&Renderer::plain().decor_style(DecorStyle::Ascii))
    }

    /// The same for a terminal.
    pub fn rendered_in_colour(&self) -> String {
        self.render(&Renderer::styled().decor_style(DecorStyle::Ascii))
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.file.display().to_string();
        let title = level.primary_title(self.message.as_str()).id(self.code);
        let shown = self.excerpt.as_ref().map(|e| mask::source_around(&e.source, &e.bytes));
        let mut group = match &shown {
            Some(shown) => title.element(
                Snippet::source(shown.text.as_str())
                    .line_start(shown.first_line)
                    .path(path.as_str())
                    .annotation(AnnotationKind::Primary.span(shown.bytes.clone())),
            ),
            None if self.line == 0 => title.element(Origin::path(path.as_str())),
            None => title.element(Origin::path(path.as_str()).line(self.line)),
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

/// All findings of one load; at least one is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|d| d.severity == Severity::Error)
    }

    /// Every finding, errors and warnings in the order of the file, an empty line between them.
    pub fn rendered(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Diagnostic::rendered).collect();
        all.join("\n\n")
    }

    pub fn rendered_in_colour(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Diagnostic::rendered_in_colour).collect();
        all.join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.errors();
        match errors.next() {
            Some(first) if first.line > 0 => {
                write!(
                    f,
                    "{}:{}:{}: {}",
                    first.file.display(),
                    first.line,
                    first.column,
                    first.message
                )?;
            }
            Some(first) => write!(f, "{}: {}", first.file.display(), first.message)?,
            None => f.write_str("the stack file has no error")?,
        }
        match errors.count() {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl std::error::Error for Diagnostics {}
