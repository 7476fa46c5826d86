//! The site in memory: which path has which file, and how long a browser may keep it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub contents: Bytes,
    pub media_type: &'static str,
    pub cache: &'static str,
}

const FOREVER: &str = "public, max-age=31536000, immutable";
const ASK_FIRST: &str = "no-cache";

#[derive(Debug, Default)]
pub struct Site {
    files: BTreeMap<String, File>,
}

impl Site {
    /// Reads the pages of a built folder and its `assets/`.
    pub fn read(folder: &Path) -> Result<Site, (PathBuf, std::io::Error)> {
        let mut site = Site::default();
        site.add(folder, "/", ASK_FIRST)?;
        site.add(&folder.join("assets"), "/assets/", FOREVER)?;
        Ok(site)
    }

    /// The file at a path. An asset of another version is answered by this version's asset of the
    /// same name, not to be kept: while versions change, a page of the one may ask the other.
    pub fn find(&self, path: &str) -> Option<File> {
        let path = if path == "/" { "/index.html" } else { path };
        if let Some(file) = self.files.get(path) {
            return Some(file.clone());
        }
        let wanted = stem(path)?;
        let (_, file) = self.files.iter().find(|(other, _)| stem(other) == Some(wanted))?;
        Some(File { cache: "no-store", ..file.clone() })
    }

    fn add(
        &mut self,
        folder: &Path,
        prefix: &str,
        cache: &'static str,
    ) -> Result<(), (PathBuf, std::io::Error)> {
        let failed = |source| (folder.to_owned(), source);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() {
                let contents = std::fs::read(&path).map_err(|source| (path.clone(), source))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let media_type = media_type(&name);
                let file = File { contents: contents.into(), media_type, cache };
                self.files.insert(format!("{prefix}{name}"), file);
            }
        }
        Ok(())
    }
}

/// `/assets/Name-<hash>.js` without its hash, as name and extension.
fn stem(path: &str) -> Option<(&str, &str)> {
    let (name, extension) = path.strip_prefix("/assets/")?.rsplit_once('.')?;
    let (name, hash) = name.rsplit_once('-')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some((name, extension))
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assets")).unwrap();
        std::fs::write(folder.path().join("index.html"), "page").unwrap();
        std::fs::write(folder.path().join("assets/List-0123abcd.js"), "code").unwrap();
        Site::read(folder.path()).unwrap()
    }

    #[test]
    fn assets_are_kept_for_ever_and_pages_are_asked_for_first() {
        let site = site();
        assert_eq!(site.find("/").unwrap().cache, ASK_FIRST);
        assert_eq!(site.find("/assets/List-0123abcd.js").unwrap().cache, FOREVER);
        assert_eq!(site.find("/assets/Other-0123abcd.js"), None);
        assert_eq!(site.find("/../etc/passwd"), None);
    }

    #[test]
    fn an_asset_of_another_version_is_answered_but_not_to_be_kept() {
        let file = site().find("/assets/List-99999999.js").unwrap();
        assert_eq!((&file.contents[..], file.cache), (&b"code"[..], "no-store"));
    }
}
