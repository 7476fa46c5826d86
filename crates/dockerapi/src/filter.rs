//! The `filters` query: `{"label":{"a=b":true}}` (docker CLI) and `{"label":["a=b"]}` (others).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::ApiError;

/// Parsed filters: key → wanted values, any of which may match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Parses the query's value; `known` are the keys that this endpoint has.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let wrong = |reason: &str| ApiError::bad_parameter(format!("invalid filters: {reason}"));
        let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) else {
            return Err(wrong("not a JSON object"));
        };
        let mut filters = BTreeMap::new();
        for (key, values) in map {
            if !known.contains(&key.as_str()) {
                return Err(ApiError::bad_parameter(format!("invalid filter '{key}'")));
            }
            let values = match values {
                Value::Object(map) => map
                    .into_iter()
                    .filter(|(_, is_set)| is_set != &Value::Bool(false))
                    .map(|(value, _)| value)
                    .collect(),
                Value::Array(list) => {
                    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
                }
                _ => return Err(wrong("values must be an object or a list")),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    /// The wanted values of a key; none when it was not given.
    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// True when the key was not given, or `is` holds for one of its values.
    pub fn any(&self, key: &str, is: impl Fn(&str) -> bool) -> bool {
        self.get(key).is_none_or(|values| values.iter().any(|value| is(value)))
    }

    /// True when every wanted label (`k` or `k=v`) is there.
    pub fn labels(&self, labels: &Value) -> bool {
        self.get("label").is_none_or(|wanted| {
            wanted.iter().all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).and_then(Value::as_str) == Some(value),
                None => labels.get(wanted).is_some(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let cli = Filters::parse(Some(r#"{"name":{"a":true}}"#), &["name"]);
        let old = Filters::parse(Some(r#"{"name":["a"]}"#), &["name"]);
        assert_eq!(cli, old);
        assert!(cli.expect("parses").any("name", |name| name == "a"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Filters::parse(Some(r#"{"bogus":{"x":true}}"#), &["name"]).expect_err("fails");
        assert_eq!(error.message, "invalid filter 'bogus'");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(Filters::parse(Some("zzz"), &[]).is_err());
    }
}
