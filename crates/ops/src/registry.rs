//! Images whose name says a registry, on a Swarm: what was built here is pushed, and every service
//! runs the very image that the registry has, named by its digest. Nodes pull it with our login.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use dockerapi::{Client, ClientError};
use serde_json::{Value, json};

use crate::{
    deploy::Wanted,
    error::Error,
    plan::IMAGE,
    progress::{Progress, Said},
    rollout::milliseconds,
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
    client: &Client,
    wanted: &mut Wanted,
    built: &[String],
    may_push: bool,
    progress: &dyn Progress,
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
                let mine = Image { client, name: &image, auth: &auth, progress };
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
    client: &'a Client,
    name: &'a str,
    auth: &'a str,
    progress: &'a dyn Progress,
}

impl Image<'_> {
    /// The digest that the registry has, or has now; none when nobody can say.
    async fn digest(&self, is_built: bool, may_push: bool) -> Result<Option<String>, Error> {
        if is_built && may_push {
            return self.push().await.map(Some);
        }
        let error = match self.client.registry_digest(self.name, self.auth).await {
            Ok(digest) => return Ok(Some(digest)),
            Err(error) => error,
        };
        let is_here = self.client.image(self.name).await.is_ok();
        if is_here && may_push && is_unknown(&error) {
            return self.push().await.map(Some);
        }
        let text = format!(
            "{}: the registry does not tell its digest: {error}; each node takes what it has or \
             gets under that name",
            self.name
        );
        self.progress.say(Said::Warning { text });
        Ok(None)
    }

    async fn push(&self) -> Result<String, Error> {
        let (step, started) = (format!("push {}", self.name), Instant::now());
        self.progress.say(Said::Step { name: step.clone() });
        let repository = repository(self.name);
        let tag = self.name.strip_prefix(repository).map(|tag| tag.trim_start_matches(':'));
        let tag = tag.filter(|tag| !tag.is_empty()).unwrap_or("latest");
        let mut said = self.client.push(repository, tag, self.auth).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = said.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let digest = pushed(&bytes).map_err(|why| self.refused(&why))?;
        self.progress.say(Said::Done { name: step, milliseconds: milliseconds(started) });
        self.progress.say(Said::Output { line: format!("{} is {digest}", self.name) });
        Ok(digest)
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

/// The digest at the end of a push's progress, or why it failed.
fn pushed(said: &[u8]) -> Result<String, String> {
    let mut digest = None;
    for line in serde_json::Deserializer::from_slice(said).into_iter::<Value>() {
        let line = line.map_err(|error| format!("its progress cannot be read: {error}"))?;
        if let Some(error) = line.get("error").and_then(Value::as_str) {
            return Err(error.to_owned());
        }
        let told = line.pointer("/aux/Digest").and_then(Value::as_str);
        digest = told.map(str::to_owned).or(digest);
    }
    digest.ok_or_else(|| "it ended without a digest".to_owned())
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
        let went = "{\"status\":\"Pushed\"}\r\n{\"progressDetail\":{},\"aux\":{\"Tag\":\"1\",\
                    \"Digest\":\"sha256:ab\",\"Size\":1}}\r\n";
        assert_eq!(pushed(went.as_bytes()), Ok("sha256:ab".to_owned()));
        let refused = "{\"status\":\"Preparing\"}\n{\"errorDetail\":{\"message\":\"denied\"},\
                       \"error\":\"denied\"}\n";
        assert_eq!(pushed(refused.as_bytes()), Err("denied".to_owned()));
        assert!(pushed(b"{\"status\":\"x\"}").is_err());
        assert!(pushed(b"<html>").is_err());
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
