//! What a registry asks for in `WWW-Authenticate` (RFC 9110, 11.6.1). Pure.

use std::collections::BTreeMap;

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// A token from the service at `realm`.
    Bearer {
        realm: String,
        service: String,
        scope: String,
    },
}

/// The challenges of a header that we can meet.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let scheme = rest[..end].to_ascii_lowercase();
        let (parameters, after) = parameters(&rest[end..]);
        let get = |key: &str| parameters.get(key).cloned().unwrap_or_default();
        match scheme.as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" if parameters.contains_key("realm") => found.push(Challenge::Bearer {
                realm: get("realm"),
                service: get("service"),
                scope: get("scope"),
            }),
            _ => {}
        }
        rest = after;
    }
    found
}

/// `key=value, key="va\"lue"` up to the next scheme.
fn parameters(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(['=', ' ', ',']).unwrap_or(rest.len());
        let is_parameter = rest[end..].starts_with('=') && end > 0;
        if !is_parameter {
            return (found, rest.trim_start_matches('='));
        }
        let key = rest[..end].to_ascii_lowercase();
        let (value, after) = value(&rest[end + 1..]);
        found.insert(key, value);
        rest = after;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_one_after_the_other() {
        let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            scope: scope.to_owned(),
        };
        let header =
            r#"Bearer realm="https://a.example/t?x=1",service="r",scope="repository:a:pull,push""#;
        let wanted = bearer("https://a.example/t?x=1", "r", "repository:a:pull,push");
        assert_eq!(parse(header), [wanted]);
        let both = r#"Digest nonce="x", Basic realm="a, b", bearer realm=b"#;
        assert_eq!(parse(both), [Challenge::Basic, bearer("b", "", "")]);
        assert_eq!(parse(r#"Bearer realm="a\"b"#), [bearer("a\"b", "", "")]);
        for nothing in ["", "Bearer", "===", ",,,", "Bearer service=x", "\"\"\"", "= = ="] {
            assert_eq!(parse(nothing), [], "{nothing}");
        }
    }
}
