//! Variables in values: `$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+a} ${V+a} $$`.
//!
//! A default, message or alternative may itself contain variables.

use crate::mask::is_secret_name;
use crate::sink::{Sink, Span};
use crate::tree::{Kind, Node};

const DEEPEST: usize = 16;

/// Where values of variables come from.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is wrong with a text, and the part of it that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    pub part: String,
}

/// What to do with a `$` that starts no variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoneDollar {
    Refuse,
    Keep,
}

/// `text` with its variables replaced; names that are not set and have no default go to `unset`.
pub(crate) fn interpolate(
    text: &str,
    lookup: Lookup<'_>,
    lone: LoneDollar,
    unset: &mut Vec<String>,
) -> Result<String, Problem> {
    Substitution { lookup, lone, unset }.run(text, 0)
}

struct Substitution<'a> {
    lookup: Lookup<'a>,
    lone: LoneDollar,
    unset: &'a mut Vec<String>,
}

impl Substitution<'_> {
    fn run(&mut self, text: &str, depth: usize) -> Result<String, Problem> {
        if depth > DEEPEST {
            return Err(malformed(text, "variables are nested too deeply"));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let whole = &rest[at..];
            rest = if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                tail
            } else if let Some(body) = after.strip_prefix('{') {
                let Some(end) = closing_brace(body) else {
                    return Err(malformed(whole, "`${` has no closing `}`"));
                };
                let expression = &whole[..end + 3];
                out.push_str(&self.braced(&body[..end], expression, depth)?);
                &body[end + 1..]
            } else {
                let length = name_length(after);
                if length > 0 {
                    let name = &after[..length];
                    out.push_str(&self.plain(name));
                } else if self.lone == LoneDollar::Keep {
                    out.push('$');
                } else {
                    let part = whole.chars().take(2).collect::<String>();
                    return Err(malformed(&part, "`$` is not followed by a variable name"));
                }
                &after[length..]
            };
        }
        out.push_str(rest);
        Ok(out)
    }

    fn plain(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.unset.push(name.to_string());
            String::new()
        })
    }

    fn braced(&mut self, body: &str, whole: &str, depth: usize) -> Result<String, Problem> {
        let length = name_length(body);
        if length == 0 {
            return Err(malformed(whole, "`${` is not followed by a variable name"));
        }
        let (name, operation) = body.split_at(length);
        if operation.is_empty() {
            return Ok(self.plain(name));
        }
        let (ignore_empty, operation) = match operation.strip_prefix(':') {
            Some(tail) => (true, tail),
            None => (false, operation),
        };
        let value = (self.lookup)(name).filter(|v| !(ignore_empty && v.is_empty()));
        let mut operation = operation.chars();
        let operator = operation.next();
        let word = operation.as_str();
        match (operator, value) {
            (Some('-' | '?'), Some(value)) => Ok(value),
            (Some('-'), None) | (Some('+'), Some(_)) => self.run(word, depth + 1),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) => {
                let reason = self.run(word, depth + 1)?;
                let state = if ignore_empty { "not set or empty" } else { "not set" };
                let mut message = format!("the variable `{name}` is required but {state}");
                if !reason.is_empty() {
                    message = format!("{message}: {reason}");
                }
                let hint = format!("set it in the environment or write `{name}=…` into `.env`");
                let part = whole.to_string();
                Err(Problem { code: "unset-variable", message, hint: Some(hint), part })
            }
            (Some(_) | None, _) => Err(malformed(
                whole,
                "unknown operator, one of `:-` `-` `:?` `?` `:+` `+` is known",
            )),
        }
    }
}

fn malformed(part: &str, reason: &str) -> Problem {
    let part: String = part.chars().take(60).collect();
    Problem {
        code: "bad-interpolation",
        message: format!("`{part}` is not a variable: {reason}"),
        hint: Some("write `$$` for a dollar sign".to_string()),
        part,
    }
}

fn name_length(text: &str) -> usize {
    let mut bytes = text.bytes();
    match bytes.next() {
        Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
            1 + bytes.take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
        }
        Some(_) | None => 0,
    }
}

