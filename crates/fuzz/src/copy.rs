//! An archive as `docker cp` sends it, into a folder in which the task has set traps.

use std::{fs, os::unix::fs::symlink, path::Path};

use engine::copy::{Place, extract};

use crate::layer::{Canary, is_harmless, scratch};

/// How names begin under which a file is written until it is whole.
const UNFINISHED: &str = ".keel-copy-";

pub fn run(data: &[u8]) {
    // A member may have such a name itself: then nothing can be told from it.
    if data.windows(UNFINISHED.len()).any(|part| part == UNFINISHED.as_bytes()) {
        return;
    }
    let folder = scratch();
    let outside = folder.path().join("outside");
    let canary = Canary::new(&outside);
    let base = folder.path().join("base");
    fs::create_dir_all(base.join("d")).expect("made");
    for (target, link) in [(outside.as_path(), "out"), (Path::new("../outside"), "d/up")] {
        symlink(target, base.join(link)).expect("linked");
    }
    symlink(outside.join("x"), base.join("f")).expect("linked");
    fs::hard_link(outside.join("x"), base.join("h")).expect("linked");
    let place = |path: &Path| Some(Place { base: base.clone(), path: path.to_owned() });
    let _ = extract(data, &place);
    canary.is_as_it_was();
    is_harmless(&base);
    only_whole(&base);
}

/// Nothing is left of a file that was not copied as a whole.
fn only_whole(folder: &Path) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let name = entry.file_name();
        assert!(!name.to_string_lossy().starts_with(UNFINISHED), "{name:?} is left");
        if entry.file_type().expect("known").is_dir() {
            only_whole(&entry.path());
        }
    }
}
