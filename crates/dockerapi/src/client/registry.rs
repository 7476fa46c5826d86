//! What the engine does with a registry on behalf of somebody: `auth` is the value of
//! `X-Registry-Auth`, and is never shown.

use http::Method;
use serde_json::Value;

use super::{CALL, Client, ClientError, Streamed, Values, escape, wire};

impl Client {
    /// The digest that a registry has for an image.
    pub async fn registry_digest(&self, image: &str, auth: &str) -> Result<String, ClientError> {
        let path = format!("/distribution/{}/json", escape(image));
        let body = wire::nothing().by(auth);
        let (_, answer) = self.whole(Method::GET, &path, body, CALL).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let digest = answer.pointer("/Descriptor/digest").and_then(Value::as_str);
        digest.map(str::to_owned).ok_or_else(|| ClientError::Protocol {
            path,
            reason: "no digest in the answer".to_owned(),
        })
    }

    /// Sends an image to the registry that its name says; what comes is its progress.
    pub async fn push(
        &self,
        repository: &str,
        tag: &str,
        auth: &str,
    ) -> Result<Values, ClientError> {
        let path = format!("/images/{}/push?tag={}", escape(repository), escape(tag));
        let body = wire::nothing().by(auth);
        let (_, body, _) = self.head(Method::POST, &path, body, CALL).await?;
        Ok(Values::new(Streamed::new(&path, body)))
    }

    /// As [`Self::post`], for a service whose image may need a login.
    pub async fn post_as(
        &self,
        path: &str,
        body: &Value,
        auth: Option<&str>,
    ) -> Result<Value, ClientError> {
        let Some(auth) = auth else { return self.post(path, body).await };
        let (_, answer) = self.whole(Method::POST, path, wire::json(body).by(auth), CALL).await?;
        serde_json::from_slice(&answer).map_err(|error| ClientError::Protocol {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}
