//! `docker stack`: deployed, deployed again, changed, removed.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::{Scenario, scenario};
use crate::exam::{Exam, Said, text};

pub const ALL: &[Scenario] = &[
    scenario("C62", "stack deploy", deploy),
    scenario("C63", "a stack deployed again unchanged", again),
    scenario("C64", "a config changed under its name", changed),
    scenario("C65", "stack rm", remove),
];

const STACK: &str = "version: '3.8'\n\
    services:\n  web:\n    image: sem:1\n    stop_grace_period: 3s\n\
    \x20   secrets: [s1]\n    configs: [{source: c1, target: /c1}]\n\
    secrets:\n  s1: {file: ./secret}\n\
    configs:\n  c1: {file: ./config}\n";

/// The stack's files, in a folder of its own.
fn files() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [("stack.yml", STACK), ("secret", "s"), ("config", "c")] {
        fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}

fn run(exam: &Exam<'_>, folder: &Path, name: &str, options: &str) -> Result<Said> {
    let file = folder.join("stack.yml");
    let file = file.display();
    exam.docker(&format!("stack deploy {options} --resolve-image never -c {file} {name}"))
}

/// Removes the stack and waits until its tasks are gone.
fn clean(exam: &Exam<'_>, name: &str) -> Result<()> {
    exam.docker(&format!("stack rm {name}"))?.fine()?;
    exam.until("nothing is left", || {
        let said = exam.docker(&format!("stack ps {name}"))?;
        let is_none = said.err.contains(&format!("nothing found in stack: {name}"));
        Ok((said.code == 1 && is_none).then_some(()))
    })
}

fn deploy(exam: &Exam<'_>) -> Result<()> {
    let folder = files()?;
    let out = run(exam, folder.path(), "c62", "")?.fine()?;
    let made: Vec<&str> = out.lines().filter(|line| line.starts_with("Creating ")).collect();
    let wanted = [
        "Creating network c62_default",
        "Creating secret c62_s1",
        "Creating config c62_c1",
        "Creating service c62_web",
    ];
    ensure!(made == wanted, "{out}");
    exam.until_running("c62_web", 1)?;
    let labels = exam.service("c62_web")?["Spec"]["Labels"].clone();
    for (key, wanted) in [("namespace", "c62"), ("image", "sem:1")] {
        ensure!(labels[format!("com.docker.stack.{key}")] == wanted, "{key}: {labels}");
    }
    let listed = exam.docker("stack ls --format {{.Name}}={{.Services}}")?.fine()?;
    ensure!(listed.lines().any(|line| line == "c62=1"), "{listed}");
    let listed = exam.docker("stack services c62 --format {{.Name}}={{.Replicas}}")?.fine()?;
    ensure!(listed.trim() == "c62_web=1/1", "{listed}");
    let tasks = exam.docker("stack ps c62 --format {{.Name}}={{.DesiredState}}")?.fine()?;
    ensure!(tasks.trim() == "c62_web.1=Running", "{tasks}");
    clean(exam, "c62")
}

fn again(exam: &Exam<'_>) -> Result<()> {
    let folder = files()?;
    run(exam, folder.path(), "c63", "")?.fine()?;
    let before = exam.until_running("c63_web", 1)?;
    let id = text(&exam.service("c63_web")?["ID"]);
    // Clients older than 26 have no `--detach` here, and converge nothing.
    let has_detach = exam.docker("stack deploy --help")?.out.contains("--detach");
    let options = if has_detach { ["", "--detach=false"].as_slice() } else { &[""] };
    for options in options {
        let out = run(exam, folder.path(), "c63", options)?.fine()?;
        ensure!(out.contains(&format!("Updating service c63_web (id: {id})")), "{out}");
        ensure!(!out.contains("Creating "), "{out}");
        if !options.is_empty() {
            ensure!(out.contains("converged"), "{out}");
        }
        let tasks = exam.tasks("c63_web")?;
        ensure!(tasks.len() == 1 && tasks[0]["ID"] == before[0].as_str(), "{tasks:?}");
        let status = exam.service("c63_web")?["UpdateStatus"].clone();
        ensure!(status.is_null(), "{status}");
    }
    clean(exam, "c63")
}

fn changed(exam: &Exam<'_>) -> Result<()> {
    let folder = files()?;
    run(exam, folder.path(), "c64", "")?.fine()?;
    let before = exam.until_running("c64_web", 1)?;
    fs::write(folder.path().join("config"), "changed")?;
    let said = run(exam, folder.path(), "c64", "")?;
    ensure!(said.code == 1, "{said:?}");
    ensure!(said.err.contains("failed to update config c64_c1: "), "{said:?}");
    ensure!(said.err.contains("only updates to Labels are allowed"), "{said:?}");
    ensure!(exam.running("c64_web")? == before, "the task was touched");
    clean(exam, "c64")
}

fn remove(exam: &Exam<'_>) -> Result<()> {
    let folder = files()?;
    run(exam, folder.path(), "c65", "")?.fine()?;
    exam.until_running("c65_web", 1)?;
    let said = exam.docker("stack rm c65")?;
    ensure!(said.code == 0, "{said:?}");
    let told = format!("{}{}", said.out, said.err);
    let removed: Vec<&str> = told.lines().filter(|line| line.starts_with("Removing ")).collect();
    let wanted = [
        "Removing service c65_web",
        "Removing secret c65_s1",
        "Removing config c65_c1",
        "Removing network c65_default",
    ];
    ensure!(removed == wanted, "{told}");
    exam.until("nothing is left", || {
        let said = exam.docker("stack ps c65")?;
        let is_none = said.err.contains("nothing found in stack: c65");
        Ok((said.code == 1 && is_none).then_some(()))
    })?;
    let none = exam.docker("stack rm c65-nosuch")?;
    let is_told = none.err.contains("othing found in stack: c65-nosuch");
    ensure!(none.code == 0 && is_told, "{none:?}");
    Ok(())
}
