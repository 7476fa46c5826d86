//! Manifests and indexes of images, Docker's and OCI's: what a registry or an archive says that an
//! image is made of. Pure.

use serde_json::{Value, json};

use super::name::is_digest;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// No larger than what registries take.
pub const SIZE_LIMIT: u64 = 4 << 20;
/// Docker itself runs at most 127 layers.
const LAYER_LIMIT: usize = 512;
const VARIANT_LIMIT: usize = 1024;

/// A manifest that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the manifest {0}")]
pub struct ManifestError(String);

/// A blob by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

/// One of the images that an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub descriptor: Descriptor,
    pub os: Option<String>,
    pub architecture: Option<String>,
    /// A signature or provenance, not an image.
    pub is_attestation: bool,
}

/// What stands behind a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Image(Manifest),
    Index(Vec<Variant>),
}

/// Reads a manifest or an index. `told` is the content type it came with, if any.
pub fn parse(bytes: &[u8], told: Option<&str>) -> Result<Document, ManifestError> {
    let wrong = |why: &str| ManifestError(why.to_owned());
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(wrong("is too large"));
    }
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ManifestError(format!("is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(wrong("is not a JSON object"));
    }
    if value["schemaVersion"].as_u64() != Some(2) {
        return Err(wrong("is of schema 1, which no registry needs any more; push it again"));
    }
    let own = value["mediaType"].as_str().filter(|own| !own.is_empty());
    let has = |key: &str| value.get(key).is_some_and(|part| !part.is_null());
    if has("manifests") && (has("layers") || has("config")) {
        return Err(wrong("is an image and an index at once"));
    }
    if let Some(list) = value.get("manifests").and_then(Value::as_array) {
        if list.len() > VARIANT_LIMIT {
            return Err(wrong("names too many images"));
        }
        return list.iter().map(variant).collect::<Result<_, _>>().map(Document::Index);
    }
    let layers = value["layers"].as_array().ok_or_else(|| wrong("names no layers"))?;
    if layers.len() > LAYER_LIMIT {
        return Err(wrong("names too many layers"));
    }
    let media_type = match own.or(told) {
        Some(DOCKER_MANIFEST) => DOCKER_MANIFEST,
        Some(OCI_MANIFEST) | None => OCI_MANIFEST,
        Some(other) => return Err(ManifestError(format!("is of the unknown kind `{other}`"))),
    };
    Ok(Document::Image(Manifest {
        media_type: media_type.to_owned(),
        config: descriptor(&value["config"])?,
        layers: layers.iter().map(descriptor).collect::<Result<_, _>>()?,
    }))
}

fn descriptor(value: &Value) -> Result<Descriptor, ManifestError> {
    let text = |key: &str| value[key].as_str().unwrap_or("").to_owned();
    let digest = text("digest");
    if !is_digest(&digest) {
        return Err(ManifestError(format!("has a digest that is none: `{:.80}`", digest)));
    }
    let size = value["size"].as_u64();
    let size = size.ok_or_else(|| ManifestError(format!("gives no size for {digest}")))?;
    Ok(Descriptor { media_type: text("mediaType"), digest, size })
}

fn variant(value: &Value) -> Result<Variant, ManifestError> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let kind = text("/annotations/vnd.docker.reference.type");
    Ok(Variant {
        descriptor: descriptor(value)?,
        os: text("/platform/os"),
        architecture: text("/platform/architecture"),
        is_attestation: kind.as_deref() == Some("attestation-manifest"),
    })
}

/// This machine's architecture in Docker's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The variant for this machine.
pub fn choose(variants: &[Variant]) -> Result<&Variant, ManifestError> {
    let own = architecture();
    let mut images = variants.iter().filter(|variant| !variant.is_attestation);
    let fits = |variant: &&Variant| {
        variant.architecture.as_deref().is_none_or(|known| known == own)
            && variant.os.as_deref().is_none_or(|known| known == "linux")
    };
    let why = || ManifestError(format!("has no image for linux/{own}"));
    images.find(fits).ok_or_else(why)
}

/// The manifest of an image that came without one. The same image has always the same.
pub fn compose(config: (&str, u64), layers: &[(String, u64, Packing)]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(digest, size, packing)| {
            let kind = format!("{OCI_LAYER}{}", packing.suffix());
            json!({ "mediaType": kind, "digest": digest, "size": size })
        })
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": config.0, "size": config.1 },
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the first bytes.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    #[test]
    fn the_variant_of_this_machine_is_chosen_and_no_attestation() {
        let entry = |letter, arch: &str, note: &str| {
            json!({ "mediaType": OCI_MANIFEST, "digest": digest(letter), "size": 1,
                "platform": { "os": "linux", "architecture": arch },
                "annotations": { "vnd.docker.reference.type": note } })
        };
        let own = architecture();
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            entry('a', own, "attestation-manifest"), entry('b', "mips", ""), entry('c', own, ""),
        ]});
        let parsed = parse(index.to_string().as_bytes(), None).expect("an index");
        let Document::Index(variants) = parsed else { panic!("an index") };
        assert_eq!(choose(&variants).expect("one").descriptor.digest, digest('c'));
        assert!(choose(&variants[..2]).expect_err("none").to_string().contains(own));
    }

    #[test]
    fn a_composed_manifest_reads_back() {
        let layers = [(digest('b'), 7, Packing::Gzip), (digest('c'), 9, Packing::Plain)];
        let bytes = compose((&digest('a'), 5), &layers);
        let Ok(Document::Image(read)) = parse(&bytes, None) else { panic!("a manifest") };
        assert_eq!((read.config.digest, read.config.size), (digest('a'), 5));
        assert!(read.layers[0].media_type.ends_with("tar+gzip"));
        assert_eq!(read.layers[1].digest, digest('c'));
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_a_reason() {
        let layer = |digest: &str| json!({ "digest": digest, "size": 1 });
        let own = layer(&digest('a'));
        let image = |layers: Value| json!({ "schemaVersion": 2, "config": own, "layers": layers });
        for (value, why) in [
            (json!([]), "object"),
            (json!({ "schemaVersion": 1 }), "schema 1"),
            (json!({ "schemaVersion": 2 }), "no layers"),
            (image(json!([layer("../../etc")])), "digest that is none"),
            (image(json!([{ "digest": digest('b'), "size": -1 }])), "no size"),
            (image(json!(vec![layer(&digest('b')); 600])), "too many layers"),
            (json!({ "schemaVersion": 2, "manifests": [], "layers": [] }), "at once"),
        ] {
            let error = parse(value.to_string().as_bytes(), None).expect_err("refused");
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(parse(b"{", None).is_err());
        assert!(parse(image(json!([])).to_string().as_bytes(), Some("text/html")).is_err());
    }
}
