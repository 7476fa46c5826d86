//! From a text to its pieces: what stands there, what is put in, and what depends on a condition.

use super::Wrong;

/// Parentheses and conditions within each other, and pipes one after the other.
const DEPTH: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Show(usize, Expr),
    /// Line, condition, what then, what else.
    If(usize, Expr, Vec<Piece>, Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Text(String),
    Number(i64),
    Bool(bool),
    /// `.Service.Name`, or `.X` of what an expression in parentheses gives.
    Field(Option<Box<Expr>>, Vec<String>),
    Call(String, Vec<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    Number(i64),
    Word(String),
    /// With its dot taken off; empty for a dot alone.
    Field(String),
    Open,
    Close,
    Pipe,
}

/// One `{{…}}`, or the text between two.
#[derive(Debug)]
enum Part {
    Text(String),
    Action(usize, Vec<Token>),
}

pub(super) fn parse(text: &str) -> Result<Vec<Piece>, Wrong> {
    let parts = split(text)?;
    let mut parts = parts.into_iter().peekable();
    let (pieces, end) = block(&mut parts, 0)?;
    match end {
        None => Ok(pieces),
        Some((line, tokens)) => {
            let what = if tokens.len() == 1 { "{{end}}" } else { "{{else}}" };
            Err(Wrong { line, what: format!("unexpected {what}") })
        }
    }
}

type Parts = std::iter::Peekable<std::vec::IntoIter<Part>>;
/// `{{end}}` or `{{else …}}` that ended a block.
type End = Option<(usize, Vec<Token>)>;

fn word(tokens: &[Token]) -> Option<&str> {
    match tokens.first() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

fn block(parts: &mut Parts, depth: usize) -> Result<(Vec<Piece>, End), Wrong> {
    let mut pieces = Vec::new();
    while let Some(part) = parts.next() {
        let (line, tokens) = match part {
            Part::Text(text) => {
                pieces.push(Piece::Text(text));
                continue;
            }
            Part::Action(line, tokens) => (line, tokens),
        };
        if depth > DEPTH {
            return Err(Wrong { line, what: "too many conditions in each other".to_owned() });
        }
        match word(&tokens) {
            Some("if") => pieces.push(condition(line, &tokens[1..], parts, depth)?),
            Some("end" | "else") => return Ok((pieces, Some((line, tokens)))),
            _ => pieces.push(Piece::Show(line, pipeline(line, &tokens)?)),
        }
    }
    Ok((pieces, None))
}

fn condition(
    line: usize,
    tokens: &[Token],
    parts: &mut Parts,
    depth: usize,
) -> Result<Piece, Wrong> {
    let wrong = |what: &str| Wrong { line, what: what.to_owned() };
    let test = pipeline(line, tokens)?;
    let (then, end) = block(parts, depth + 1)?;
    let (at, end) = end.ok_or_else(|| wrong("{{if}} without {{end}}"))?;
    if word(&end) == Some("end") {
        return match end.len() {
            1 => Ok(Piece::If(line, test, then, Vec::new())),
            _ => Err(wrong("unexpected words in {{end}}")),
        };
    }
    if word(&end[1..]) == Some("if") {
        let other = condition(at, &end[2..], parts, depth + 1)?;
        return Ok(Piece::If(line, test, then, vec![other]));
    }
    let (other, end) = block(parts, depth + 1)?;
    match end {
        Some((_, end)) if word(&end) == Some("end") => Ok(Piece::If(line, test, then, other)),
        _ => Err(wrong("{{else}} without {{end}}")),
    }
}

/// `a | f x` is `f x a`.
fn pipeline(line: usize, tokens: &[Token]) -> Result<Expr, Wrong> {
    let mut reader = Reader { line, tokens, at: 0 };
    let whole = reader.pipeline(0)?;
    match reader.tokens.get(reader.at) {
        None => Ok(whole),
        Some(_) => Err(reader.wrong("unexpected right paren")),
    }
}

struct Reader<'a> {
    line: usize,
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.line, what: what.into() }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Expr, Wrong> {
        if depth > DEPTH {
            return Err(self.wrong("too many parentheses in each other"));
        }
        let mut value = self.command(None, depth)?;
        let mut pipes = 0;
        while self.tokens.get(self.at) == Some(&Token::Pipe) {
            self.at += 1;
            pipes += 1;
            if pipes > DEPTH {
                return Err(self.wrong("too many pipes"));
            }
            value = self.command(Some(value), depth)?;
        }
        Ok(value)
    }

    /// One value, or a function with its arguments; `last` comes out of the pipe.
    fn command(&mut self, last: Option<Expr>, depth: usize) -> Result<Expr, Wrong> {
        let name = match self.tokens.get(self.at) {
            Some(Token::Word(name)) if !matches!(name.as_str(), "true" | "false") => name.clone(),
            Some(Token::Pipe | Token::Close) | None => {
                return Err(self.wrong("missing value for command"));
            }
            Some(_) => {
                let value = self.operand(depth)?;
                let is_alone =
                    matches!(self.tokens.get(self.at), None | Some(Token::Pipe | Token::Close));
                if last.is_some() || !is_alone {
                    return Err(self.wrong("a value is not a function: it takes no arguments"));
                }
                return Ok(value);
            }
        };
        self.at += 1;
        let mut arguments = Vec::new();
        while !matches!(self.tokens.get(self.at), None | Some(Token::Pipe | Token::Close)) {
            arguments.push(self.operand(depth)?);
        }
        arguments.extend(last);
        call(name, arguments).map_err(|what| self.wrong(what))
    }

    fn operand(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        let value = match token {
            Some(Token::Text(text)) => Expr::Text(text),
            Some(Token::Number(number)) => Expr::Number(number),
            Some(Token::Field(name)) => return Ok(Expr::Field(None, self.fields(name))),
            Some(Token::Word(word)) if word == "true" => Expr::Bool(true),
            Some(Token::Word(word)) if word == "false" => Expr::Bool(false),
            // A function without arguments.
            Some(Token::Word(word)) => call(word, Vec::new()).map_err(|what| self.wrong(what))?,
            Some(Token::Open) => {
                let inner = self.pipeline(depth + 1)?;
                if self.tokens.get(self.at) != Some(&Token::Close) {
                    return Err(self.wrong("unclosed left paren"));
                }
                self.at += 1;
                match self.tokens.get(self.at).cloned() {
                    Some(Token::Field(name)) if name.starts_with('\u{0}') => {
                        self.at += 1;
                        let fields = self.fields(name);
                        return Ok(Expr::Field(Some(Box::new(inner)), fields));
                    }
                    _ => return Ok(inner),
                }
            }
            Some(Token::Close | Token::Pipe) | None => {
                return Err(self.wrong("missing value for command"));
            }
        };
        Ok(value)
    }

    /// The names of a chain of fields. Those that follow without a space carry a mark.
    fn fields(&mut self, first: String) -> Vec<String> {
        let mut names = vec![first.trim_start_matches('\u{0}').to_owned()];
        while let Some(Token::Field(name)) = self.tokens.get(self.at)
            && let Some(name) = name.strip_prefix('\u{0}')
        {
            names.push(name.to_owned());
            self.at += 1;
        }
        names.retain(|name| !name.is_empty());
        names
    }
}

