//! `.env` and `env_file`: `NAME=value` lines with quotes, comments, `export` and variables.

use std::collections::BTreeMap;

use crate::interpolate::{LoneDollar, Lookup, interpolate};

/// One line that cannot be read. Values are never part of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub line: usize,
    pub message: String,
}

/// How the lines of a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Quotes, comments and variables mean something.
    Compose,
    /// Everything after `=` is the value (`format: raw`).
    Raw,
}

/// The variables of a file in the order given; a name alone takes its value from `outer`, and a
/// value may use `outer` and the variables above it.
pub(crate) fn parse(
    text: &str,
    format: Format,
    outer: Lookup<'_>,
) -> Result<Vec<(String, Option<String>)>, Vec<BadLine>> {
    let mut reader = Reader {
        rest: text.trim_start_matches('\u{feff}'),
        line: 1,
        format,
        outer,
        known: BTreeMap::new(),
    };
    let (mut vars, mut bad) = (Vec::new(), Vec::new());
    while !reader.rest.is_empty() {
        let line = reader.line;
        match reader.assignment() {
            Ok(Some((name, value))) => {
                if let Some(value) = &value {
                    reader.known.insert(name.clone(), value.clone());
                }
                vars.push((name, value));
            }
            Ok(None) => {}
            Err(message) => {
                bad.push(BadLine { line, message });
                reader.skip_line();
            }
        }
    }
    if bad.is_empty() { Ok(vars) } else { Err(bad) }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    format: Format,
    outer: Lookup<'a>,
    known: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    /// Reads one line, or several when a quoted value has them.
    fn assignment(&mut self) -> Result<Option<(String, Option<String>)>, String> {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = self.rest[..end].trim_end_matches('\r');
        let content = line.trim_start();
        if content.trim_end().is_empty() || content.starts_with('#') {
            self.skip_line();
            return Ok(None);
        }
        let content = match content.strip_prefix("export") {
            Some(tail) if tail.starts_with([' ', '\t']) => tail.trim_start(),
            Some(_) | None => content,
        };
        let split = content.find(['=', ':']).filter(|_| self.format == Format::Compose);
        let split = split.or_else(|| content.find('='));
        let Some(split) = split else {
            let name = checked_name(content)?;
            self.skip_line();
            let value = (self.outer)(&name);
            return Ok(Some((name, value)));
        };
        let name = checked_name(&content[..split])?;
        let at = line.len() - content.len() + split + 1;
        if self.format == Format::Raw {
            let value = line[at..].to_string();
            self.skip_line();
            return Ok(Some((name, Some(value))));
        }
        let value = self.value(&line[at..], at)?;
        Ok(Some((name, Some(value))))
    }

    /// The value that starts `at` bytes into the rest, whose first line is `line`.
    fn value(&mut self, line: &'a str, at: usize) -> Result<String, String> {
        let trimmed = line.trim_start();
        let at = at + (line.len() - trimmed.len());
        match trimmed.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let body = &self.rest[at + 1..];
                let end = closing_quote(body, quote)
                    .ok_or_else(|| format!("the quote {quote} is never closed"))?;
                let inner = &body[..end];
                let after = body[end + 1..].lines().next().unwrap_or_default().trim();
                if !after.is_empty() && !after.starts_with('#') {
                    return Err("there is text after the closing quote".to_string());
                }
                let lines = inner.matches('\n').count();
                let value =
                    if quote == '"' { self.expand(&escape(inner))? } else { inner.to_string() };
                for _ in 0..=lines {
                    self.skip_line();
                }
                Ok(value)
            }
            Some(_) | None => {
                self.skip_line();
                self.expand(without_comment(trimmed).trim_end())
            }
        }
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        let lookup = |name: &str| (self.outer)(name).or_else(|| self.known.get(name).cloned());
        interpolate(text, &lookup, LoneDollar::Keep, &mut Vec::new()).map_err(|problem| {
            match problem.code {
                "unset-variable" => problem.message,
                _ => "a `${…}` in the value cannot be read".to_string(),
            }
        })
    }

    fn skip_line(&mut self) {
        match self.rest.find('\n') {
            Some(end) => {
                self.rest = &self.rest[end + 1..];
                self.line += 1;
            }
            None => self.rest = "",
        }
    }
}

fn checked_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(fits) {
        return Err("expected `NAME=value`".to_string());
    }
    Ok(name.to_string())
}

fn closing_quote(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A comment starts at the line's start or after a blank.
fn without_comment(text: &str) -> &str {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &text[..at];
        }
        before = c;
    }
    text
}

/// `\n` and the like in double quotes; `\$` becomes `$$`, which interpolation makes a `$`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(other @ ('"' | '\\' | '\'')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Option<String>)> {
        let outer = |name: &str| (name == "OUTER").then(|| "out".to_string());
        parse(text, Format::Compose, &outer).unwrap()
    }

    #[test]
    fn each_kind_of_line_gives_the_value_compose_gives() {
        let table = [
            ("A=1", "1"),
            ("export A=1", "1"),
            ("A = 1 ", "1"),
            ("A: 1", "1"),
            ("A=", ""),
            ("A=a b # comment", "a b"),
            ("A=a#b", "a#b"),
            ("A=#b", ""),
            ("A='a # $OUTER \\n'", "a # $OUTER \\n"),
            ("A=\"a # $OUTER\" # c", "a # out"),
            ("A=\"a\\nb\\\"c\\$d\"", "a\nb\"c$d"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=$OUTER/x", "out/x"),
            ("A=${NONE:-d}", "d"),
            ("A=pa$5word", "pa$5word"),
            ("A=http://x:1/y=z", "http://x:1/y=z"),
            ("\u{feff}A=1\r\n", "1"),
        ];
        for (text, expected) in table {
            let vars = read(text);
            assert_eq!(vars, [("A".to_string(), Some(expected.to_string()))], "{text:?}");
        }
    }

    #[test]
    fn a_later_line_may_use_an_earlier_one_and_a_bare_name_comes_from_outside() {
        let vars = read("# head\n\nA=1\nB=${A}2\nOUTER\nNONE\n");
        let some = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
        let expected =
            [some("A", "1"), some("B", "12"), some("OUTER", "out"), ("NONE".to_string(), None)];
        assert_eq!(vars, expected);
    }

    #[test]
    fn bad_lines_are_all_named_by_number_and_never_show_a_value() {
        let outer = |_: &str| None;
        let text = "A=1\nhunter2 hunter2\nB='open\n";
        let bad = parse(text, Format::Compose, &outer).unwrap_err();
        let lines: Vec<usize> = bad.iter().map(|b| b.line).collect();
        assert_eq!(lines, [2, 3]);
        assert!(bad.iter().all(|b| !b.message.contains("hunter2")));
    }

    #[test]
    fn raw_files_keep_everything_after_the_equals_sign() {
        let outer = |_: &str| None;
        let vars = parse("A=\"x\" # $Y", Format::Raw, &outer).unwrap();
        assert_eq!(vars, [("A".to_string(), Some("\"x\" # $Y".to_string()))]);
    }
}
