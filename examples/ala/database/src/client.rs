//! The programs beside the server, as `docker exec` finds them: the machine's own, told where this
//! server is. Whoever may run them here is let in without a password, as in Docker's image.

use std::{ffi::OsString, os::unix::process::CommandExt, path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::settings::{self, Settings};

/// The names under which this binary stands in the image.
pub const PROGRAMS: &[&str] = &[
    "psql",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "pg_isready",
    "createdb",
    "dropdb",
    "vacuumdb",
];

/// Becomes the machine's program of this name.
pub fn become_program(name: &str, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let program = Path::new(settings::PROGRAMS).join(name);
    let mut command = std::process::Command::new(&program);
    command.args(arguments);
    for (key, value) in place(&settings) {
        // What was said for this one call comes first.
        if std::env::var_os(key).is_none() {
            command.env(key, value);
        }
    }
    Err(command.exec()).with_context(|| format!("run {}", program.display()))
}

fn place(settings: &Settings) -> [(&'static str, OsString); 3] {
    [
        ("PGHOST", settings.data.clone().into_os_string()),
        ("PGPORT", settings.port.to_string().into()),
        ("PGUSER", settings.user.clone().into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_of_the_socket_in_the_data() {
        let environment = [("PGDATA", "/data"), ("PORT", "20001"), ("POSTGRES_USER", "ala")];
        let settings = Settings::read(|name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let place = place(&settings.expect("fine"));
        let place = place.map(|(key, value)| format!("{key}={}", value.to_string_lossy()));
        assert_eq!(place, ["PGHOST=/data", "PGPORT=20001", "PGUSER=ala"]);
    }
}
