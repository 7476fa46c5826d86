//! Paths and queries, escaped.

use serde_json::{Map, Value};

/// Escapes a value for a path segment or a query.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A `filters=` query from key and value.
pub fn filters(pairs: &[(&str, &str)]) -> String {
    let mut map = Map::new();
    for (key, value) in pairs {
        let values = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        values[*value] = Value::Bool(true);
    }
    format!("filters={}", escape(&Value::Object(map).to_string()))
}

/// What leads, before Docker's own paths, to the Docker of another node: by way of our daemons.
pub fn of_node(id: &str) -> String {
    format!("/evenkeel/v1/nodes/{}/docker", escape(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(escape("ala_api:v1/ä"), "ala_api%3Av1%2F%C3%A4");
        let query = filters(&[("label", "a=b"), ("label", "c")]);
        assert_eq!(query, format!("filters={}", escape(r#"{"label":{"a=b":true,"c":true}}"#)));
    }
}
