//! What the pieces come to for one task.

use std::{cell::Cell, collections::BTreeMap};

use dockerapi::spec::Reference;

use super::{
    Context, LIMIT_BYTES, Payload, Wrong,
    parse::{Expr, Piece},
};

#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Text(String),
    Number(i64),
    Bool(bool),
    Map(&'a BTreeMap<String, String>),
    /// A part of the context by its path, with more below.
    Part(&'static str),
}

impl Value<'_> {
    /// As Go's `if` sees it.
    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Number(number) => *number != 0,
            Self::Bool(is_true) => *is_true,
            Self::Map(map) => !map.is_empty(),
            Self::Part(_) => true,
        }
    }

    fn show(&self) -> Result<String, String> {
        Ok(match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Bool(is_true) => is_true.to_string(),
            Self::Map(map) => {
                let entries: Vec<String> =
                    map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("map[{}]", entries.join(" "))
            }
            Self::Part(path) => return Err(format!("{path} is no text: name one of its fields")),
        })
    }
}

/// Bytes that may still be made, on the way to a text as well.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(LIMIT_BYTES))
    }

    fn spend(&self, bytes: usize) -> Result<(), String> {
        let left = self.0.get().checked_sub(bytes);
        let left = left.ok_or_else(|| format!("it comes to more than {LIMIT_BYTES} bytes"))?;
        self.0.set(left);
        Ok(())
    }
}

pub(super) fn evaluate(
    pieces: &[Piece],
    context: &Context<'_>,
    payload: Option<&Payload<'_>>,
    budget: &Budget,
) -> Result<String, Wrong> {
    let mut out = String::new();
    Run { context, payload, budget }.pieces(pieces, &mut out)?;
    Ok(out)
}

struct Run<'a> {
    context: &'a Context<'a>,
    payload: Option<&'a Payload<'a>>,
    budget: &'a Budget,
}

