//! `docker save`: one archive that is an OCI layout and a Docker archive at once. The same images
//! give the same bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Error, Image, Store,
    archive::text_of,
    find, hex,
    manifest::{self, Packing},
    name::Name,
    not_found,
    unpack::explain,
};

/// Images whose files are held until they are written.
#[derive(Debug)]
pub struct Export {
    folder: PathBuf,
    images: Vec<Part>,
    /// Blobs in `folder` by their hexadecimal digest.
    blobs: BTreeSet<String>,
}

#[derive(Debug)]
struct Part {
    image: Image,
    names: Vec<String>,
    /// Its manifest.
    document: Document,
}

/// An image's own manifest.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) media_type: String,
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Store {
    /// What is to be written for these names and ids. A repository without a tag means all its
    /// tags. Nothing that goes away meanwhile is missing from the archive.
    pub fn export(self: &Arc<Self>, references: &[String]) -> Result<Export, Error> {
        let chosen = self.chosen(references)?;
        let folder = self.fresh_folder()?;
        let mut export = Export { folder, images: Vec::new(), blobs: BTreeSet::new() };
        for (id, names) in chosen {
            let image = self.get(&id)?;
            for digest in image.layers.iter().chain([&image.id]) {
                let to = export.folder.join(hex(digest));
                if export.blobs.insert(hex(digest).to_owned()) && !self.keep_blob(digest, &to) {
                    return Err(Error::Archive(format!("{digest} of {id} is missing here")));
                }
            }
            let document = self.document(&image)?;
            let to = export.folder.join(hex(&document.digest));
            fs::write(&to, &document.bytes).map_err(|error| explain(&to, &error))?;
            export.blobs.insert(hex(&document.digest).to_owned());
            export.images.push(Part { image, names: names.into_iter().collect(), document });
        }
        Ok(export)
    }

    /// Image ids, each with the names that were asked for.
    fn chosen(&self, references: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
        let index = self.index();
        let mut chosen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for reference in references {
            let name = Name::parse(reference).ok();
            let is_bare = name.as_ref().is_some_and(|n| n.tag.is_none() && n.digest.is_none());
            let tagged = name.as_ref().and_then(Name::tagged);
            let tagged = tagged.filter(|_| name.as_ref().is_some_and(|n| n.digest.is_none()));
            let repository = name.map(|name| name.repository()).filter(|_| is_bare);
            let named: Vec<(String, String)> = index
                .names
                .iter()
                .filter(|(known, _)| match &repository {
                    Some(repository) => known.rsplit_once(':').is_some_and(|k| k.0 == repository),
                    None => Some(*known) == tagged.as_ref(),
                })
                .map(|(known, id)| (known.clone(), id.clone()))
                .collect();
            if named.is_empty() {
                let image = find(&index, reference).ok_or_else(|| not_found(reference))?;
                chosen.entry(image.id.clone()).or_default();
            }
            for (known, id) in named {
                chosen.entry(id).or_default().insert(known);
            }
        }
        Ok(chosen)
    }

    /// The image's manifest: the one it came with, or one made from what it is.
    pub(crate) fn document(&self, image: &Image) -> Result<Document, Error> {
        if let Some(digest) = &image.document {
            let path = self.blob(digest);
            let bytes = fs::read(&path).map_err(|error| explain(&path, &error))?;
            let read = manifest::parse(&bytes, None);
            let read = read.map_err(|error| Error::Archive(error.to_string()))?;
            let media_type = match read {
                manifest::Document::Image(read) => read.media_type,
                manifest::Document::Index(_) => manifest::OCI_INDEX.to_owned(),
            };
            return Ok(Document { bytes, digest: digest.clone(), media_type });
        }
        let length = |digest: &str| {
            let path = self.blob(digest);
            fs::metadata(&path).map(|file| file.len()).map_err(|error| explain(&path, &error))
        };
        let layers = image.layers.iter().map(|layer| {
            let path = self.blob(layer);
            let mut start = Vec::new();
            File::open(&path)
                .and_then(|file| file.take(4).read_to_end(&mut start))
                .map_err(|error| explain(&path, &error))?;
            Ok((layer.clone(), length(layer)?, Packing::of(&start)))
        });
        let layers = layers.collect::<Result<Vec<_>, Error>>()?;
        let bytes = manifest::compose((&image.id, length(&image.id)?), &layers);
        let mut hash = Sha256::new();
        hash.update(&bytes);
        let digest = format!("sha256:{}", text_of(hash));
        Ok(Document { bytes, digest, media_type: manifest::OCI_MANIFEST.to_owned() })
    }
}

impl Export {
    /// Where a blob is kept for it.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(hex(digest))
    }

    /// Writes the archive, file by file.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        for folder in ["blobs/", "blobs/sha256/"] {
            tar.append_data(&mut header(0, 0o755, tar::EntryType::Directory), folder, &[][..])?;
        }
        for hex in &self.blobs {
            let file = File::open(self.folder.join(hex))?;
            let length = file.metadata()?.len();
            let mut head = header(length, 0o644, tar::EntryType::Regular);
            tar.append_data(&mut head, format!("blobs/sha256/{hex}"), file)?;
        }
        for (name, value) in [
            ("index.json", self.index()),
            ("manifest.json", self.manifest()),
            ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ] {
            let text = value.to_string();
            let mut head = header(text.len() as u64, 0o644, tar::EntryType::Regular);
            tar.append_data(&mut head, name, text.as_bytes())?;
        }
        tar.into_inner()?.flush()
    }

    fn index(&self) -> Value {
        let mut manifests = Vec::new();
        for part in &self.images {
            let document = &part.document;
            let plain = json!({
                "mediaType": document.media_type, "digest": document.digest,
                "size": document.bytes.len(),
            });
            if part.names.is_empty() {
                manifests.push(plain.clone());
            }
            for name in part.names.iter().filter_map(|name| Name::parse(name).ok()) {
                let mut named = plain.clone();
                let tag = name.tag.as_deref().unwrap_or("latest");
                named["annotations"] = json!({
                    "io.containerd.image.name": format!("{}/{}:{tag}", name.host, name.path),
                    "org.opencontainers.image.ref.name": tag,
                });
                manifests.push(named);
            }
        }
        json!({ "schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": manifests })
    }

    fn manifest(&self) -> Value {
        let blob = |digest: &str| format!("blobs/sha256/{}", hex(digest));
        let image = |part: &Part| {
            let layers: Vec<String> = part.image.layers.iter().map(|layer| blob(layer)).collect();
            let names = if part.names.is_empty() { Value::Null } else { json!(part.names) };
            json!({ "Config": blob(&part.image.id), "RepoTags": names, "Layers": layers })
        };
        Value::Array(self.images.iter().map(image).collect())
    }
}

fn header(length: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
