//! The ALA frontend: builds the pages with content-hashed assets, and serves them.

use std::path::Path;
use std::process::ExitCode;

mod build;
mod probe;
mod serve;
mod site;

const USAGE: &str = "usage: ala-frontend build <source folder> <output folder> [--version V]
       ala-frontend serve <folder>
       ala-frontend health";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["build", source, output] => run_build(source, output, "dev"),
        ["build", source, output, "--version", version] => run_build(source, output, version),
        ["serve", folder] => serve::run(Path::new(folder)).map_err(|error| error.to_string()),
        ["health"] => return probe::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ala-frontend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_build(source: &str, output: &str, version: &str) -> Result<(), String> {
    let assets = build::run(Path::new(source), Path::new(output), version)
        .map_err(|error| error.to_string())?;
    for asset in assets {
        println!("{asset}");
    }
    Ok(())
}