impl<'a> Run<'a> {
    fn pieces(&self, pieces: &[Piece], out: &mut String) -> Result<(), Wrong> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Show(line, expr) => {
                    let shown = self.value(expr).and_then(|value| self.show(&value));
                    out.push_str(&shown.map_err(|what| Wrong { line: *line, what })?);
                }
                Piece::If(line, test, then, other) => {
                    let test = self.value(test).map_err(|what| Wrong { line: *line, what })?;
                    self.pieces(if test.is_true() { then } else { other }, out)?;
                }
            }
        }
        Ok(())
    }

    fn show(&self, value: &Value<'_>) -> Result<String, String> {
        let shown = value.show()?;
        self.budget.spend(shown.len())?;
        Ok(shown)
    }

    fn value(&self, expr: &Expr) -> Result<Value<'a>, String> {
        let value = self.value_of(expr)?;
        if let Value::Text(text) = &value {
            self.budget.spend(text.len())?;
        }
        Ok(value)
    }

    fn value_of(&self, expr: &Expr) -> Result<Value<'a>, String> {
        match expr {
            Expr::Text(text) => Ok(Value::Text(text.clone())),
            Expr::Number(number) => Ok(Value::Number(*number)),
            Expr::Bool(is_true) => Ok(Value::Bool(*is_true)),
            Expr::Field(base, names) => {
                let base = match base {
                    Some(base) => self.value(base)?,
                    None => Value::Part("."),
                };
                names.iter().try_fold(base, |value, name| self.field(&value, name))
            }
            Expr::Call(name, arguments) => self.call(name, arguments),
        }
    }

    fn field(&self, of: &Value<'a>, name: &str) -> Result<Value<'a>, String> {
        let context = self.context;
        let text = |text: &str| Ok(Value::Text(text.to_owned()));
        match (of, name) {
            (Value::Part("."), "Service") => Ok(Value::Part(".Service")),
            (Value::Part("."), "Node") => Ok(Value::Part(".Node")),
            (Value::Part("."), "Task") => Ok(Value::Part(".Task")),
            (Value::Part(".Service"), "ID") => text(context.service_id),
            (Value::Part(".Service"), "Name") => text(context.service_name),
            (Value::Part(".Service"), "Labels") => Ok(Value::Map(&context.service_labels)),
            (Value::Part(".Node"), "ID") => text(context.node_id),
            (Value::Part(".Node"), "Hostname") => text(context.node_hostname),
            (Value::Part(".Node"), "Platform") => Ok(Value::Part(".Node.Platform")),
            (Value::Part(".Node.Platform"), "OS") => text("linux"),
            (Value::Part(".Node.Platform"), "Architecture") => text(std::env::consts::ARCH),
            (Value::Part(".Task"), "ID") => text(context.task_id),
            (Value::Part(".Task"), "Name") => text(context.task_name),
            (Value::Part(".Task"), "Slot") => text(&context.task_slot),
            (Value::Map(map), key) => match map.get(key) {
                Some(value) => text(value),
                None => Err(format!("map has no entry for key {key:?}")),
            },
            (_, name) => Err(format!("can't evaluate field {name}")),
        }
    }

    fn call(&self, name: &str, arguments: &[Expr]) -> Result<Value<'a>, String> {
        // These two look at no more than they need.
        if matches!(name, "and" | "or") {
            let mut last = Value::Bool(false);
            for argument in arguments {
                last = self.value(argument)?;
                if last.is_true() == (name == "or") {
                    break;
                }
            }
            return Ok(last);
        }
        let values: Result<Vec<_>, _> =
            arguments.iter().map(|argument| self.value(argument)).collect();
        let values = values?;
        let texts = || values.iter().map(|value| self.show(value)).collect::<Result<Vec<_>, _>>();
        match name {
            "index" => index(&values),
            "join" => {
                let texts = texts()?;
                let (separator, parts) = texts.split_first().ok_or("join needs a separator")?;
                self.budget.spend(separator.len().saturating_mul(parts.len()))?;
                Ok(Value::Text(parts.join(separator)))
            }
            "print" => Ok(Value::Text(texts()?.concat())),
            "eq" => Ok(Value::Bool(values[1..].contains(&values[0]))),
            "ne" => Ok(Value::Bool(values[0] != values[1])),
            "not" => Ok(Value::Bool(!values[0].is_true())),
            "env" | "secret" | "config" => {
                let asked = texts()?;
                let payload = self.payload.ok_or_else(|| {
                    format!("function {name:?} not defined: it is for configs and secrets")
                })?;
                payload.find(name, asked.first().map_or("", String::as_str)).map(Value::Text)
            }
            other => Err(format!("function {other:?} not defined")),
        }
    }
}

/// A missing key is an empty text here, unlike with a field.
fn index<'a>(values: &[Value<'a>]) -> Result<Value<'a>, String> {
    match values {
        [Value::Map(map), Value::Text(key)] => {
            Ok(Value::Text(map.get(key).cloned().unwrap_or_default()))
        }
        [Value::Map(_), ..] => Err("index of labels needs one text".to_owned()),
        [one] => Ok(one.clone()),
        _ => Err("can't index item of this type".to_owned()),
    }
}

impl Payload<'_> {
    fn find(&self, kind: &str, name: &str) -> Result<String, String> {
        match kind {
            "env" => {
                let value = |entry: &String| {
                    let (key, value) = entry.split_once('=')?;
                    (key == name).then(|| value.to_owned())
                };
                Ok(self.spec.env.iter().find_map(value).unwrap_or_default())
            }
            "secret" => self.content(kind, name, &self.spec.secrets),
            _ => self.content(kind, name, &self.spec.configs),
        }
    }

    fn content(&self, kind: &str, name: &str, all: &[Reference]) -> Result<String, String> {
        let found = all.iter().find(|reference| reference.file.name == name);
        let bytes = found.and_then(|reference| self.files.get(reference.id()));
        let bytes = bytes.ok_or_else(|| format!("{kind} target {name} not found"))?;
        String::from_utf8(bytes.clone()).map_err(|_| format!("{kind} {name} is not text in UTF-8"))
    }
}
