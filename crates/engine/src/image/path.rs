//! Paths inside an image's folder, resolved as if that folder were `/`: a link never leads out.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

/// Links that one path may pass, as in Linux.
const LINK_LIMIT: u32 = 40;

/// The file that `path` means to somebody whose root is `root`; every link is followed. It need
/// not exist. None when the links go round in circles.
pub(crate) fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    walk(root, path, true)
}

/// As [`resolve`], but the last part itself is not followed: it may be replaced.
pub(super) fn resolve_parent(root: &Path, path: &Path) -> Option<PathBuf> {
    walk(root, path, false)
}

fn walk(root: &Path, path: &Path, does_follow_last: bool) -> Option<PathBuf> {
    let mut todo: VecDeque<OsString> = parts(path).collect();
    let mut found = root.to_owned();
    let mut depth = 0_u32;
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            if depth > 0 {
                found.pop();
                depth -= 1;
            }
            continue;
        }
        let next = found.join(&part);
        let is_last = todo.is_empty();
        let target = if is_last && !does_follow_last { None } else { fs::read_link(&next).ok() };
        let Some(target) = target else {
            found = next;
            depth += 1;
            continue;
        };
        links += 1;
        if links > LINK_LIMIT {
            return None;
        }
        if target.is_absolute() {
            found = root.to_owned();
            depth = 0;
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            todo.push_front(part);
        }
    }
    Some(found)
}

/// The names of a path, with `..` but without roots and dots.
fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_and_never_out_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("usr/bin")).expect("made");
        symlink("usr/bin", root.join("bin")).expect("linked");
        symlink("/usr/bin", root.join("absolute")).expect("linked");
        symlink("../../../../etc", root.join("out")).expect("linked");
        symlink("round", root.join("round")).expect("linked");
        let of = |path: &str| resolve(root, Path::new(path));
        assert_eq!(of("/bin/app"), Some(root.join("usr/bin/app")));
        assert_eq!(of("absolute/app"), Some(root.join("usr/bin/app")));
        assert_eq!(of("out/passwd"), Some(root.join("etc/passwd")));
        assert_eq!(of("../../x"), Some(root.join("x")));
        assert_eq!(of("round/x"), None);
        assert_eq!(resolve_parent(root, Path::new("bin")), Some(root.join("bin")));
    }
}
