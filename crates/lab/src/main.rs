//! The lab on the command line: `lab up`, `lab status`, `lab env`, `lab down`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use lab::{Error, Lab, Options};

#[derive(Parser)]
#[command(about = "Real Docker Swarms of one or several nodes on one machine (needs root)")]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Makes a lab that stays until `down`, and prints its nodes
    Up {
        /// Nodes that are managers
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Further nodes that are workers
        #[arg(long, default_value_t = 0)]
        workers: usize,
        /// An empty or new folder for its data [default: one in the temporary folder]
        folder: Option<PathBuf>,
    },
    /// Removes the lab in this folder with everything that belongs to it
    Down { folder: PathBuf },
    /// The nodes of the lab in this folder, or of all labs
    Status { folder: Option<PathBuf> },
    /// Prints what lets the docker client and keel talk to a node
    Env {
        folder: PathBuf,
        /// Which node, from 0
        #[arg(long, default_value_t = 0)]
        node: usize,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), Error> {
    match what {
        What::Up { nodes, workers, folder } => {
            let lab = Lab::up(&Options { managers: nodes, workers, folder, is_kept: true })?;
            print(&lab);
            let folder = lab.folder().display();
            eprintln!("lab: {folder} is ready; `scripts/lab down {folder}` removes it");
        }
        What::Down { folder } => {
            Lab::open(&folder)?.down()?;
            eprintln!("lab: {} is gone", folder.display());
        }
        What::Status { folder: Some(folder) } => print(&Lab::open(&folder)?),
        What::Status { folder: None } => Lab::all().iter().for_each(print),
        What::Env { folder, node } => env(&folder, node)?,
    }
    Ok(())
}

fn print(lab: &Lab) {
    let state = if lab.is_abandoned() { "  (its process is gone)" } else { "" };
    println!("{}  {}{state}", lab.folder().display(), lab.name());
    for node in lab.nodes() {
        let pid = node.dockerd_pid().map_or_else(|| "down".to_owned(), |pid| pid.to_string());
        let id = node.id().unwrap_or_else(|_| "-".to_owned());
        let (name, address, space) = (&node.name, node.address, &node.namespace);
        println!(
            "  {name}  {address:<15}  {space:<16}  dockerd {pid:<8}  {id:<25}  {}",
            node.docker_host()
        );
    }
}

fn env(folder: &Path, index: usize) -> Result<(), Error> {
    let lab = Lab::open(folder)?;
    let Some(node) = lab.nodes().get(index) else {
        let wanted = format!("{} nodes", lab.nodes().len());
        return Err(Error::Options { wanted, reason: "it has no such node" });
    };
    println!("export DOCKER_HOST={}", node.docker_host());
    Ok(())
}
