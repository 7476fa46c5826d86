//! Which names and values look like secrets, and how they are shown.

use std::ops::Range;

/// Shown instead of a value that must not be seen.
pub const HIDDEN: &str = "(hidden)";

const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "key", "credential", "private", "pwd"];

/// Whether a variable of this name probably holds a secret: `DB_PASSWORD`, `jwtSecret`, `API_KEY`.
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// The value without the password of a URL such as `postgres://ala:pw@db/ala`.
pub fn without_url_password(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(|c: char| c == '/' || c == '?' || c.is_whitespace());
        let (authority, after) = tail.split_at(end.unwrap_or(tail.len()));
        match authority.rsplit_once('@') {
            Some((login, host)) => {
                let user = login.split_once(':').map(|(user, _)| user);
                out.push_str(user.unwrap_or(login));
                if user.is_some() {
                    out.push(':');
                    out.push_str(HIDDEN);
                }
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The value of the variable `name`, fit to be shown.
pub fn shown_value(name: &str, value: &str) -> String {
    if is_secret_name(name) && !value.is_empty() {
        return HIDDEN.to_string();
    }
    without_url_password(value)
}

/// The few lines around a finding, with values of secret-looking keys starred out.
pub(crate) struct Shown {
    pub text: String,
    pub first_line: usize,
    pub bytes: Range<usize>,
}

/// Cuts the lines that `bytes` touches (one line when the finding is long) out of `source`.
pub(crate) fn source_around(source: &str, bytes: &Range<usize>) -> Shown {
    let start = floor_boundary(source, bytes.start);
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
    let line = source[line_start..line_end].trim_end_matches('\r');
    let last = line_start + line.len();
    let start = start.min(last);
    let end = floor_boundary(source, bytes.end).clamp(start, last);
    Shown {
        text: starred(line),
        first_line: source[..line_start].matches('\n').count() + 1,
        bytes: start - line_start..end - line_start,
    }
}

fn floor_boundary(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Replaces the value in `NAME: value` or `NAME=value` by stars, byte for byte, when NAME looks
/// secret and the value is not a `${…}` reference.
fn starred(line: &str) -> String {
    let Some(at) = line.find([':', '=']) else { return line.to_string() };
    let (name, value) = (line[..at].trim_matches([' ', '-', '"', '\'', '\t']), &line[at + 1..]);
    let bare = value.trim_matches([' ', '"', '\'', '\t']);
    if !is_secret_name(name) || bare.is_empty() || bare.starts_with(['$', '{', '[', '*', '&', '<'])
    {
        return line.to_string();
    }
    let from = at + 1 + (value.len() - value.trim_start().len());
    let stars = "*".repeat(line.len() - from);
    format!("{}{stars}", &line[..from])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised_in_any_case() {
        for name in ["DB_PASSWORD", "jwtSecret", "API_KEY", "GITHUB_TOKEN", "PGPASSWD"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PORT", "LOG_LEVEL", "DATABASE_URL"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_password_inside_a_url_is_hidden_and_the_rest_is_kept() {
        assert_eq!(
            without_url_password("postgres://ala:p@ss@db:5432/ala?x=1 http://a/b"),
            "postgres://ala:(hidden)@db:5432/ala?x=1 http://a/b"
        );
        assert_eq!(without_url_password("plain"), "plain");
    }

    #[test]
    fn an_excerpt_stars_out_the_value_of_a_secret_looking_key() {
        let shown = source_around("a: 1\n  DB_PASSWORD: hunter2\n", &(7..10));
        assert_eq!(shown.text, "  DB_PASSWORD: *******");
        assert_eq!(shown.first_line, 2);
        assert_eq!(source_around("X_TOKEN: ${T}", &(0..1)).text, "X_TOKEN: ${T}");
    }
}
