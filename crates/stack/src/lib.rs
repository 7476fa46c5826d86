//! A Compose / stack file understood: read with positions, interpolated, merged, checked against
//! one table of keys, and lowered to the service specs `docker stack deploy` would send.
//!
//! Reading order: [`load`] tells the story; [`model`] is what comes out; [`keys`] is the table that
//! decides what a key means; [`lower`] makes request bodies; [`diff`] compares two service specs.
//!
//! This crate never reads a file, a clock or the environment: everything comes in through
//! [`Input`] and [`Files`]. It does not know the engine's API client.

mod diagnostic;
mod dotenv;
mod interpolate;
pub mod lower;
pub mod mask;
pub mod model;
mod order;
mod sink;
mod tree;
mod words;
pub mod quantity;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use lower::{External, Lowered, LoweredService};
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

/// Reads, checks and merges the stack files.
///
/// # Errors
/// Everything that is wrong, not only the first thing.
pub fn load(input: &Input, _files: &dyn Files) -> Result<Loaded, Diagnostics> {
    let file = input.files.first().map(|(path, _)| path.clone()).unwrap_or_default();
    Err(Diagnostics(vec![Diagnostic {
        severity: Severity::Error,
        code: "unreadable",
        message: "stack files cannot be read yet".to_string(),
        hint: None,
        file,
        line: 0,
        column: 0,
        excerpt: None,
    }]))
}
