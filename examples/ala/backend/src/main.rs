//! The ALA backend: the HTTP API of the medical application, in front of one Postgres database.

use std::process::ExitCode;

mod api;
mod cors;
mod database;
mod fault;
mod health;
mod log;
mod login;
mod migration;
mod password;
mod priority;
mod probe;
mod server;
mod settings;
mod slow;
mod socket;
mod token;
mod treatment;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None | Some("serve") => serve(),
        Some("health") => probe::run(),
        Some(other) => {
            eprintln!("unknown command `{other}`; known are `serve` (the default) and `health`");
            ExitCode::from(2)
        }
    }
}

/// Serves until SIGTERM or SIGINT, then finishes what is in flight.
fn serve() -> ExitCode {
    let settings = match settings::Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            log::error("settings", &error.to_string());
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(server::run(settings)),
        Err(source) => Err(server::Error::Runtime(source)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error("stopped", &error.to_string());
            ExitCode::FAILURE
        }
    }
}
