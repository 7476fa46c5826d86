//! The calls by name. Specs go in and come out as raw JSON, so nothing is ever dropped from one.

use std::path::Path;

use serde_json::Value;

use super::{Client, ClientError, Values, escape, filters};

/// The two kinds of object that only carry data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Config,
    Secret,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Config => "/configs",
            Self::Secret => "/secrets",
        }
    }
}

impl Client {
    /// Services with their `ServiceStatus`.
    pub async fn services(&self, wanted: &[(&str, &str)]) -> Result<Vec<Value>, ClientError> {
        self.list(&format!("/services?status=true&{}", filters(wanted))).await
    }

    /// By id, name or unique beginning of an id.
    pub async fn service(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&format!("/services/{}", escape(id))).await
    }

    /// The new service's id.
    pub async fn create_service(&self, spec: &Value) -> Result<String, ClientError> {
        self.create("/services/create", spec).await
    }

    /// `version` is the index that the spec was read with; `auth` as in [`Self::post_as`], and
    /// without one the nodes go on with that of the spec before.
    pub async fn update_service(
        &self,
        id: &str,
        version: u64,
        spec: &Value,
        auth: Option<&str>,
    ) -> Result<Value, ClientError> {
        let path = format!("/services/{}/update?version={version}", escape(id));
        self.post_as(&path, spec, auth).await
    }

    /// Back to an earlier spec with a release: our own engine then runs no job for it.
    pub async fn take_service_back(
        &self,
        id: &str,
        version: u64,
        spec: &Value,
    ) -> Result<Value, ClientError> {
        let path =
            format!("/services/{}/update?version={version}&evenkeel-taken-back=1", escape(id));
        self.post(&path, spec).await
    }

    /// Back to the previous spec, as `docker service rollback`.
    pub async fn rollback_service(
        &self,
        id: &str,
        version: u64,
        spec: &Value,
    ) -> Result<Value, ClientError> {
        let path = format!("/services/{}/update?version={version}&rollback=previous", escape(id));
        self.post(&path, spec).await
    }

    pub async fn remove_service(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/services/{}", escape(id))).await
    }

    pub async fn tasks(&self, wanted: &[(&str, &str)]) -> Result<Vec<Value>, ClientError> {
        self.list(&format!("/tasks?{}", filters(wanted))).await
    }

    pub async fn task(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&format!("/tasks/{}", escape(id))).await
    }

    pub async fn nodes(&self) -> Result<Vec<Value>, ClientError> {
        self.list("/nodes").await
    }

    pub async fn info(&self) -> Result<Value, ClientError> {
        self.get("/info").await
    }

    pub async fn version(&self) -> Result<Value, ClientError> {
        self.get("/version").await
    }

    pub async fn blobs(
        &self,
        kind: Kind,
        wanted: &[(&str, &str)],
    ) -> Result<Vec<Value>, ClientError> {
        self.list(&format!("{}?{}", kind.path(), filters(wanted))).await
    }

    pub async fn blob(&self, kind: Kind, id: &str) -> Result<Value, ClientError> {
        self.get(&format!("{}/{}", kind.path(), escape(id))).await
    }

    /// `spec` is `{"Name", "Labels", "Data" (base64)}`.
    pub async fn create_blob(&self, kind: Kind, spec: &Value) -> Result<String, ClientError> {
        self.create(&format!("{}/create", kind.path()), spec).await
    }

    /// Only labels may change.
    pub async fn update_blob(
        &self,
        kind: Kind,
        id: &str,
        version: u64,
        spec: &Value,
    ) -> Result<(), ClientError> {
        let path = format!("{}/{}/update?version={version}", kind.path(), escape(id));
        self.post(&path, spec).await.map(|_| ())
    }

    pub async fn remove_blob(&self, kind: Kind, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("{}/{}", kind.path(), escape(id))).await
    }

    pub async fn networks(&self, wanted: &[(&str, &str)]) -> Result<Vec<Value>, ClientError> {
        self.list(&format!("/networks?{}", filters(wanted))).await
    }

    pub async fn create_network(&self, body: &Value) -> Result<String, ClientError> {
        self.create("/networks/create", body).await
    }

    pub async fn remove_network(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/networks/{}", escape(id))).await
    }

    pub async fn images(&self) -> Result<Vec<Value>, ClientError> {
        self.list("/images/json").await
    }

    pub async fn image(&self, reference: &str) -> Result<Value, ClientError> {
        self.get(&format!("/images/{}/json", escape(reference))).await
    }

    /// Loads an image archive; the answer's lines (`Loaded image: a:1`).
    pub async fn load_image(&self, archive: &Path) -> Result<Vec<String>, ClientError> {
        let path = "/images/load?quiet=1";
        let answer = self.upload_file(path, archive).await?;
        let mut lines = Vec::new();
        // Errors may come inside a 200.
        for item in serde_json::Deserializer::from_slice(&answer).into_iter::<Value>() {
            let item = item.map_err(|error| ClientError::Protocol {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
            if let Some(error) = item.get("error").and_then(Value::as_str) {
                return Err(ClientError::Api {
                    status: http::StatusCode::BAD_REQUEST,
                    message: error.to_owned(),
                });
            }
            if let Some(line) = item.get("stream").and_then(Value::as_str) {
                lines.push(line.trim_end().to_owned());
            }
        }
        Ok(lines)
    }

    pub async fn remove_image(&self, reference: &str) -> Result<(), ClientError> {
        self.delete(&format!("/images/{}", escape(reference))).await
    }

    /// What happens, as it does.
    pub async fn events(&self, wanted: &[(&str, &str)]) -> Result<Values, ClientError> {
        Ok(Values::new(self.stream(&format!("/events?{}", filters(wanted))).await?))
    }

    async fn list(&self, path: &str) -> Result<Vec<Value>, ClientError> {
        match self.get(path).await? {
            Value::Array(list) => Ok(list),
            Value::Null => Ok(Vec::new()),
            _ => Err(ClientError::Protocol {
                path: path.to_owned(),
                reason: "not a list".to_owned(),
            }),
        }
    }

    async fn create(&self, path: &str, body: &Value) -> Result<String, ClientError> {
        let answer = self.post(path, body).await?;
        let id = answer.get("ID").or_else(|| answer.get("Id")).and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| ClientError::Protocol {
            path: path.to_owned(),
            reason: "no id in it".to_owned(),
        })
    }
}
