//! What other tests share with the exam: engines, its service as an image, and static binaries.

pub mod engine;
pub mod image;
pub mod registry;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// The target of static binaries.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The workspace's target folder.
pub fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Cargo, without what another cargo told this process of its own package: build scripts that look at
/// it would run again for each package that asks, and all that is built on them would be built anew.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in std::env::vars_os() {
        let of_package = |prefix: &&str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(of_package) {
            command.env_remove(&name);
        }
    }
    command
}

/// On a terminal cargo shows how far it is.
pub fn quiet_in_a_pipe() -> Option<&'static str> {
    (!std::io::stderr().is_terminal()).then_some("--quiet")
}

/// Builds a static binary: `keel` itself, or one of this crate's.
pub fn build(package: &str, binary: Option<&str>) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--target", TARGET, "--package", package]);
    command.args(quiet_in_a_pipe());
    if let Some(binary) = binary {
        command.args(["--bin", binary]);
    }
    let status = command.env("RUSTFLAGS", "-C target-feature=+crt-static").status()?;
    ensure!(status.success(), "cargo build of {package} ended with {status}");
    Ok(target().join(TARGET).join("release").join(binary.unwrap_or("keel")))
}

/// Looks again and again until it is so; after half a minute it says what is not.
pub fn until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !is_so()? {
        ensure!(started.elapsed() < Duration::from_secs(30), "not so for 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
