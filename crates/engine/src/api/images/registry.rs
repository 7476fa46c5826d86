//! Images and registries: `docker pull`, `docker push`, `docker login`, and what a registry has
//! under a name.

use dockerapi::ApiError;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Answer, Api, Call};
use crate::{
    api::{json as respond, stream},
    image::{manifest, name::Name},
    registry::{Credential, Error, Teller},
};

/// Lines of progress that may wait for the client.
const QUEUE: usize = 64;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Name(_) => Self::bad_parameter(text),
            Error::NoHub { .. } | Error::Missing { .. } | Error::Denied { .. } => {
                Self::not_found(text)
            }
            Error::Login(_) => Self { status: StatusCode::UNAUTHORIZED, message: text },
            Error::Image(error) => error.into(),
            Error::Connect { .. }
            | Error::Stalled { .. }
            | Error::Cut { .. }
            | Error::Tls(_)
            | Error::Answer { .. }
            | Error::Lies { .. }
            | Error::TooLarge { .. }
            | Error::Settings { .. }
            | Error::Deadline(_) => Self::internal(text),
        }
    }
}

/// Who the caller is to the registry.
pub(in crate::api) fn credential(call: &Call) -> Result<Credential, ApiError> {
    let header = call.headers.get("x-registry-auth");
    let header = header.map_or("", |header| header.to_str().unwrap_or("?"));
    Credential::decode(header).map_err(ApiError::bad_parameter)
}

fn parse(text: &str) -> Result<Name, ApiError> {
    Name::parse(text).map_err(|error| ApiError::bad_parameter(error.to_string()))
}

impl Api {
    /// `POST /images/create?fromImage=…&tag=…`
    pub(in crate::api) async fn pull_image(&self, call: Call) -> Answer {
        let (from, tag) = (call.get("fromImage").unwrap_or(""), call.get("tag").unwrap_or(""));
        let whole = match tag {
            "" => from.to_owned(),
            digest if digest.contains(':') => format!("{from}@{digest}"),
            tag => format!("{from}:{tag}"),
        };
        let name = parse(&whole)?;
        if name.tag.is_none() && name.digest.is_none() {
            return Err(ApiError::not_supported(format!(
                "the embedded engine pulls one tag at a time; name it: {name}"
            )));
        }
        let platform = call.get("platform").unwrap_or("");
        let own = format!("linux/{}", manifest::architecture());
        if !platform.is_empty() && platform != own && platform != "linux" {
            return Err(ApiError::not_supported(format!(
                "the embedded engine runs images of this machine ({own}), not of {platform}"
            )));
        }
        let credential = credential(&call)?;
        let api = self.clone();
        self.tell_progress(|lines| async move {
            api.registry.pull(&name, &credential, &Teller::new(lines)).await?;
            api.tell("pull", &name.to_string()).await;
            Ok(())
        })
        .await
    }

    /// `POST /images/NAME/push?tag=…`; all tags of the repository when none is named.
    pub(in crate::api) async fn push_image(&self, name: &str, call: Call) -> Answer {
        let asked = match call.get("tag").filter(|tag| !tag.is_empty()) {
            Some(tag) => parse(&format!("{name}:{tag}"))?,
            None => parse(name)?,
        };
        let names = match &asked.tag {
            Some(_) => {
                self.images.get(&asked.to_string())?;
                vec![asked.clone()]
            }
            None => {
                let all = self.images.list().into_iter().flat_map(|(_, names)| names);
                let all = all.filter_map(|name| Name::parse(&name).ok());
                all.filter(|name| name.repository() == asked.repository()).collect()
            }
        };
        if names.is_empty() {
            let repository = asked.repository();
            let text = format!("An image does not exist locally with the tag: {repository}");
            return Err(ApiError::not_found(text));
        }
        let credential = credential(&call)?;
        let api = self.clone();
        self.tell_progress(|lines| async move {
            let teller = Teller::new(lines);
            for name in &names {
                api.registry.push(name, &credential, &teller).await?;
                api.tell("push", &name.to_string()).await;
            }
            Ok(())
        })
        .await
    }

    /// `GET /distribution/NAME/json`
    pub(in crate::api) async fn look_up_image(&self, name: &str, call: &Call) -> Answer {
        let (name, credential) = (parse(name)?, credential(call)?);
        Ok(respond(&self.registry.look_up(&name, &credential).await?))
    }

    /// `POST /auth`
    pub(in crate::api) async fn log_in(&self, call: Call) -> Answer {
        let body = call.json().await?.to_string();
        let credential = Credential::read(body.as_bytes());
        let wrong = || ApiError::bad_parameter("the body is no login");
        self.registry.log_in(&credential.ok_or_else(wrong)?).await?;
        Ok(respond(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
    }

    /// Lines as they come. What fails before the first line has a status of its own, as with
    /// Docker; afterwards it is the last line. The work ends when the client goes.
    async fn tell_progress<W>(&self, work: impl FnOnce(mpsc::Sender<Value>) -> W) -> Answer
    where
        W: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (lines, mut told) = mpsc::channel(QUEUE);
        let mut working = Working(tokio::spawn(work(lines)));
        let Some(first) = told.recv().await else {
            working.end().await?;
            return Ok(super::lines(String::new()));
        };
        let (out, response) = stream::open("application/json");
        let mut ends = self.ends.clone();
        tokio::spawn(async move {
            let mut line = Some(first);
            while let Some(this) = line {
                if out.send(format!("{this}\r\n").into()).await.is_err() {
                    return;
                }
                line = tokio::select! {
                    line = told.recv() => line,
                    () = out.closed() => return,
                    _ = ends.wait_for(|ends| *ends) => return,
                };
            }
            if let Err(error) = working.end().await {
                let text = error.to_string();
                let line = json!({ "errorDetail": { "message": text }, "error": text });
                let _ = out.send(format!("{line}\r\n").into()).await;
            }
        });
        Ok(response)
    }
}

/// Work that ends with whoever waits for it.
struct Working(JoinHandle<Result<(), Error>>);

impl Working {
    async fn end(&mut self) -> Result<(), ApiError> {
        match (&mut self.0).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(ApiError::internal(error.to_string())),
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}
