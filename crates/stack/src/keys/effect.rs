//! Test: every key the table calls supported changes what comes out of a file that has it.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Status, child_path, children, table};
use crate::Files;
use crate::model::Stack;
use crate::sink::Sink;
use crate::tree::{Kind, Node};

const EVERYTHING: &str = include_str!("../../tests/data/good/everything/stack.yml");

/// Supported keys that say something true already: what they ask for is done anyway.
const WITHOUT_EFFECT: [&str; 3] =
    ["version", "services.*.depends_on.*.condition", "services.*.env_file[].required"];

struct NoFiles;

impl Files for NoFiles {
    fn read(&self, path: &Path) -> Result<String, String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "main.env" => Ok("A=1\n".to_string()),
            "raw.env" => Ok("RAW='x'\n".to_string()),
            _ => Err("no such file".to_string()),
        }
    }
}

fn read(tree: &Node) -> (Stack, usize) {
    let mut sink = Sink::default();
    sink.add_source(Path::new("stack.yml"), EVERYTHING);
    let lookup = |name: &str| (name == "FROM_OUTSIDE").then(|| "outside".to_string());
    let stack = crate::read::read(&mut sink, tree, &NoFiles, &lookup, Path::new("/project"));
    (stack, sink.errors())
}

/// Every place of the tree at which a path of the table stands, as child indexes from the root.
fn places(
    node: &Node,
    path: &str,
    at: &mut Vec<usize>,
    out: &mut BTreeMap<String, Vec<Vec<usize>>>,
) {
    match &node.kind {
        Kind::Null | Kind::Scalar(_) => {}
        Kind::Seq(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push(index);
                places(item, &format!("{path}[]"), at, out);
                at.pop();
            }
        }
        Kind::Map(entries) if children(path).is_some() => {
            for (index, entry) in entries.iter().enumerate() {
                let path = child_path(path, &entry.key);
                at.push(index);
                out.entry(path.clone()).or_default().push(at.clone());
                places(&entry.value, &path, at, out);
                at.pop();
            }
        }
        Kind::Map(_) => {}
    }
}

fn without(tree: &Node, place: &[usize]) -> Node {
    let mut tree = tree.clone();
    let mut node = &mut tree;
    let (last, above) = place.split_last().unwrap();
    for index in above {
        node = match &mut node.kind {
            Kind::Seq(items) => &mut items[*index],
            Kind::Map(entries) => &mut entries[*index].value,
            Kind::Null | Kind::Scalar(_) => unreachable!("a place leads through lists and maps"),
        };
    }
    if let Kind::Map(entries) = &mut node.kind {
        entries.remove(*last);
    }
    tree
}

#[test]
fn every_supported_key_changes_what_is_read() {
    let mut sink = Sink::default();
    let source = sink.add_source(Path::new("stack.yml"), EVERYTHING);
    let tree = crate::tree::parse(&mut sink, source).unwrap();
    let (whole, errors) = read(&tree);
    assert_eq!(errors, 0);
    let mut found = BTreeMap::new();
    places(&tree, "", &mut Vec::new(), &mut found);
    let supported = table().filter(|key| key.status == Status::Supported);
    for key in supported.filter(|key| !WITHOUT_EFFECT.contains(&key.path)) {
        let Some(places) = found.get(key.path) else {
            panic!("`{}` is not in tests/data/good/everything/stack.yml", key.path);
        };
        let effective = places.iter().any(|place| {
            let (changed, errors) = read(&without(&tree, place));
            changed != whole || errors > 0
        });
        assert!(effective, "`{}` is called supported and has no effect", key.path);
    }
}

#[test]
fn no_path_is_in_the_table_twice_and_every_parent_is_there() {
    let mut paths = std::collections::BTreeSet::new();
    for key in table() {
        assert!(paths.insert(key.path), "`{}` is there twice", key.path);
    }
    for key in table() {
        let Some((parent, _)) = key.path.rsplit_once('.') else { continue };
        let parent = parent.trim_end_matches("[]");
        assert!(paths.contains(parent), "`{}` has no parent `{parent}`", key.path);
    }
}
