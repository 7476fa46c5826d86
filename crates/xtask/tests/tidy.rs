//! The rules of style that a machine can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Names that say nothing.
const VAGUE: [&str; 9] =
    ["mod", "util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"];

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a root");
    let mut found = Vec::new();
    for folder in ["crates", "examples"] {
        collect(&root.join(folder), &mut found);
    }
    assert!(found.len() > 30, "the sources were found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a readable folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("readable source");
            found.push((path, text));
        }
    }
}

fn none(rule: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_a_sentence_that_says_what_it_is_for() {
    let wrong = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#!["))
        .map(|(path, _)| path.display().to_string())
        .collect();
    none("files without a module doc", wrong);
}

#[test]
fn no_file_grows_beyond_one_concept() {
    let wrong = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(path, lines)| {
            let is_test = path.components().any(|part| part.as_os_str() == "tests");
            *lines > if is_test { 700 } else { 450 }
        })
        .map(|(path, lines)| format!("{} ({lines} lines)", path.display()))
        .collect();
    none("files that are too long", wrong);
}

#[test]
fn names_say_something() {
    let wrong = sources()
        .into_iter()
        .filter(|(path, _)| {
            path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|s| VAGUE.contains(&s))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    none("names that say nothing", wrong);
}

#[test]
fn no_test_sleeps() {
    let needle = concat!("sl", "eep(");
    let wrong = sources()
        .into_iter()
        .filter(|(path, _)| path.components().any(|part| part.as_os_str() == "tests"))
        .filter(|(_, text)| text.contains(needle))
        .map(|(path, _)| path.display().to_string())
        .collect();
    none("tests that sleep instead of awaiting a state", wrong);
}
