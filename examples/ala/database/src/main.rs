//! The database of ALA where there is no Docker to run `postgres:15`: this machine's own PostgreSQL,
//! started the way that image is (`POSTGRES_USER`, `POSTGRES_PASSWORD`, `POSTGRES_DB`, `PGDATA`).
//!
//! The same binary stands in the image as `psql`, `pg_dump`, `pg_isready` and others: called so, it
//! becomes the machine's program of that name, told where this server is.
//!
//! Reading order: `settings` (what the environment says), `cluster` (made once), `server` (run and
//! ended), `client` (the programs beside it).

mod client;
mod cluster;
mod owner;
mod server;
mod settings;

use std::{path::Path, process::ExitCode};

use anyhow::Result;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let outcome = match client::PROGRAMS.contains(&name.as_str()) {
        true => client::become_program(&name, arguments),
        false => serve(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<ExitCode> {
    let settings = settings::Settings::read(|name| std::env::var(name).ok())?;
    let owner = owner::find()?;
    cluster::prepare(&settings, owner)?;
    server::run(&settings, owner)
}
