//! A Compose / stack file understood: read with positions, interpolated, merged, checked against
//! one table of keys, and lowered to the service specs `docker stack deploy` would send.
//!
//! Reading order: [`load`] tells the story; [`model`] is what comes out; [`keys`] is the table that
//! decides what a key means; [`lower`] makes request bodies; [`diff`] compares two service specs.
//!
//! This crate never reads a file, a clock or the environment: everything comes in through
//! [`Input`] and [`Files`]. It does not know the engine's API client.

mod diagnostic;
pub mod diff;
mod dotenv;
mod interpolate;
pub mod keys;
pub mod lower;
pub mod mask;
mod merge;
pub mod model;
mod order;
pub mod quantity;
mod read;
mod sink;
mod tree;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use lower::{External, Lowered, LoweredService};
use sink::Sink;

pub use model::{Artifact, DockerBuild, Service, Stack, StackSettings};

/// What a load works on.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The `-c` files in order, already read; a later one overrides an earlier one.
    pub files: Vec<(PathBuf, String)>,
    /// Variables for interpolation; they win over `.env`.
    pub environment: BTreeMap<String, String>,
    /// The project's `.env`, if there is one.
    pub dot_env: Option<(PathBuf, String)>,
    /// Relative paths in the stack file start here: the folder of the first file.
    pub project_dir: PathBuf,
}

/// The files a stack file refers to: `env_file`, `configs.*.file`, `secrets.*.file`.
pub trait Files {
    /// The text of the file at an absolute path.
    ///
    /// # Errors
    /// Says why the file could not be read, without its path: "no such file".
    fn read(&self, path: &Path) -> Result<String, String>;

    /// The bytes of a config or secret, which need not be text.
    ///
    /// # Errors
    /// As for [`Files::read`].
    fn read_bytes(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.read(path).map(String::into_bytes)
    }
}

/// A stack file that can be deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub stack: Stack,
    pub warnings: Vec<Diagnostic>,
}

/// Reads, interpolates, merges and checks the stack files.
///
/// # Errors
/// Everything that is wrong, not only the first thing.
pub fn load(input: &Input, files: &dyn Files) -> Result<Loaded, Diagnostics> {
    let mut sink = Sink::default();
    let stack = load_into(&mut sink, input, files);
    let warnings = sink.finish()?;
    Ok(Loaded { stack: stack.unwrap_or_default(), warnings })
}

/// The stack as far as it can be read; nothing only after an error was reported.
fn load_into(sink: &mut Sink, input: &Input, files: &dyn Files) -> Option<Stack> {
    let variables = variables(sink, input);
    let lookup = |name: &str| variables.get(name).cloned();
    if input.files.is_empty() {
        let message = "no stack file was given".to_string();
        sink.error_in_hidden_file(&input.project_dir, 0, "no-file", message);
    }
    let mut trees = Vec::new();
    for (path, text) in &input.files {
        let source = sink.add_source(path, text);
        trees.extend(tree::parse(sink, source));
    }
    if trees.len() < input.files.len() || trees.is_empty() {
        return None;
    }
    let errors = sink.errors();
    trees.iter_mut().for_each(|tree| interpolate::interpolate_tree(sink, tree, &lookup));
    let complete = sink.errors() == errors;
    let mut merged = trees.into_iter().reduce(|base, over| merge::merge(base, over, ""))?;
    merge::drop_reset(&mut merged);
    keys::check(sink, &merged);
    complete.then(|| read::read(sink, &merged, files, &lookup, &input.project_dir))
}

/// The environment and what `.env` adds to it.
fn variables(sink: &mut Sink, input: &Input) -> BTreeMap<String, String> {
    let mut variables = input.environment.clone();
    let Some((path, text)) = &input.dot_env else { return variables };
    let outer = |name: &str| input.environment.get(name).cloned();
    match dotenv::parse(text, dotenv::Format::Compose, &outer) {
        Ok(parsed) => {
            for (name, value) in parsed {
                let Some(value) = value else { continue };
                if !input.environment.contains_key(&name) {
                    variables.insert(name, value);
                }
            }
        }
        Err(bad) => {
            for line in bad {
                sink.error_in_hidden_file(path, line.line, "env-syntax", line.message);
            }
        }
    }
    variables
}
