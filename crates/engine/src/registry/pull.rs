//! Pulling: manifest, config and layers, each checked, then all of it into the store at once.

use std::sync::Arc;

use futures_util::future::try_join_all;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    Credential, Error, Registry, Teller,
    download::Slot,
    session::{Ask, Session, message},
    transport::{collect, shown},
};
use crate::image::{
    self,
    intake::{Arrival, Blob, Checked, JSON_LIMIT, read_json},
    manifest::{
        self, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, Manifest, OCI_INDEX, OCI_MANIFEST,
    },
    name::Name,
};

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// By which the registry knows it.
    pub digest: String,
    /// The image's id here.
    pub id: String,
    /// False when everything was here already.
    pub is_new: bool,
}

/// A manifest or index as a registry sent it, its digest checked.
pub(super) struct Fetched {
    bytes: Vec<u8>,
    digest: String,
    media_type: String,
    document: Document,
}

impl Registry {
    /// Brings an image. Nothing is kept unless every part of it is what its digest says.
    pub async fn pull(
        &self,
        name: &Name,
        credential: &Credential,
        teller: &Teller,
    ) -> Result<Pulled, Error> {
        let whole = self.options.patience.whole;
        timeout(whole, self.pull_whole(name, credential, teller))
            .await
            .map_err(|_| Error::Deadline(whole))?
    }

    async fn pull_whole(
        &self,
        name: &Name,
        credential: &Credential,
        teller: &Teller,
    ) -> Result<Pulled, Error> {
        let session = self.session(name, credential, "pull").await?;
        let top = fetch(&session, name.reference()).await?;
        let reference = name.reference();
        let from = json!({ "status": format!("Pulling from {}", name.path), "id": reference });
        teller.say(from).await;
        let (own, read) = image_of(&session, &top).await?;
        let digest = format!("{}@{}", name.repository(), top.digest);
        let is_new = match self.name_known(&read.config.digest, name, &digest).await? {
            Some(is_new) => is_new,
            None => {
                let checked = self.bring(&session, name, (&top, own.as_ref()), &read, teller);
                let checked = checked.await?;
                let images = Arc::clone(&self.images);
                blocking(move || images.admit(vec![checked])).await?;
                for layer in &read.layers {
                    teller.blob(&layer.digest, "Pull complete").await;
                }
                true
            }
        };
        teller.status(format!("Digest: {}", top.digest)).await;
        let status = match is_new {
            true => format!("Status: Downloaded newer image for {name}"),
            false => format!("Status: Image is up to date for {name}"),
        };
        teller.status(status).await;
        Ok(Pulled { digest: top.digest, id: read.config.digest, is_new })
    }

