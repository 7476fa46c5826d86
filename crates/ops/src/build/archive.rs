//! A reproducible image: same files, same digest. One layer, sorted entries, zero times.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stack::Artifact;

use crate::error::Error;

/// An image and the archive that `docker load` and our engine take.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of its config, Docker's image id.
    pub id: String,
    pub archive: Vec<u8>,
}

/// Collects the files and makes the image `name`.
pub fn make(name: &str, artifact: &Artifact, folder: &Path) -> Result<Image, Error> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (inside, from) in &artifact.files {
        let from = folder.join(from);
        let inside = inside.trim_start_matches('/').to_owned();
        if inside.split('/').any(|part| part == "..") {
            let text = format!("{name}: `{inside}` leads out of the image");
            return Err(Error::new("bad-artifact", text));
        }
        collect(name, inside.trim_end_matches('/'), &from, &mut files, 0)?;
    }
    let layer = layer(name, &files)?;
    let layer_digest = sha256(&layer);
    let config = config(artifact, &layer_digest).to_string().into_bytes();
    let config_digest = sha256(&config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest, "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer_digest, "size": layer.len(),
        }],
    })
    .to_string()
    .into_bytes();
    let manifest_digest = sha256(&manifest);
    let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest_digest, "size": manifest.len(),
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            },
        }],
    });
    let docker = json!([{
        "Config": blob(&config_digest), "RepoTags": [name], "Layers": [blob(&layer_digest)],
    }]);
    let entries = BTreeMap::from([
        (blob(&config_digest), config),
        (blob(&layer_digest), layer),
        (blob(&manifest_digest), manifest),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("manifest.json".to_owned(), docker.to_string().into_bytes()),
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ]);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in &entries {
        append(&mut tar, path, bytes, 0o644).map_err(|error| failed(name, &error))?;
    }
    let archive = tar.into_inner().map_err(|error| failed(name, &error))?;
    Ok(Image { id: config_digest, archive })
}

fn failed(name: &str, error: &std::io::Error) -> Error {
    Error::new("build-failed", format!("{name}: make the image: {error}"))
}

/// Adds a file, or all files of a folder; symbolic links are followed.
fn collect(
    name: &str,
    inside: &str,
    from: &Path,
    files: &mut BTreeMap<String, PathBuf>,
    depth: usize,
) -> Result<(), Error> {
    let missing = |error: std::io::Error| {
        let text = format!("{name}: collect `{}`: {error}", from.display());
        Error::new("artifact-missing", text).hint("does the build command make it? check the path")
    };
    let about = fs::metadata(from).map_err(missing)?;
    if about.is_file() {
        files.insert(inside.to_owned(), from.to_owned());
        return Ok(());
    }
    if depth > 64 {
        return Err(Error::new(
            "bad-artifact",
            format!("{name}: `{}` nests too deep", from.display()),
        ));
    }
    for entry in fs::read_dir(from).map_err(missing)? {
        let entry = entry.map_err(missing)?;
        let part = entry.file_name().to_string_lossy().into_owned();
        collect(name, &format!("{inside}/{part}"), &entry.path(), files, depth + 1)?;
    }
    Ok(())
}

fn layer(name: &str, files: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>, Error> {
    let mut tar = tar::Builder::new(Vec::new());
    for (inside, from) in files {
        let read = || -> std::io::Result<(Vec<u8>, u32)> {
            let is_program = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
            Ok((fs::read(from)?, if is_program { 0o755 } else { 0o644 }))
        };
        let (bytes, mode) = read().map_err(|error| {
            Error::new("artifact-missing", format!("{name}: read `{}`: {error}", from.display()))
        })?;
        append(&mut tar, inside, &bytes, mode).map_err(|error| failed(name, &error))?;
    }
    tar.into_inner().map_err(|error| failed(name, &error))
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, bytes)
}

fn config(artifact: &Artifact, layer: &str) -> Value {
    let env: Vec<String> = artifact.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut config = json!({ "Env": env });
    if !artifact.entrypoint.is_empty() {
        config["Entrypoint"] = json!(artifact.entrypoint);
    }
    if !artifact.cmd.is_empty() {
        config["Cmd"] = json!(artifact.cmd);
    }
    if !artifact.labels.is_empty() {
        config["Labels"] = json!(artifact.labels);
    }
    for (key, value) in [("WorkingDir", &artifact.workdir), ("User", &artifact.user)] {
        if let Some(value) = value {
            config[key] = json!(value);
        }
    }
    if let Some(check) = &artifact.healthcheck {
        config["Healthcheck"] = check.clone();
    }
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "keel build" }],
    })
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(from: &str) -> Artifact {
        Artifact {
            build: None,
            files: BTreeMap::from([("/app/".to_owned(), from.to_owned())]),
            entrypoint: vec!["/app/run".to_owned()],
            cmd: Vec::new(),
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            workdir: None,
            user: None,
            healthcheck: None,
        }
    }

    #[test]
    fn the_same_files_make_the_same_image_whenever_and_wherever_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, order) in [("one", ["run", "data"]), ("two", ["data", "run"])] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            for file in order {
                fs::write(folder.path().join(name).join(file), file).expect("a file");
            }
        }
        let image = |from: &str| make("a:1", &artifact(from), folder.path()).expect("an image");
        assert_eq!(image("one").archive, image("two").archive);
        fs::write(folder.path().join("two/run"), "other").expect("a file");
        assert_ne!(image("one").id, image("two").id);
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = make("a:1", &artifact("nowhere"), Path::new("/")).expect_err("fails");
        assert!(error.message.contains("nowhere"), "{}", error.message);
    }
}
