//! A command written as one string, split into words as a shell would, without running one.

/// The words of `text`.
///
/// # Errors
/// A quote that is never closed.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => word.get_or_insert_default().push_str(&single_quoted(&mut chars)?),
            '"' => word.get_or_insert_default().push_str(&double_quoted(&mut chars)?),
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(chars: &mut std::str::Chars<'_>) -> Result<String, String> {
    let mut out = String::new();
    for c in chars {
        if c == '\'' {
            return Ok(out);
        }
        out.push(c);
    }
    Err("a single quote is never closed".to_string())
}

fn double_quoted(chars: &mut std::str::Chars<'_>) -> Result<String, String> {
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(out),
            '\\' => match chars.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => out.push(next),
                Some('\n') => {}
                Some(next) => out.extend(['\\', next]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a double quote is never closed".to_string())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_command_line_splits_like_in_a_shell() {
        let words = |text: &str| split(text).unwrap();
        assert_eq!(words("  /app  --flag=1 "), ["/app", "--flag=1"]);
        assert_eq!(
            words(r#"sh -c 'a "b" $c' "d\"e" f\ g"#),
            ["sh", "-c", "a \"b\" $c", "d\"e", "f g"]
        );
        assert_eq!(words("a '' b"), ["a", "", "b"]);
        assert!(words("").is_empty());
        assert!(split("a 'b").is_err());
        assert!(split("a \"b").is_err());
    }
}
