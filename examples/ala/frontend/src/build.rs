//! The build step: names every asset after its contents and rewrites the references to it.
//!
//! `assets/Name.js` becomes `assets/Name-<hash>.js`. An asset is hashed after the assets it
//! mentions, so that a change anywhere below it changes its own name too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Replaced by the version in every page and asset.
const VERSION_MARK: &str = "__VERSION__";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read `{path}`: {source}", path = .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("write `{path}`: {source}", path = .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("these assets mention each other in a circle: {0}")]
    Circle(String),
}

/// Returns the new names of the assets.
pub fn run(source: &Path, output: &Path, version: &str) -> Result<Vec<String>, Error> {
    let mut assets = read(&source.join("assets"), version)?;
    let pages = read(source, version)?;
    let named = name(&mut assets)?;
    let folder = output.join("assets");
    // Assets of an earlier build would be served too.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)
        .map_err(|source| Error::Write { path: folder.clone(), source })?;
    for (old, new) in &named {
        write(&folder.join(new), &assets[old])?;
    }
    for (page, text) in &pages {
        write(&output.join(page), &refer(text, &named))?;
    }
    Ok(named.into_values().collect())
}

fn read(folder: &Path, version: &str) -> Result<BTreeMap<String, String>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| Error::Read { path: path.clone(), source })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, text.replace(VERSION_MARK, version));
        }
    }
    Ok(files)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Rewrites the assets in place and returns their new names by their old ones.
fn name(assets: &mut BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let mut named = BTreeMap::new();
    while named.len() < assets.len() {
        let waiting: Vec<&String> = assets.keys().filter(|a| !named.contains_key(*a)).collect();
        let ready = waiting.iter().copied().find(|asset| {
            let text = &assets[*asset];
            waiting.iter().all(|other| other == asset || !text.contains(&reference(other)))
        });
        let Some(asset) = ready.cloned() else {
            let names: Vec<&str> = waiting.iter().map(|name| name.as_str()).collect();
            return Err(Error::Circle(names.join(", ")));
        };
        let text = refer(&assets[&asset], &named);
        named.insert(asset.clone(), hashed(&asset, &text));
        assets.insert(asset, text);
    }
    Ok(named)
}

fn refer(text: &str, named: &BTreeMap<String, String>) -> String {
    named
        .iter()
        .fold(text.to_owned(), |text, (old, new)| text.replace(&reference(old), &reference(new)))
}

fn reference(asset: &str) -> String {
    format!("/assets/{asset}")
}

fn hashed(asset: &str, text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    match asset.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{hash}.{extension}"),
        None => format!("{asset}-{hash}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(files: &[(&str, &str)], version: &str) -> (tempfile::TempDir, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("src/assets")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("src").join(name), text).unwrap();
        }
        let names = run(&folder.path().join("src"), &folder.path().join("out"), version).unwrap();
        (folder, names)
    }

    const FILES: &[(&str, &str)] = &[
        ("index.html", "<script src=\"/assets/a.js\"></script>"),
        ("assets/a.js", "import '/assets/b.js'"),
        ("assets/b.js", "// __VERSION__"),
    ];

    #[test]
    fn pages_and_assets_refer_to_the_hashed_names() {
        let (folder, names) = build(FILES, "1");
        let page = std::fs::read_to_string(folder.path().join("out/index.html")).unwrap();
        assert_eq!(page, format!("<script src=\"/assets/{}\"></script>", names[0]));
        let a = std::fs::read_to_string(folder.path().join("out/assets").join(&names[0])).unwrap();
        assert_eq!(a, format!("import '/assets/{}'", names[1]));
    }

    #[test]
    fn the_same_contents_get_the_same_names_and_a_change_below_changes_those_above() {
        assert_eq!(build(FILES, "1").1, build(FILES, "1").1);
        let (one, two) = (build(FILES, "1").1, build(FILES, "2").1);
        assert_ne!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
    }

    #[test]
    fn assets_that_mention_each_other_are_refused() {
        let mut assets = BTreeMap::from([
            ("a.js".to_owned(), "/assets/b.js".to_owned()),
            ("b.js".to_owned(), "/assets/a.js".to_owned()),
        ]);
        assert!(matches!(name(&mut assets), Err(Error::Circle(_))));
    }
}
