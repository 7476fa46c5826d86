//! Tokens from a registry's token service (the distribution project's token and OAuth2
//! specifications).

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::{
    Error,
    location::{is_same_origin, with_query},
    session::{SHORT, Session, message},
    transport::{Payload, collect, shown},
};

/// Redirects of the token service.
const HOPS: usize = 3;

impl Session {
    /// Fetches a token. The password goes to the service that the registry named, and not to where
    /// that may redirect.
    pub(super) async fn token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
    ) -> Result<String, Error> {
        let no_address = || Error::Lies { reason: "its token service has no address".to_owned() };
        let realm: Uri = realm.parse().map_err(|_| no_address())?;
        if realm.host().is_none() || !matches!(realm.scheme_str(), Some("https" | "http")) {
            return Err(no_address());
        }
        self.check_plain(&realm)?;
        let mut query = vec![("service", service)];
        query.extend(scope.split(' ').filter(|s| !s.is_empty()).map(|scope| ("scope", scope)));
        let credential = &self.credential;
        let response = if credential.identity_token.is_empty() {
            if !credential.username.is_empty() {
                query.push(("account", &credential.username));
            }
            let uri = with_query(&realm, &query).ok_or_else(no_address)?;
            self.get_token(uri).await?
        } else {
            query.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", &credential.identity_token),
                ("client_id", "evenkeel"),
            ]);
            self.post_token(&realm, &query).await?
        };
        let stall = self.transport.patience.stall;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => {
                let said = message(response, stall).await;
                let said = if said.is_empty() { "incorrect username or password" } else { &said };
                return Err(self.denied(said));
            }
            _ => return Err(self.answer(format!("Get {}", shown(&realm)), response).await),
        }
        let bytes = collect(response, SHORT, stall).await?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let token = value["token"].as_str().or_else(|| value["access_token"].as_str());
        let token = token.filter(|token| !token.is_empty());
        token
            .map(str::to_owned)
            .ok_or_else(|| Error::Lies { reason: format!("{} gives no token", shown(&realm)) })
    }

    async fn get_token(&self, first: Uri) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let mut uri = first.clone();
        for _ in 0..=HOPS {
            let mut request = Request::builder().method(Method::GET).uri(&uri);
            if self.credential.has_password() && is_same_origin(&first, &uri) {
                request = request.header(header::AUTHORIZATION, self.credential.basic());
            }
            let response = self.send(request, Bytes::new()).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            uri = self.target(&uri, &response)?;
        }
        Err(Error::Lies { reason: "its token service redirects without end".to_owned() })
    }

    /// The long-lived token travels in the body, which is not sent on.
    async fn post_token(
        &self,
        realm: &Uri,
        query: &[(&str, &str)],
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let form = "http://form/".parse().ok().and_then(|form| with_query(&form, query));
        let form = form.as_ref().and_then(Uri::query).unwrap_or("").to_owned();
        let request = Request::builder()
            .method(Method::POST)
            .uri(realm)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, Bytes::from(form)).await
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let body: Payload = Full::new(body).map_err(|never| match never {}).boxed();
        let request = request.header(header::USER_AGENT, "evenkeel").body(body);
        let request = request.map_err(|error| Error::Lies { reason: error.to_string() })?;
        self.transport.send(request, self.transport.patience.answer).await
    }
}
