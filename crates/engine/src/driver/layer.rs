//! The files a task sees, by the path that it has for them: its own layer, its working folder, and
//! the image below. What is written goes to the first two; the image is shared by all its tasks.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::mount::{self, Mounted};
use crate::{
    copy::{Entry, Folder, Place},
    image,
};

/// Where the files of one task are.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Secrets, configs, and what was copied in.
    own: PathBuf,
    work: PathBuf,
    root: PathBuf,
    /// What the image or the service calls the working folder.
    working: PathBuf,
    mounts: Vec<Mounted>,
}

impl Layer {
    pub(crate) fn new(folder: &Path, root: &Path, working: &str, mounts: Vec<Mounted>) -> Self {
        Self {
            mounts,
            own: folder.join("files"),
            work: folder.join("work"),
            root: root.to_owned(),
            working: plain(Path::new(working)),
        }
    }

    /// The file or folder that a path means; none when there is nothing.
    pub(crate) fn find(&self, path: &str) -> Option<PathBuf> {
        let path = plain(Path::new(path));
        if let Some((source, rest)) = mount::split(&self.mounts, &path) {
            return image::path::resolve(source, rest).filter(|found| found.exists());
        }
        let own = || image::path::resolve(&self.own, &path).filter(|found| found.exists());
        let work = || {
            let rest = path.strip_prefix(&self.working).ok()?;
            let found = self.work.join(rest);
            (!rest.as_os_str().is_empty() && found.exists()).then_some(found)
        };
        let image = || image::path::resolve(&self.root, &path).filter(|found| found.exists());
        own().or_else(work).or_else(image)
    }

    /// The file or folder that a path means, opened in a way that cannot be led elsewhere: links
    /// of the task count only where they stay in what is the task's own.
    pub(crate) fn entry(&self, path: &str) -> Option<Entry> {
        let real = fs::canonicalize(self.find(path)?).ok()?;
        let mounts = self.mounts.iter().map(|mount| mount.source.as_path());
        let own = [self.own.as_path(), self.work.as_path(), self.root.as_path()];
        mounts.chain(own).find_map(|base| {
            let base = fs::canonicalize(base).ok()?;
            let rest = real.strip_prefix(&base).ok()?;
            match base.is_dir() {
                true => Folder::open(&base).ok()?.exactly(rest).ok(),
                // A single file that is mounted.
                false => {
                    Folder::open(base.parent()?).ok()?.exactly(base.file_name()?.as_ref()).ok()
                }
            }
        })
    }

    /// Where a path is written: one of the task's own folders, never the image's.
    pub(crate) fn target(&self, path: &Path) -> Option<Place> {
        let path = plain(path);
        path.file_name()?;
        if let Some((source, rest)) = mount::split(&self.mounts, &path) {
            rest.file_name()?;
            return Some(Place { base: source.to_owned(), path: rest.to_owned() });
        }
        let rest = path.strip_prefix(&self.working).ok();
        // What the image has in the working folder is there as links, which lead out.
        let is_work = |rest: &&Path| match rest.components().next() {
            Some(first) if rest.components().count() > 1 => {
                fs::symlink_metadata(self.work.join(first)).is_ok_and(|known| known.is_dir())
            }
            first => first.is_some(),
        };
        Some(match rest.filter(is_work) {
            Some(rest) => Place { base: self.work.clone(), path: rest.to_owned() },
            None => Place { base: self.own.clone(), path: path.strip_prefix("/").ok()?.to_owned() },
        })
    }
}

/// Absolute, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::ParentDir => drop(plain.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_the_task_s_own_files_first_and_never_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let (task, root) = (folder.path().join("task"), folder.path().join("root"));
        for path in ["task/files/etc", "task/work", "root/etc", "root/app"] {
            fs::create_dir_all(folder.path().join(path)).expect("made");
        }
        fs::write(root.join("etc/a"), "image").expect("written");
        fs::write(root.join("etc/b"), "image").expect("written");
        fs::write(task.join("files/etc/a"), "own").expect("written");
        fs::write(task.join("work/c"), "work").expect("written");
        fs::write(folder.path().join("outside"), "secret").expect("written");
        std::os::unix::fs::symlink("/", task.join("files/up")).expect("linked");
        let layer = Layer::new(&task, &root, "/app", Vec::new());
        let read = |path: &str| layer.find(path).and_then(|found| fs::read_to_string(found).ok());
        assert_eq!(read("/etc/a").as_deref(), Some("own"));
        assert_eq!(read("etc/b").as_deref(), Some("image"));
        assert_eq!(read("/app/c").as_deref(), Some("work"));
        assert_eq!(read("/../outside"), None);
        assert_eq!(read("/up/../../outside"), None);
        let place =
            |base: &str, path: &str| Some(Place { base: task.join(base), path: path.into() });
        assert_eq!(layer.target(Path::new("/app/new")), place("work", "new"));
        assert_eq!(layer.target(Path::new("/etc/new")), place("files", "etc/new"));
        assert_eq!(layer.target(Path::new("/up/../x")), place("files", "x"));
        assert_eq!(layer.target(Path::new("/")), None);
    }
    #[test]
    fn links_count_only_where_they_stay_in_what_the_task_has() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let (task, root) = (folder.path().join("task"), folder.path().join("root"));
        for path in ["task/files", "task/work", "root/app/sub", "volume", "outside"] {
            fs::create_dir_all(folder.path().join(path)).expect("made");
        }
        for path in ["root/app/a", "root/app/sub/b", "volume/v", "outside/secret"] {
            fs::write(folder.path().join(path), path).expect("written");
        }
        symlink(root.join("app/a"), task.join("work/a")).expect("linked");
        symlink(root.join("app/sub"), task.join("work/sub")).expect("linked");
        symlink(folder.path().join("outside"), task.join("work/out")).expect("linked");
        symlink("../../outside/secret", task.join("work/secret")).expect("linked");
        symlink(folder.path().join("outside/secret"), folder.path().join("volume/secret"))
            .expect("linked");
        let mounts = vec![Mounted { target: "/data".into(), source: folder.path().join("volume") }];
        let layer = Layer::new(&task, &root, "/app", mounts);
        for there in ["/app", "/app/a", "/app/sub/b", "/data", "/data/v", "/app/../data/v"] {
            assert!(layer.entry(there).is_some(), "{there}");
        }
        for elsewhere in ["/app/out", "/app/out/secret", "/app/secret", "/data/secret", "/nothing"]
        {
            assert!(layer.entry(elsewhere).is_none(), "{elsewhere}");
        }
        let place = |base: PathBuf, path: &str| Some(Place { base, path: path.into() });
        // What the image has is not written to, whatever the working folder's links say.
        assert_eq!(
            layer.target(Path::new("/app/sub/new")),
            place(task.join("files"), "app/sub/new")
        );
        fs::create_dir(task.join("work/own")).expect("made");
        assert_eq!(layer.target(Path::new("/app/own/new")), place(task.join("work"), "own/new"));
        assert_eq!(
            layer.target(Path::new("/data/d/new")),
            place(folder.path().join("volume"), "d/new")
        );
    }
}
