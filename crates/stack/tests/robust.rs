//! No text makes a load or a comparison panic, whatever is in it.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use stack::{Files, Input};

struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> Result<String, String> {
        Ok("A=${B:-1}\n'".to_string())
    }
}

fn load(texts: &[String], dot_env: Option<String>) {
    let files = texts.iter().enumerate();
    let input = Input {
        files: files.map(|(n, text)| (PathBuf::from(format!("{n}.yml")), text.clone())).collect(),
        environment: [("SET".to_string(), "va$lue".to_string())].into(),
        dot_env: dot_env.map(|text| (PathBuf::from(".env"), text)),
        project_dir: PathBuf::from("/project"),
    };
    match stack::load(&input, &NoFiles) {
        Ok(loaded) => {
            let lowered = loaded.stack.lower("ns");
            for pair in lowered.services.windows(2) {
                stack::diff::changes(&pair[0].spec, &pair[1].spec);
            }
            loaded.warnings.iter().for_each(|w| drop(w.rendered()));
        }
        Err(report) => {
            assert!(report.errors().count() > 0);
            assert!(report.rendered().contains("error"));
            assert!(!report.to_string().is_empty());
        }
    }
}

fn seeds() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut seeds = Vec::new();
    for kind in ["good/everything", "good/guide", "good/several-files", "good/short-forms", "bad"] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yml") {
                seeds.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    seeds.sort();
    seeds
}

/// Pieces that mean something to YAML, Compose or interpolation.
const PIECES: [&str; 28] = [
    ":",
    " ",
    "\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "$",
    "${",
    "${A:?",
    ":-",
    "!reset ",
    "!override ",
    "|\n",
    "#",
    "\t",
    "services:",
    "é",
    "\u{feff}",
    "99999999999999999999",
    "\0",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    CopyLine(prop::sample::Index, prop::sample::Index),
    DropLine(prop::sample::Index),
    Indent(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 0..PIECES.len()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<Index>(), 1..12usize).prop_map(|(at, n)| Edit::Remove(at, n)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::CopyLine(a, b)),
        any::<Index>().prop_map(Edit::DropLine),
        any::<Index>().prop_map(Edit::Indent),
    ]
}

fn apply(text: &str, edit: &Edit) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = text.split('\n').map(str::to_string).collect();
    match edit {
        Edit::Insert(at, piece) => {
            let at = at.index(chars.len() + 1);
            chars.splice(at..at, PIECES[*piece].chars());
            chars.into_iter().collect()
        }
        Edit::Remove(at, n) => {
            let at = at.index(chars.len() + 1);
            let end = (at + n).min(chars.len());
            chars.drain(at..end);
            chars.into_iter().collect()
        }
        Edit::CopyLine(from, to) => {
            let line = lines[from.index(lines.len())].clone();
            lines.insert(to.index(lines.len()), line);
            lines.join("\n")
        }
        Edit::DropLine(at) => {
            lines.remove(at.index(lines.len()));
            lines.join("\n")
        }
        Edit::Indent(at) => {
            let at = at.index(lines.len());
            lines[at].insert_str(0, "  ");
            lines.join("\n")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), env in any::<String>()) {
        load(&[text], Some(env));
    }

    #[test]
    fn text_made_of_meaningful_pieces_never_panics(
        pieces in prop::collection::vec(0..PIECES.len(), 0..60)
    ) {
        let text: String = pieces.iter().map(|piece| PIECES[*piece]).collect();
        load(std::slice::from_ref(&text), Some(text.clone()));
        load(&[format!("services:\n  a:\n    image: a\n    {text}")], None);
    }

    #[test]
    fn a_mutated_stack_file_never_panics(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 1..8),
    ) {
        let seeds = seeds();
        let text = edits.iter().fold(seeds[seed.index(seeds.len())].clone(), |t, e| apply(&t, e));
        load(&[text], None);
    }

    #[test]
    fn two_files_of_any_shape_merge_without_a_panic(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 0..4),
    ) {
        let seeds = seeds();
        let over = edits.iter().fold(seeds[second.index(seeds.len())].clone(), |t, e| apply(&t, e));
        load(&[seeds[first.index(seeds.len())].clone(), over], None);
    }
}

#[test]
fn deep_nesting_and_large_files_are_refused_quickly() {
    let started = std::time::Instant::now();
    load(&["[".repeat(100_000)], None);
    load(&[format!("services: {}", "{a: ".repeat(5_000))], None);
    load(&[(0..500).map(|n| format!("{}- a:\n", "  ".repeat(n))).collect()], None);
    load(&["x".repeat(5 << 20)], None);
    load(&[format!("services: {{a: {{image: \"{}\"}}}}", "${A:-".repeat(50_000))], None);
    assert!(started.elapsed().as_secs() < 10);
}
