//! A conversation with one registry about one repository: who we are, where it sends us, and how
//! often anything is tried.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    Credential, Error,
    challenge::{self, Challenge},
    location::{is_same_origin, resolve},
    transport::{Payload, Transport, authority, collect, shown},
};
use crate::image::name::{HUB, Name};

/// Redirects that one request may follow.
const HOPS: usize = 5;
/// Times that one request is sent before its error counts.
const ATTEMPTS: u32 = 3;
/// Errors and tokens are short.
pub(super) const SHORT: u64 = 1 << 20;
/// Where Docker Hub's registry is.
const HUB_HOST: &str = "registry-1.docker.io";

/// One request; sent again with other credentials, or elsewhere, when the registry says so.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(header::HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn with(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(super) struct Session {
    pub(super) transport: Transport,
    /// `https://host/v2/`
    pub(super) base: Uri,
    pub(super) name: Name,
    pub(super) credential: Credential,
    /// `pull` or `push`.
    pub(super) action: &'static str,
    /// What the registry asked for when it was first greeted.
    challenges: Vec<Challenge>,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Session {
    /// Greets the registry: whether it is one, and what it wants to know.
    pub(super) async fn open(
        transport: Transport,
        name: &Name,
        credential: Credential,
        action: &'static str,
    ) -> Result<Self, Error> {
        let host = if name.host == HUB { HUB_HOST } else { &name.host };
        let (base, greeting) = greet(&transport, host).await?;
        let mut session = Self {
            transport,
            base,
            name: name.clone(),
            credential,
            action,
            challenges: Vec::new(),
            authorization: Mutex::new(None),
        };
        match greeting.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => session.challenges = challenges(&greeting),
            _ => {
                let what = format!("Get {}", shown(&session.base));
                return Err(session.answer(what, greeting).await);
            }
        }
        Ok(session)
    }

    /// An address of the repository: `manifests/latest`.
    pub(super) fn uri(&self, rest: &str) -> Result<Uri, Error> {
        let text = format!("{}{}/{rest}", self.base, self.name.path);
        text.parse().map_err(|_| Error::Lies { reason: format!("`{text}` is no address") })
    }

    /// Sends a request that may be repeated, until it is answered well or its time is over.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Response<Incoming>, Error> {
        let mut attempt = 1;
        loop {
            let answer = match self.follow(ask).await {
                Ok(response) => self.is_good(ask, response).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    tokio::time::sleep(self.transport.patience.backoff * (1 << (attempt - 1)))
                        .await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn is_good(
        &self,
        ask: &Ask,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, Error> {
        let is_overloaded = response.status().is_server_error()
            || response.status() == StatusCode::TOO_MANY_REQUESTS;
        if !is_overloaded {
            return Ok(response);
        }
        Err(self.answer(format!("{} {}", ask.method, shown(&ask.uri)), response).await)
    }

    /// Sends once, follows redirects, and logs in when asked to.
    pub(super) async fn follow(&self, ask: &Ask) -> Result<Response<Incoming>, Error> {
        let mut uri = ask.uri.clone();
        let mut logins = 0;
        for _ in 0..=HOPS {
            let is_own = is_same_origin(&self.base, &uri);
            let authorization = self.authorization.lock().await.clone().filter(|_| is_own);
            let request = request(ask, &uri, authorization.as_ref())?;
            let response = self.transport.send(request, self.transport.patience.answer).await?;
            if response.status() == StatusCode::UNAUTHORIZED && is_own {
                logins += 1;
                if logins > 2 {
                    return Err(self.denied("it asks who we are again and again"));
                }
                self.log_in(response, authorization).await?;
            } else if is_redirect(&response) && matches!(ask.method, Method::GET | Method::HEAD) {
                uri = self.target(&uri, &response)?;
            } else {
                return Ok(response);
            }
        }
        Err(Error::Lies { reason: format!("it redirects more than {HOPS} times") })
    }

    /// Where a redirect leads, if it may lead there.
    pub(super) fn target(&self, from: &Uri, response: &Response<Incoming>) -> Result<Uri, Error> {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let to = location.and_then(|location| resolve(from, location));
        let to = to.ok_or_else(|| Error::Lies {
            reason: format!("{} leads to no address", shown(from)),
        })?;
        self.check_plain(&to)?;
        Ok(to)
    }

    /// Plain HTTP only where the registry itself may be plain, and is.
    pub(super) fn check_plain(&self, to: &Uri) -> Result<(), Error> {
        let is_plain = |uri: &Uri| uri.scheme_str() != Some("https");
        let may = is_plain(&self.base) && self.transport.settings.may_be_plain(&authority(to));
        match is_plain(to) && !may {
            true => Err(Error::Lies { reason: format!("it leads to plain HTTP: {}", shown(to)) }),
            false => Ok(()),
        }
    }

    /// Answers a 401. `used` is what the refused request said.
    async fn log_in(
        &self,
        refused: Response<Incoming>,
        used: Option<HeaderValue>,
    ) -> Result<(), Error> {
        let mut known = self.authorization.lock().await;
        if known.is_some() && *known != used {
            // Somebody else has logged in since.
            return Ok(());
        }
        let mut asked = challenges(&refused);
        if asked.is_empty() {
            asked.clone_from(&self.challenges);
        }
        let said = message(refused, self.transport.patience.stall).await;
        let bearer = asked.iter().find(|asked| matches!(asked, Challenge::Bearer { .. }));
        let value = match bearer {
            _ if !self.credential.registry_token.is_empty() && used.is_none() => {
                format!("Bearer {}", self.credential.registry_token)
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = if scope.is_empty() { self.scope() } else { scope.clone() };
                format!("Bearer {}", self.token(realm, service, &scope).await?)
            }
            _ if !asked.contains(&Challenge::Basic) => return Err(self.denied(&said)),
            _ if !self.credential.has_password() => {
                return Err(self.denied("no basic auth credentials"));
            }
            _ if used.is_some() => return Err(self.denied(&said)),
            _ => self.credential.basic(),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| self.denied("the token is not one that can be sent"))?;
        value.set_sensitive(true);
        *known = Some(value);
        Ok(())
    }

    /// What requests to the registry itself say of us.
    pub(super) async fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().await.clone()
    }

    fn scope(&self) -> String {
        let actions = if self.action == "push" { "pull,push" } else { "pull" };
        format!("repository:{}:{actions}", self.name.path)
    }

    pub(super) fn denied(&self, reason: &str) -> Error {
        let reason = if reason.is_empty() { "unauthorized" } else { reason };
        let repository = self.name.repository();
        Error::Denied { action: self.action, repository, reason: reason.trim().to_owned() }
    }

    /// The error that an answer is.
    pub(super) async fn answer(&self, what: String, response: Response<Incoming>) -> Error {
        let status = response.status();
        let message = message(response, self.transport.patience.stall).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return self.denied(&message);
        }
        let message = if message.is_empty() { message } else { format!(": {message}") };
        Error::Answer { what, status: status.as_u16(), message }
    }
}

