//! Images whose name says a registry, on a Swarm: what was built here is pushed, and every service
//! runs the very image that the registry has, named by its digest. Nodes pull it with our login.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use dockerapi::ClientError;
use serde_json::{Value, json};
use tokio::time::sleep_until;

use crate::{
    deploy::{Wanted, nothing_changed},
    error::{Class, Error},
    plan::IMAGE,
    progress::Said,
    rollout::{Context, milliseconds},
    spread::repository,
};

/// Registry → `X-Registry-Auth`. Never shown.
#[derive(Clone, Default)]
pub struct Logins(BTreeMap<String, String>);

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Logins {
    /// The login for the registry of an image, where there is one.
    pub(crate) fn of(&self, image: &str) -> Option<&str> {
        self.0.get(registry(image)?).map(String::as_str)
    }

    /// What the docker client was logged in with: its configuration and its credential helpers.
    fn learn(&mut self, registry: &str) -> Result<(), Error> {
        if self.0.contains_key(registry) || !is_ever_logged_in() {
            return Ok(());
        }
        match docker_credential::get_credential(registry) {
            Ok(credential) => {
                self.0.insert(registry.to_owned(), header(registry, &credential));
                Ok(())
            }
            Err(
                CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::NoCredentialConfigured,
            ) => Ok(()),
            Err(error) => {
                let text = format!("the login for {registry} cannot be read: {error}");
                Err(Error::new("registry-login", text)
                    .hint(format!("log in again: `docker login {registry}`")))
            }
        }
    }
}

/// The docker client has a configuration; there is none before the first login.
fn is_ever_logged_in() -> bool {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(std::env::home_dir()?.join(".docker")));
    folder.is_some_and(|folder| folder.join("config.json").exists())
}

fn header(registry: &str, credential: &DockerCredential) -> String {
    let login = match credential {
        DockerCredential::IdentityToken(token) => {
            json!({ "identitytoken": token, "serveraddress": registry })
        }
        DockerCredential::UsernamePassword(name, password) => {
            json!({ "username": name, "password": password, "serveraddress": registry })
        }
    };
    URL_SAFE.encode(login.to_string())
}

/// `registry.example:5000` of `registry.example:5000/team/app`; none for `team/app`.
pub(crate) fn registry(image: &str) -> Option<&str> {
    let (host, _) = image.split_once('/')?;
    (host == "localhost" || host.contains(['.', ':'])).then_some(host)
}

/// Pins the images of a stack to what their registries have; pushes what was built here, or is only
/// here, when `may_push`.
pub(crate) async fn pin(
    context: &Context<'_>,
    wanted: &mut Wanted,
    built: &[String],
    may_push: bool,
) -> Result<Logins, Error> {
    let mut logins = Logins::default();
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    for service in &mut wanted.lowered.services {
        let image = service.image.clone();
        let Some(registry) = registry(&image).filter(|_| !image.contains('@')) else { continue };
        logins.learn(registry)?;
        let digest = match digests.get(&image) {
            Some(digest) => Some(digest.clone()),
            None => {
                let auth = logins.of(&image).map_or_else(|| URL_SAFE.encode("{}"), str::to_owned);
                let mine = Image { context, name: &image, auth: &auth };
                mine.digest(built.contains(&image), may_push).await?
            }
        };
        let Some(digest) = digest else { continue };
        if let Some(place) = service.spec.pointer_mut(IMAGE) {
            *place = json!(format!("{image}@{digest}"));
        }
        digests.insert(image, digest);
    }
    Ok(logins)
}

/// An image on its way.
struct Image<'a> {
    context: &'a Context<'a>,
    name: &'a str,
    auth: &'a str,
}

