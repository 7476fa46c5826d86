//! Every input that is kept, the small real ones and those that once failed, against its target.

use std::{fs, path::Path};

use fuzz::TARGETS;

fn replay(kind: &str) -> usize {
    let mut count = 0;
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let bytes = fs::read(entry.path()).expect("readable");
            eprintln!("{} on {}", target.name, entry.path().display());
            (target.run)(&bytes);
            count += 1;
        }
    }
    count
}

#[test]
fn the_inputs_to_start_from_hold_every_property() {
    assert!(replay("corpus") >= TARGETS.len(), "every target has some");
}

#[test]
fn what_once_failed_does_not_fail_again() {
    replay("regression");
}
