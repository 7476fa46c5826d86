//! The files a task sees, by the path that it has for them: its own layer, its working folder, and
//! the image below. What is written goes to the first two; the image is shared by all its tasks.

use std::path::{Component, Path, PathBuf};

use super::mount::{self, Mounted};
use crate::image;

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

    /// Where a path is written: its folder is one of the task's own.
    pub(crate) fn target(&self, path: &Path) -> Option<PathBuf> {
        let path = plain(path);
        let name = path.file_name()?;
        if let Some((source, rest)) = mount::split(&self.mounts, &path) {
            return Some(image::path::resolve(source, rest.parent()?)?.join(name));
        }
        match path.parent() {
            Some(parent) if parent == self.working => Some(self.work.join(name)),
            Some(parent) => Some(image::path::resolve(&self.own, parent)?.join(name)),
            None => None,
        }
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
    use std::fs;

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
        assert_eq!(layer.target(Path::new("/app/new")), Some(task.join("work/new")));
        assert_eq!(layer.target(Path::new("/etc/new")), Some(task.join("files/etc/new")));
        assert_eq!(layer.target(Path::new("/up/x")), Some(task.join("files/x")));
        assert_eq!(layer.target(Path::new("/")), None);
    }
}