/// Functions and how many arguments they take at least.
const FUNCTIONS: [(&str, usize); 11] = [
    ("index", 1),
    ("join", 1),
    ("print", 0),
    ("eq", 2),
    ("ne", 2),
    ("and", 1),
    ("or", 1),
    ("not", 1),
    ("env", 1),
    ("secret", 1),
    ("config", 1),
];

fn call(name: String, arguments: Vec<Expr>) -> Result<Expr, String> {
    match FUNCTIONS.iter().find(|(known, _)| *known == name) {
        Some((_, least)) if arguments.len() >= *least => Ok(Expr::Call(name, arguments)),
        Some(_) => Err(format!("wrong number of args for {name}: {}", arguments.len())),
        None if matches!(name.as_str(), "range" | "with" | "define" | "template" | "block") => {
            Err(format!("{{{{{name}}}}} is not supported"))
        }
        None => Err(format!("function {name:?} not defined")),
    }
}

/// The text between actions, with the white space that `{{-` and `-}}` take away, and the actions.
fn split(text: &str) -> Result<Vec<Part>, Wrong> {
    let mut parts = Vec::new();
    let (mut at, mut trims) = (0, false);
    let (mut line, mut counted) = (1, 0);
    while let Some(start) = text[at..].find("{{").map(|found| at + found) {
        let inside = &text[start + 2..];
        let before = &text[at..start];
        let before = if trims { before.trim_start() } else { before };
        let trims_left =
            inside.strip_prefix('-').is_some_and(|rest| rest.starts_with(char::is_whitespace));
        let before = if trims_left { before.trim_end() } else { before };
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        line += text[counted..start].matches('\n').count();
        counted = start;
        let mut lexer = Lexer { text, at: start + 2 + usize::from(trims_left), line };
        if let Some(tokens) = lexer.action()? {
            parts.push(Part::Action(line, tokens));
        }
        trims = lexer.trims();
        at = lexer.at;
    }
    let rest = if trims { text[at..].trim_start() } else { &text[at..] };
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.line, what: what.into() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Whether the action that just ended takes the white space after it away.
    fn trims(&self) -> bool {
        let inside = self.text[..self.at].strip_suffix("-}}");
        inside.is_some_and(|inside| inside.ends_with(char::is_whitespace))
    }

    /// The tokens up to and beyond `}}`; none for a comment.
    fn action(&mut self) -> Result<Option<Vec<Token>>, Wrong> {
        let mut tokens = Vec::new();
        let mut is_comment = false;
        loop {
            let before = self.rest().len();
            let rest = self.rest().trim_start();
            let is_apart = rest.len() < before;
            self.at = self.text.len() - rest.len();
            let end = if is_apart && rest.starts_with("-}}") { 3 } else { 2 };
            if end == 3 || self.rest().starts_with("}}") {
                self.at += end;
                return match (tokens.is_empty(), is_comment) {
                    (true, true) => Ok(None),
                    (true, false) => Err(self.wrong("missing value for command")),
                    (false, _) => Ok(Some(tokens)),
                };
            }
            if let Some(comment) = self.rest().strip_prefix("/*").filter(|_| tokens.is_empty()) {
                let length = comment.find("*/").ok_or_else(|| self.wrong("unclosed comment"))?;
                self.at += length + 4;
                is_comment = true;
                continue;
            }
            let is_joined = !is_apart && !tokens.is_empty();
            let token = self.token(is_joined)?;
            tokens.push(token);
        }
    }

    fn token(&mut self, is_joined: bool) -> Result<Token, Wrong> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Err(self.wrong("unclosed action")) };
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let word_length = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            '"' => self.quoted()?,
            '`' => {
                let length =
                    rest[1..].find('`').ok_or_else(|| self.wrong("unterminated raw string"))?;
                (Token::Text(rest[1..=length].to_owned()), length + 2)
            }
            '.' => {
                let length = word_length(&rest[1..]);
                let mark = if is_joined { "\u{0}" } else { "" };
                (Token::Field(format!("{mark}{}", &rest[1..=length])), length + 1)
            }
            '-' | '0'..='9' => {
                let length = 1 + word_length(&rest[1..]);
                let number = rest[..length].parse();
                let number =
                    number.map_err(|_| self.wrong(format!("bad number {:?}", &rest[..length])))?;
                (Token::Number(number), length)
            }
            _ if is_name(first) => {
                let length = word_length(rest);
                (Token::Word(rest[..length].to_owned()), length)
            }
            other => return Err(self.wrong(format!("unexpected {other:?} in action"))),
        };
        self.at += length;
        Ok(token)
    }

    fn quoted(&self) -> Result<(Token, usize), Wrong> {
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((Token::Text(value), at + 1)),
                '\n' => break,
                '\\' => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, same @ ('"' | '\\'))) => same,
                    _ => return Err(self.wrong("unknown escape in a quoted string")),
                }),
                other => value.push(other),
            }
        }
        Err(self.wrong("unterminated quoted string"))
    }
}
