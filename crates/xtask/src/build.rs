//! Where things are, and how the binaries that users get are built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The target of the static binary.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds the static `keel` as it is released and returns its path.
pub fn keel() -> Result<PathBuf> {
    static_binary("cli", "keel")
}

/// A static binary of a crate: what it shares with others built so is compiled once for all.
pub fn static_binary(package: &str, name: &str) -> Result<PathBuf> {
    cargo(
        &["build", "--release", "--quiet", "--package", package, "--target", TARGET],
        Some("-C target-feature=+crt-static"),
    )?;
    Ok(target().join(TARGET).join("release").join(name))
}

/// Builds a binary of a developer crate and returns its path.
pub fn tool(package: &str) -> Result<PathBuf> {
    cargo(&["build", "--release", "--quiet", "--package", package], None)?;
    Ok(target().join("release").join(package))
}

fn cargo(arguments: &[&str], rust_flags: Option<&str>) -> Result<()> {
    let mut command = conformance::cargo();
    command.args(arguments).current_dir(root());
    if let Some(flags) = rust_flags {
        command.env("RUSTFLAGS", flags);
    }
    let status = command.status().context("run cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
