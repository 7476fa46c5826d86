//! `docker cp` into a task's folders: whatever the archive says and whatever the task does
//! meanwhile, nothing outside is touched.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use engine::copy::{Place, extract};
use tar::{EntryType, Header};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// A task's folder, and one beside it that is none of the task's business.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["task/dir", "outside"] {
            fs::create_dir_all(folder.path().join(part)).expect("made");
        }
        fs::write(folder.path().join("outside/secret"), "untouched").expect("written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn extract(&self, archive: &[u8]) -> std::io::Result<()> {
        let base = self.path("task");
        extract(archive, &|path: &Path| Some(Place { base: base.clone(), path: path.to_owned() }))
    }

    #[track_caller]
    fn outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.path("outside")).expect("there").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let text = fs::read_to_string(self.path("outside/secret")).expect("there");
        assert_eq!(text, "untouched");
    }
}

/// An archive of entries: name, kind, mode, target of a link, content.
fn archive(entries: &[(&str, EntryType, u32, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, mode, target, content) in entries {
        let mut header = Header::new_gnu();
        // As bytes: a well-behaved writer would refuse some of these names.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn file<'a>(name: &'a str, content: &'a [u8]) -> (&'a str, EntryType, u32, &'a str, &'a [u8]) {
    (name, EntryType::Regular, 0o644, "", content)
}

#[test]
fn files_folders_and_links_arrive_without_special_bits() {
    let scene = Scene::new();
    let bytes = archive(&[
        ("a", EntryType::Directory, 0o7750, "", b""),
        ("a/run", EntryType::Regular, 0o6755, "", b"#!"),
        ("/absolute", EntryType::Regular, 0o600, "", b"inside all the same"),
        ("a/link", EntryType::Symlink, 0o777, "run", b""),
        ("new\nline/x", EntryType::Regular, 0o644, "", b"odd"),
    ]);
    scene.extract(&bytes).expect("extracted");
    let mode = |name: &str| fs::metadata(scene.path(name)).expect("there").mode() & 0o7777;
    assert_eq!((mode("task/a"), mode("task/a/run")), (0o750, 0o755));
    assert_eq!(fs::read(scene.path("task/a/link")).expect("there"), b"#!");
    assert!(scene.path("task/absolute").exists() && scene.path("task/new\nline/x").exists());
    scene.outside_is_untouched();
}

#[test]
fn what_leads_out_or_is_no_file_is_refused_with_its_name() {
    for (name, kind) in [
        ("../outside/secret", EntryType::Regular),
        ("dir/../../outside/x", EntryType::Regular),
        ("device", EntryType::Char),
        ("pipe", EntryType::Fifo),
        ("hard", EntryType::Link),
    ] {
        let scene = Scene::new();
        let bytes = archive(&[(name, kind, 0o644, "../outside/secret", b"")]);
        let refused = scene.extract(&bytes).expect_err("refused");
        assert!(refused.to_string().contains(name), "{refused}");
        assert_eq!(fs::read_dir(scene.path("task")).expect("there").count(), 1);
        scene.outside_is_untouched();
    }
}

#[test]
fn links_that_the_task_or_the_archive_set_do_not_lead_out() {
    let scene = Scene::new();
    symlink(scene.path("outside"), scene.path("task/out")).expect("linked");
    symlink("../../outside", scene.path("task/dir/up")).expect("linked");
    symlink(scene.path("outside/secret"), scene.path("task/file")).expect("linked");
    fs::hard_link(scene.path("outside/secret"), scene.path("task/hard")).expect("linked");
    let _ = scene.extract(&archive(&[file("out/x", b"bad")]));
    let _ = scene.extract(&archive(&[file("dir/up/x", b"bad")]));
    // A link of the name is replaced, and so is another name of a file elsewhere.
    scene.extract(&archive(&[file("file", b"new"), file("hard", b"new")])).expect("replaced");
    let link = ("own", EntryType::Symlink, 0o777, "../outside", b"".as_slice());
    let _ = scene.extract(&archive(&[link, file("own/x", b"bad")]));
    scene.outside_is_untouched();
    assert_eq!(fs::read(scene.path("task/file")).expect("there"), b"new");
}

#[test]
fn a_link_that_appears_while_files_are_written_does_not_lead_out() {
    let scene = Scene::new();
    let is_over = AtomicBool::new(false);
    let (dir, kept) = (scene.path("task/dir"), scene.path("task/kept"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = fs::rename(&dir, &kept);
                let _ = symlink(scene.path("outside"), &dir);
                let _ = fs::remove_file(&dir);
                let _ = fs::rename(&kept, &dir);
            }
        });
        let bytes = archive(&[
            ("dir/sub", EntryType::Directory, 0o755, "", b""),
            file("dir/sub/x", b"content"),
            file("dir/secret", b"content"),
        ]);
        for _ in 0..1000 {
            let _ = scene.extract(&bytes);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    scene.outside_is_untouched();
}

#[test]
fn a_file_that_was_cut_off_is_not_there_and_the_one_before_it_stays() {
    let scene = Scene::new();
    fs::write(scene.path("task/config"), "old").expect("written");
    let bytes = archive(&[file("config", &[b'n'; 5000])]);
    let refused = scene.extract(&bytes[..2000]).expect_err("cut");
    assert!(refused.to_string().contains("config"), "{refused}");
    assert_eq!(fs::read_to_string(scene.path("task/config")).expect("there"), "old");
    assert_eq!(fs::read_dir(scene.path("task")).expect("there").count(), 2, "nothing beside it");
    let mut huge = archive(&[file("huge", b"x")]);
    let mut header = Header::new_gnu();
    header.set_path("huge").expect("fits");
    header.set_mode(0o644);
    header.set_size(1 << 40);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    scene.extract(&huge).expect_err("a size without content");
    assert!(!scene.path("task/huge").exists());
}