/// Where the brace closes that was opened just before `body`; `${…}` inside is skipped.
fn closing_brace(body: &str) -> Option<usize> {
    let mut open = 0usize;
    let bytes = body.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Replaces the variables in every value below `node`. Keys are left as they are.
pub(crate) fn interpolate_tree(sink: &mut Sink, node: &mut Node, lookup: Lookup<'_>) {
    let span = node.span;
    match &mut node.kind {
        Kind::Null => {}
        Kind::Seq(items) => items.iter_mut().for_each(|i| interpolate_tree(sink, i, lookup)),
        Kind::Map(entries) => {
            for entry in entries.iter_mut().filter(|e| !is_foreign_extension(&e.key)) {
                interpolate_tree(sink, &mut entry.value, lookup);
            }
        }
        Kind::Scalar(scalar) if scalar.text.contains('$') => {
            let mut unset = Vec::new();
            match interpolate(&scalar.text, lookup, LoneDollar::Refuse, &mut unset) {
                Ok(text) => {
                    scalar.hidden = is_secret_name(&scalar.text);
                    scalar.text = text;
                }
                Err(problem) => {
                    let at = part_span(sink, span, &problem.part);
                    match problem.hint {
                        Some(hint) => sink.error_with_hint(at, problem.code, problem.message, hint),
                        None => sink.error(at, problem.code, problem.message),
                    }
                }
            }
            for name in unset {
                let at = part_span(sink, span, &name);
                let message = format!("the variable `{name}` is not set, an empty text is used");
                sink.warn(at, "unset-variable", message);
            }
        }
        Kind::Scalar(_) => {}
    }
}

/// Extensions of others are neither read nor interpolated where they stand; what is taken from
/// them by an alias is interpolated there.
fn is_foreign_extension(key: &str) -> bool {
    key.starts_with("x-") && key != "x-evenkeel"
}

/// The place of `part` inside the source of a value, or the whole value if it is written otherwise.
fn part_span(sink: &Sink, span: Span, part: &str) -> Span {
    match sink.slice(span).find(part) {
        Some(at) => {
            let start = span.start + at as u32;
            Span { start, end: start + part.len() as u32, ..span }
        }
        None => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "SET" => Some("value".to_string()),
            "EMPTY" => Some(String::new()),
            "MONEY" => Some("$SET".to_string()),
            _ => None,
        };
        interpolate(text, &lookup, LoneDollar::Refuse, &mut Vec::new()).map_err(|p| p.message)
    }

    #[test]
    fn every_operator_of_compose_gives_what_compose_gives() {
        let table = [
            ("plain", "plain"),
            ("$SET", "value"),
            ("${SET}", "value"),
            ("a$SET-b", "avalue-b"),
            ("$$SET", "$SET"),
            ("$$$SET", "$value"),
            ("${UNSET}", ""),
            ("${UNSET:-d}", "d"),
            ("${UNSET-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${SET:-d}", "value"),
            ("${SET:?e}", "value"),
            ("${EMPTY?e}", ""),
            ("${SET:+a}", "a"),
            ("${EMPTY:+a}", ""),
            ("${EMPTY+a}", "a"),
            ("${UNSET+a}", ""),
            ("${UNSET:-${EMPTY:-${SET}}}", "value"),
            ("${UNSET:-a${SET}b}", "avalueb"),
            ("${UNSET:-http://x:80/-?}", "http://x:80/-?"),
            ("${UNSET:-}", ""),
            ("${UNSET:-a$$b}", "a$b"),
            ("${SET:+${SET}s}", "values"),
            ("$MONEY", "$SET"),
            ("${UNSET:-{}}", "{}"),
        ];
        for (text, expected) in table {
            assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_required_variable_that_is_missing_says_its_own_message() {
        assert_eq!(
            run("${UNSET:?set me to $SET}"),
            Err("the variable `UNSET` is required but not set or empty: set me to value".into())
        );
        assert!(run("${EMPTY:?}").is_err());
        assert!(run("${UNSET?}").is_err());
    }

    #[test]
    fn what_is_no_variable_is_refused_with_the_part_that_is_wrong() {
        for text in ["$1", "${", "${}", "${SET", "${SET!x}", "a $ b", "${SET:}", "$"] {
            assert!(run(text).is_err(), "{text}");
        }
        let deep = format!("{}{}", "${A:-".repeat(40), "}".repeat(40));
        assert!(run(&deep).is_err());
    }
}
