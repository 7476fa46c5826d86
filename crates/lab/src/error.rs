//! What can go wrong with a lab, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a lab needs `{component}` ({purpose}); `scripts/setup dockerd` installs it")]
    Missing { component: &'static str, purpose: &'static str },
    #[error("a lab needs root: it makes network namespaces and starts Docker daemons")]
    NotRoot,
    #[error("this kernel lacks {feature}, which a lab needs: {said}")]
    Kernel { feature: &'static str, said: String },
    #[error("`{line}` failed: {said}")]
    Command { line: String, said: String },
    #[error("not seen within {} s: {what}{}", limit.as_secs(), detail(said))]
    Deadline { what: String, limit: Duration, said: String },
    #[error("a lab of {wanted}: {reason}")]
    Options { wanted: String, reason: &'static str },
    #[error("folder `{}`: {reason}", folder.display())]
    Folder { folder: PathBuf, reason: String },
    #[error("no lab in `{}`; `scripts/lab status` lists those there are", folder.display())]
    NoSuchLab { folder: PathBuf },
    #[error("no unused 10.x.y.0/24 is left on this machine")]
    NoNetwork,
    #[error("{what} `{}`: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the lab in `{}` left something behind: {what}", folder.display())]
    Leftover { folder: PathBuf, what: String },
}

fn detail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; last: {said}") }
}

/// For `map_err`: an IO error with its verb and path.
pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}
