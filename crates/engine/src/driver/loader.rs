//! Whether a program can run outside its image: a static one can, and one whose loader is this
//! machine's. One that needs the loader and the libraries of its image cannot.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::layer::Layer;

/// What is read of a program; the headers are at its beginning.
const HEAD: u64 = 64 * 1024;
/// A script that is run by a script, and so on.
const DEEPEST: u32 = 4;
const INTERPRETER: u32 = 3;

/// What keeps a program, found among a container's files, from running here.
pub(crate) fn obstacle(program: &Path, layer: &Layer) -> Option<String> {
    look(program, layer, DEEPEST)
}

fn look(program: &Path, layer: &Layer, depth: u32) -> Option<String> {
    let mut head = Vec::new();
    File::open(program).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    if let Some(script) = script_interpreter(&head) {
        // Its own interpreter is meant, where the image has one.
        let own = layer.find(&script.to_string_lossy()).filter(|own| own.is_file())?;
        return look(&own, layer, depth.checked_sub(1)?);
    }
    let loader = interpreter(&head)?;
    let name = loader.to_string_lossy();
    let own = layer.find(&name).is_some();
    match (own, loader.exists()) {
        (true, _) => Some(format!("it needs the loader {name} and the libraries of its image")),
        (false, false) => Some(format!("it needs the loader {name}, which this machine lacks")),
        (false, true) => None,
    }
}

/// Of `#!/bin/sh`.
fn script_interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_whitespace();
    let program = words.next()?;
    Some(match (program.rsplit('/').next(), words.next()) {
        (Some("env"), Some(named)) => Path::new("/bin").join(named),
        _ => PathBuf::from(program),
    })
}

/// The loader that a 64-bit ELF program names.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let index = |value: u64| usize::try_from(value).ok();
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (index(number(32, 8)?)?, index(number(54, 2)?)?, number(56, 2)?);
    for entry in 0..index(count)? {
        let at = table.checked_add(entry.checked_mul(size)?)?;
        if number(at, 4)? != u64::from(INTERPRETER) {
            continue;
        }
        let (start, length) = (index(number(at + 8, 8)?)?, index(number(at + 32, 8)?)?);
        let name = head.get(start..start.checked_add(length)?)?;
        let name = name.split(|byte| *byte == 0).next()?;
        return Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A program with nothing but a loader's name.
    fn elf(loader: &str) -> Vec<u8> {
        let mut bytes = vec![0_u8; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[32], bytes[54], bytes[56]) = (64, 56, 1);
        (bytes[64], bytes[72], bytes[96]) =
            (3, 120, u8::try_from(loader.len()).expect("short") + 1);
        bytes.extend(loader.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_program_that_needs_its_image_s_loader_is_found_out_behind_a_script_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("lib")).expect("made");
        fs::create_dir_all(root.join("bin")).expect("made");
        let write = |path: &str, bytes: &[u8]| {
            fs::write(root.join(path), bytes).expect("written");
            root.join(path)
        };
        let layer = Layer::new(&folder.path().join("task"), &root, "/", Vec::new());
        let absent = write("bin/absent", &elf("/nowhere/ld-x.so"));
        let said = obstacle(&absent, &layer).expect("found out");
        assert_eq!(said, "it needs the loader /nowhere/ld-x.so, which this machine lacks");
        let sh = write("bin/sh", &elf("/lib/ld-own.so"));
        write("lib/ld-own.so", b"loader");
        assert!(obstacle(&sh, &layer).expect("found out").contains("libraries of its image"));
        let script = write("start", b"#!/bin/sh -e\necho\n");
        assert!(obstacle(&script, &layer).is_some());
        let own = std::env::current_exe().expect("this test");
        assert_eq!(obstacle(&own, &layer), None);
        assert_eq!(obstacle(&write("static", b"\x7fELF\x02\x01"), &layer), None);
        let cut = &elf("/lib/ld-own.so")[..100];
        assert_eq!(obstacle(&write("cut", cut), &layer), None);
    }
}