    /// Names an image that is here already; none when it is not. True when the name is new.
    async fn name_known(&self, id: &str, name: &Name, digest: &str) -> Result<Option<bool>, Error> {
        let images = Arc::clone(&self.images);
        let (id, tagged, digest) = (id.to_owned(), name.tagged(), digest.to_owned());
        blocking(move || match images.name_known(&id, tagged.as_deref(), &digest) {
            Ok(is_new) => Ok(Some(is_new)),
            Err(image::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Downloads what the manifest names, and checks it.
    async fn bring(
        &self,
        session: &Session,
        name: &Name,
        (top, own): (&Fetched, Option<&Fetched>),
        read: &Manifest,
        teller: &Teller,
    ) -> Result<Checked, Error> {
        if read.config.size > JSON_LIMIT {
            let (name, bytes) = (read.config.digest.clone(), read.config.size);
            return Err(Error::TooLarge { name, bytes });
        }
        for layer in &read.layers {
            teller.blob(&layer.digest, "Pulling fs layer").await;
        }
        let get = |wanted| self.downloads.get(&self.images, session, wanted, teller);
        let silent = Teller::default();
        let config = self.downloads.get(&self.images, session, &read.config, &silent).await?;
        check_platform(&config.blob()).await?;
        let layers: Vec<Arc<Slot>> = try_join_all(read.layers.iter().map(get)).await?;
        for layer in &read.layers {
            teller.blob(&layer.digest, "Extracting").await;
        }
        let manifest = own.unwrap_or(top);
        let (bytes, digest) = (manifest.bytes.clone(), manifest.digest.clone());
        let (names, top) = (name.tagged(), top.digest.clone());
        let repository = name.repository();
        let images = Arc::clone(&self.images);
        blocking(move || {
            let folder = images.fresh_folder()?;
            let path = folder.join("manifest");
            let written = std::fs::write(&path, &bytes);
            let written = written.map_err(|source| image::Error::Io { path: path.clone(), source });
            let length = bytes.len() as u64;
            let arrival = Arrival {
                config: config.blob(),
                layers: layers.iter().map(|layer| layer.blob()).collect(),
                document: Some(Blob { path, digest, length }),
                manifest: Some(top.clone()),
                names: names.into_iter().collect(),
                digests: vec![format!("{repository}@{top}")],
            };
            let mut checked = written.and_then(|()| images.check(arrival));
            match &mut checked {
                Ok(checked) => checked.keep(folder, (config, layers)),
                Err(_) => drop(std::fs::remove_dir_all(&folder)),
            }
            checked
        })
        .await
    }

    /// `GET /distribution/NAME/json`: what the registry has, without pulling it.
    pub async fn look_up(&self, name: &Name, credential: &Credential) -> Result<Value, Error> {
        let session = self.session(name, credential, "pull").await?;
        let top = fetch(&session, name.reference()).await?;
        let platforms = match &top.document {
            Document::Index(variants) => {
                let images = variants.iter().filter(|variant| !variant.is_attestation);
                let shown = images.map(
                    |variant| json!({ "architecture": variant.architecture, "os": variant.os }),
                );
                shown.collect::<Vec<_>>()
            }
            Document::Image(read) => {
                let config = self.small(&session, &read.config).await?;
                vec![json!({ "architecture": config["architecture"], "os": config["os"] })]
            }
        };
        Ok(json!({
            "Descriptor": {
                "mediaType": top.media_type, "digest": top.digest, "size": top.bytes.len(),
            },
            "Platforms": platforms,
        }))
    }

    async fn small(&self, session: &Session, wanted: &Descriptor) -> Result<Value, Error> {
        if wanted.size > JSON_LIMIT {
            let (name, bytes) = (wanted.digest.clone(), wanted.size);
            return Err(Error::TooLarge { name, bytes });
        }
        let slot = self.downloads.get(&self.images, session, wanted, &Teller::default()).await?;
        blocking(move || read_json(&slot.blob())).await
    }
}

/// Another machine's image is refused before its layers come.
async fn check_platform(config: &Blob) -> Result<(), Error> {
    let config = config.clone();
    let config = blocking(move || read_json(&config)).await?;
    let own = manifest::architecture();
    let is = |key: &str, own: &str| config[key].as_str().is_none_or(|known| known == own);
    if is("architecture", own) && is("os", "linux") {
        return Ok(());
    }
    let (os, architecture) = (&config["os"], &config["architecture"]);
    let text = format!("it is for {os}/{architecture}, and this machine is linux/{own}");
    Err(Error::Image(image::Error::Archive(text.replace('"', ""))))
}

/// The manifest of this machine's image; its own document when `top` is an index.
async fn image_of(session: &Session, top: &Fetched) -> Result<(Option<Fetched>, Manifest), Error> {
    match &top.document {
        Document::Image(read) => Ok((None, read.clone())),
        Document::Index(variants) => {
            let chosen = manifest::choose(variants)
                .map_err(|error| Error::Image(image::Error::Archive(error.to_string())))?;
            let own = fetch(session, &chosen.descriptor.digest).await?;
            match &own.document {
                Document::Image(read) => {
                    let read = read.clone();
                    Ok((Some(own), read))
                }
                Document::Index(_) => {
                    Err(Error::Lies { reason: "an index of it names an index".to_owned() })
                }
            }
        }
    }
}

/// Fetches a manifest; asked for by its digest, it must have it.
async fn fetch(session: &Session, reference: &str) -> Result<Fetched, Error> {
    let uri = session.uri(&format!("manifests/{reference}"))?;
    let what = format!("Get {}", shown(&uri));
    let kinds = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
    let ask = Ask::new(Method::GET, uri).with(header::ACCEPT, kinds.join(", "));
    let response = session.ask(&ask).await?;
    let stall = session.transport.patience.stall;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            let said = message(response, stall).await;
            let reason = if said.is_empty() { "manifest unknown".to_owned() } else { said };
            return Err(Error::Missing { name: shown_as(session, reference), reason });
        }
        _ => return Err(session.answer(what, response).await),
    }
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.split(';').next().unwrap_or("").trim().to_owned())
    };
    let (told, claimed) = (header("content-type"), header("docker-content-digest"));
    let bytes = collect(response, manifest::SIZE_LIMIT, stall).await?;
    let digest = format!("sha256:{}", image::hex_of(Sha256::new_with_prefix(&bytes)));
    let is_pinned = image::name::is_digest(reference);
    let wanted = if is_pinned { Some(reference.to_owned()) } else { claimed };
    if let Some(wanted) = wanted.filter(|w| image::name::is_digest(w) && *w != digest) {
        let reason = format!("it sent {digest} for the manifest {wanted}");
        return Err(Error::Lies { reason });
    }
    let document = manifest::parse(&bytes, told.as_deref())
        .map_err(|error| Error::Image(image::Error::Archive(error.to_string())))?;
    let media_type = match (&document, told) {
        (Document::Image(read), _) => read.media_type.clone(),
        (Document::Index(_), Some(told)) if told == DOCKER_LIST => told,
        (Document::Index(_), _) => OCI_INDEX.to_owned(),
    };
    Ok(Fetched { bytes, digest, media_type, document })
}

fn shown_as(session: &Session, reference: &str) -> String {
    let joint = if image::name::is_digest(reference) { '@' } else { ':' };
    format!("{}{joint}{reference}", session.name.repository())
}

/// Off the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, image::Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Error::Image(image::Error::Archive(error.to_string()))),
    }
}