impl Image<'_> {
    /// The digest that the registry has, or has now; none when nobody can say.
    async fn digest(&self, is_built: bool, may_push: bool) -> Result<Option<String>, Error> {
        if is_built && may_push {
            return self.push().await.map(Some);
        }
        let client = self.context.client;
        let error = match client.registry_digest(self.name, self.auth).await {
            Ok(digest) => return Ok(Some(digest)),
            Err(error) => error,
        };
        let is_here = client.image(self.name).await.is_ok();
        if is_here && may_push && is_unknown(&error) {
            return self.push().await.map(Some);
        }
        let text = format!(
            "{}: the registry does not tell its digest: {error}; each node takes what it has or \
             gets under that name",
            self.name
        );
        self.context.progress.say(Said::Warning { text });
        Ok(None)
    }

    /// Until the deadline, or until the operator asks to stop.
    async fn push(&self) -> Result<String, Error> {
        let (step, started) = (format!("push {}", self.name), Instant::now());
        let Context { progress, deadline, interrupts, .. } = self.context;
        progress.say(Said::Step { name: step.clone() });
        let mut interrupts = interrupts.clone();
        let digest = tokio::select! {
            pushed = self.pushed() => pushed?,
            () = sleep_until((*deadline).into()) => {
                let text = format!("push {}: not done in time; nothing was changed", self.name);
                return Err(Error::new("deadline", text)
                    .hint("give it more with --timeout; what the registry has is not sent again")
                    .class(Class::Deadline));
            }
            _ = interrupts.wait_for(|count| *count > 0) => return Err(nothing_changed()),
        };
        progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
        progress.say(Said::Output { line: format!("{} is {digest}", self.name) });
        Ok(digest)
    }

    async fn pushed(&self) -> Result<String, Error> {
        let repository = repository(self.name);
        let tag = self.name.strip_prefix(repository).map(|tag| tag.trim_start_matches(':'));
        let tag = tag.filter(|tag| !tag.is_empty()).unwrap_or("latest");
        let client = self.context.client;
        let refused = |error: ClientError| self.refused(&error.to_string());
        let mut said = client.push(repository, tag, self.auth).await.map_err(refused)?;
        let mut digest = None;
        while let Some(value) = said.next().await.map_err(refused)? {
            digest = digest_in(&value).map_err(|why| self.refused(why))?.or(digest);
        }
        digest.ok_or_else(|| self.refused("it ended without a digest"))
    }

    fn refused(&self, why: &str) -> Error {
        let registry = registry(self.name).unwrap_or_default();
        Error::new("push-failed", format!("push {}: {why}; nothing was changed", self.name)).hint(
            format!(
                "log in with `docker login {registry}`, or deploy with --no-push: then the image \
                 is brought to the nodes without a registry"
            ),
        )
    }
}

/// The registry answered, and has no such image.
fn is_unknown(error: &ClientError) -> bool {
    let text = error.to_string();
    error.is_not_found() || text.contains("manifest unknown") || text.contains("name unknown")
}

/// The digest, where this line of a push's progress has it; the error, where it is one.
fn digest_in(line: &Value) -> Result<Option<String>, &str> {
    match line.get("error").and_then(Value::as_str) {
        Some(error) => Err(error),
        None => Ok(line.pointer("/aux/Digest").and_then(Value::as_str).map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_told_from_a_folder() {
        for (image, wanted) in [
            ("registry.example/team/app:1", Some("registry.example")),
            ("localhost/app", Some("localhost")),
            ("127.0.0.1:5000/app", Some("127.0.0.1:5000")),
            ("team/app:1", None),
            ("postgres:16", None),
        ] {
            assert_eq!(registry(image), wanted, "{image}");
        }
    }

    #[test]
    fn a_push_ends_with_a_digest_or_says_why_not() {
        assert_eq!(digest_in(&json!({ "status": "Pushed" })), Ok(None));
        let last = json!({
            "progressDetail": {}, "aux": { "Tag": "1", "Digest": "sha256:ab", "Size": 1 },
        });
        assert_eq!(digest_in(&last), Ok(Some("sha256:ab".to_owned())));
        let refused = json!({ "errorDetail": { "message": "denied" }, "error": "denied" });
        assert_eq!(digest_in(&refused), Err("denied"));
    }

    #[test]
    fn logins_are_not_shown() {
        let mut logins = Logins::default();
        let credential = DockerCredential::UsernamePassword("a".into(), "of-a".into());
        logins.0.insert("r.example".to_owned(), header("r.example", &credential));
        assert_eq!(format!("{logins:?}"), "{\"r.example\"}");
        let auth = logins.of("r.example/app:1").expect("a login");
        let read: Value =
            serde_json::from_slice(&URL_SAFE.decode(auth).expect("base64")).expect("JSON");
        assert_eq!(read["password"], "of-a");
        assert_eq!(logins.of("other.example/app"), None);
    }
}