fn request(
    ask: &Ask,
    uri: &Uri,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Payload>, Error> {
    let mut request = Request::builder().method(ask.method.clone()).uri(uri);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let body: Payload = match ask.body.is_empty() {
        true => Empty::new().map_err(|never| match never {}).boxed(),
        false => Full::new(ask.body.clone()).map_err(|never| match never {}).boxed(),
    };
    let wrong = |error: http::Error| Error::Lies { reason: error.to_string() };
    request.header(header::USER_AGENT, "evenkeel").body(body).map_err(wrong)
}

/// TLS first; plain HTTP where that may be and no certificate says otherwise.
async fn greet(transport: &Transport, host: &str) -> Result<(Uri, Response<Incoming>), Error> {
    let at = |scheme: &str| -> Result<Uri, Error> {
        let text = format!("{scheme}://{host}/v2/");
        text.parse().map_err(|_| Error::Lies { reason: format!("`{text}` is no address") })
    };
    let ask = |uri: Uri| async move {
        let request = request(&Ask::new(Method::GET, uri.clone()), &uri, None)?;
        let response = transport.send(request, transport.patience.connect).await?;
        Ok::<_, Error>((uri, response))
    };
    let settings = &transport.settings;
    let secure = ask(at("https")?).await;
    if secure.is_ok() || !settings.may_be_plain(host) || settings.has_certificates(host) {
        return secure;
    }
    match ask(at("http")?).await {
        // A server that speaks TLS only: its certificate is the matter.
        Ok((_, response)) if response.status() == StatusCode::BAD_REQUEST => secure,
        plain => plain,
    }
}

fn challenges(response: &Response<Incoming>) -> Vec<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    let texts = headers.iter().filter_map(|header| header.to_str().ok());
    texts.flat_map(challenge::parse).collect()
}

fn is_redirect(response: &Response<Incoming>) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What a registry says of an error: `{"errors":[{"code":…,"message":…}]}`, short, on one line.
pub(super) async fn message(response: Response<Incoming>, stall: std::time::Duration) -> String {
    let bytes = collect(response, SHORT, stall).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let first = &value["errors"][0];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (code, message) = (text(&first["code"]), text(&first["message"]));
    let code = code.to_ascii_lowercase().replace('_', " ");
    let whole = match (code.is_empty(), message.is_empty()) {
        (true, true) => text(&value["details"]),
        (false, true) => code,
        (true, false) => message,
        (false, false) => format!("{code}: {message}"),
    };
    whole.chars().filter(|letter| !letter.is_control()).take(300).collect()
}
