//! Configs and secrets: their names, create bodies and the references to them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Scope;
use crate::model::{Content, Grant};

/// The engine's name of a config or secret: its own `name:` if it has one, else
/// `<namespace>_<key>-<first 8 hex digits of the content's SHA-256>`.
///
/// Docker's configs and secrets cannot be changed. With the content in the name, changed content
/// is a new object that the service's new tasks use, while the old tasks keep the old one.
pub fn object_name(scope: &Scope<'_>, key: &str, content: &Content) -> String {
    match (&content.name, content.external) {
        (Some(name), _) => name.clone(),
        (None, true) => key.to_string(),
        (None, false) => {
            let mut hash = Sha256::new();
            hash.update(&content.payload.0);
            if let Some(driver) = &content.template_driver {
                hash.update([0]);
                hash.update(driver);
            }
            let digest = hash.finalize();
            let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("{}-{hex}", scope.name(key))
        }
    }
}

/// Create bodies of the objects that are the stack's own.
pub fn create_bodies(scope: &Scope<'_>, contents: &BTreeMap<String, Content>) -> Vec<Value> {
    let own = contents.iter().filter(|(_, content)| !content.external);
    own.map(|(key, content)| {
        let mut body = json!({
            "Name": object_name(scope, key, content),
            "Labels": scope.labels(&content.labels),
            "Data": STANDARD.encode(&content.payload.0),
        });
        if let Some(driver) = &content.template_driver {
            body["Templating"] = json!({"Name": driver});
        }
        body
    })
    .collect()
}

/// References of a service, sorted by the object's name; `name_key` is `ConfigName` or
/// `SecretName`. The id is left to whoever creates the objects.
pub fn references(
    scope: &Scope<'_>,
    grants: &[Grant],
    contents: &BTreeMap<String, Content>,
    name_key: &str,
) -> Vec<Value> {
    let mut references: Vec<(String, Value)> = grants
        .iter()
        .filter_map(|grant| {
            let content = contents.get(&grant.source)?;
            let name = object_name(scope, &grant.source, content);
            let value = json!({
                "File": {
                    "Name": grant.target.as_ref().unwrap_or(&grant.source),
                    "UID": grant.uid,
                    "GID": grant.gid,
                    "Mode": grant.mode,
                },
                name_key: name,
            });
            Some((name, value))
        })
        .collect();
    references.sort_by(|a, b| a.0.cmp(&b.0));
    references.into_iter().map(|(_, value)| value).collect()
}
