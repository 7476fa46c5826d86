//! Where things are, and how the binaries that users get are built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use conformance::quiet_in_a_pipe;
pub use conformance::{TARGET, target};

/// The repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Builds the static `keel` as it is released and returns its path.
pub fn keel() -> Result<PathBuf> {
    static_binary("cli", "keel")
}

/// A static binary of a crate: what it shares with others built so is compiled once for all.
pub fn static_binary(package: &str, name: &str) -> Result<PathBuf> {
    conformance::build(package, Some(name))
}

/// Builds a binary of a developer crate and returns its path.
pub fn tool(package: &str) -> Result<PathBuf> {
    let mut command = conformance::cargo();
    command.args(["build", "--release", "--package", package]).args(quiet_in_a_pipe());
    let status = command.current_dir(root()).status().context("run cargo")?;
    ensure!(status.success(), "cargo build of {package} ended with {status}");
    Ok(target().join("release").join(package))
}
