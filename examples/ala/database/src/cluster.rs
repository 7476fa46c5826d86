//! The cluster in the data folder: made once, with its one user and one database.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    owner::{Owner, command},
    settings::{PROGRAMS, Settings},
};

/// Where a cluster is made; it is there for as long as that is not finished.
const UNFINISHED: &str = "unfinished";
/// What says that there is a cluster.
const VERSION: &str = "PG_VERSION";

/// Makes the cluster unless it is there. One that another made is used as it is.
pub fn prepare(settings: &Settings, owner: Option<Owner>) -> Result<()> {
    let data = &settings.data;
    ensure!(
        Path::new(PROGRAMS).join("postgres").is_file(),
        "PostgreSQL 15 is not installed ({PROGRAMS} is missing); `apt-get install postgresql-15`"
    );
    fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
    give(data, owner)?;
    let unfinished = data.join(UNFINISHED);
    if data.join(VERSION).exists() && !unfinished.exists() {
        return Ok(());
    }
    if !data.join(VERSION).exists() {
        println!("making a new cluster for {} in {}", settings.user, data.display());
        make(settings, &unfinished, owner)?;
    }
    introduce(settings, owner)?;
    fs::remove_dir_all(&unfinished).context("finish the new cluster")
}

fn give(folder: &Path, owner: Option<Owner>) -> Result<()> {
    if let Some(owner) = owner {
        chown(folder, Some(owner.uid), Some(owner.gid))
            .with_context(|| format!("give {} to the user of the database", folder.display()))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close {} to others", folder.display()))
}

/// Made beside and moved to its place, what says that it is there last: however it is cut short, it
/// is made anew or is whole.
fn make(settings: &Settings, beside: &Path, owner: Option<Owner>) -> Result<()> {
    ensure!(
        !settings.password.is_empty(),
        "no password for a new cluster: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"
    );
    let data = &settings.data;
    for entry in fs::read_dir(data).context("look at what is there")?.flatten() {
        let gone = match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        gone.with_context(|| format!("clear {}", entry.path().display()))?;
    }
    fs::create_dir(beside).context("make a folder for the new cluster")?;
    give(beside, owner)?;
    let mut initdb = command(&format!("{PROGRAMS}/initdb"), owner);
    initdb.arg("-D").arg(beside).args(["-U", &settings.user, "-E", "UTF8", "--locale=C"]);
    initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
    run(initdb, "", "")?;
    let mut entries: Vec<_> = fs::read_dir(beside)?.flatten().map(|e| e.file_name()).collect();
    entries.sort_by_key(|name| name == VERSION);
    for name in entries {
        fs::rename(beside.join(&name), data.join(&name)).context("move the new cluster")?;
    }
    Ok(())
}

/// The user's password and the database. Done twice it changes nothing.
fn introduce(settings: &Settings, owner: Option<Owner>) -> Result<()> {
    let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let password = settings.password.replace('\'', "''");
    let mut orders = format!("ALTER USER {} PASSWORD '{password}';\n\n", name(&settings.user));
    if settings.database != "postgres" {
        orders.push_str(&format!("CREATE DATABASE {};\n\n", name(&settings.database)));
    }
    let mut single = command(&format!("{PROGRAMS}/postgres"), owner);
    single.args(["--single", "-j", "-D"]).arg(&settings.data).arg("postgres");
    run(single, &orders, &password)
}

/// `secret` is not told when it fails.
fn run(mut command: Command, input: &str, secret: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has ended already tells why in its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let mut said = String::from_utf8_lossy(&said).trim().to_owned();
    if !secret.is_empty() {
        said = said.replace(secret, "…");
    }
    if !output.status.success() {
        bail!("{program} failed: {said}");
    }
    Ok(())
}
