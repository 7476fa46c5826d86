//! The operations guide as a test: every command line in it has a known outcome, and those that run
//! are run, as they are written, with the real docker client on the embedded engine.

mod line;
mod reading;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    build,
    demo::{Ports, environment},
    stage::{Stage, code, free_port},
};
use line::{LINES, Line, Way};

/// How long one line may take; the longest is the first release, which compiles the application.
const DEADLINE: Duration = Duration::from_secs(900);
/// How long something that never ends by itself is listened to.
const LISTEN: Duration = Duration::from_secs(3);

/// Checks that the table knows every line, runs what runs, writes target/guide.json. With `write`
/// docs/guide-coverage.md is made anew, else it must be as it would be made.
pub fn run(write: bool) -> Result<bool> {
    covers_the_guide()?;
    let page = build::root().join("docs/guide-coverage.md");
    let text = line::page();
    if write {
        fs::write(&page, &text)?;
    }
    let known = fs::read_to_string(&page).unwrap_or_default();
    ensure!(
        known == text,
        "{} is out of date; `cargo run -p xtask -- guide --write`",
        page.display()
    );
    for program in ["docker", "docker-compose", "openssl", "script"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        ensure!(is_there, "{program} is missing; `scripts/setup test` installs it");
    }
    let site = Site::start()?;
    let mut failed = Vec::new();
    let mut outcomes: Vec<Value> = Vec::new();
    for line in LINES {
        let (outcome, seconds) = match site.try_line(line)? {
            Some(Ok(took)) => (line.way.name(), took.as_secs_f64()),
            Some(Err(why)) => {
                eprintln!("guide: FAILED {}: {why}", line.text);
                failed.push(line.text);
                ("failed", 0.0)
            }
            None => (line.way.name(), 0.0),
        };
        outcomes.push(json!({ "line": line.text, "outcome": outcome, "seconds": seconds }));
    }
    let count = |name: &str| outcomes.iter().filter(|o| o["outcome"] == name).count();
    let counts: serde_json::Map<String, Value> = ["ran", "failed", "host", "broken"]
        .map(|name| (name.to_owned(), json!(count(name))))
        .into_iter()
        .collect();
    let report = build::target().join("guide.json");
    fs::write(
        &report,
        serde_json::to_vec_pretty(&json!({ "counts": counts, "lines": outcomes }))?,
    )?;
    site.stage.stop()?;
    for (name, count) in &counts {
        println!("guide: {name:>8} {count}");
    }
    Ok(failed.is_empty())
}

/// Every command of the guide is in the table, where the guide lies beside the project.
fn covers_the_guide() -> Result<()> {
    let path = build::root().join("../shared/guide/operations-guide.md");
    let Ok(guide) = fs::read_to_string(&path) else {
        eprintln!("guide: the guide is not beside the project; its table is taken as it is");
        return Ok(());
    };
    let commands = reading::commands(&guide);
    let unknown: Vec<&String> = commands
        .iter()
        .filter(|command| !LINES.iter().any(|line| line.text == command.as_str()))
        .collect();
    ensure!(unknown.is_empty(), "lines of the guide without an outcome: {unknown:#?}");
    let gone: Vec<&str> = LINES
        .iter()
        .map(|line| line.text)
        .filter(|text| !commands.iter().any(|command| command == text))
        .collect();
    ensure!(gone.is_empty(), "lines that are not in the guide: {gone:#?}");
    Ok(())
}

/// The example application on an engine of its own, its database included, in a home of its own.
struct Site {
    stage: Stage,
    script: PathBuf,
    ports: Ports,
    home: tempfile::TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let folder = build::target().join("guide");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let keel = build::keel()?;
        let script = folder.join("swarm-deploy");
        std::os::unix::fs::symlink(&keel, &script)?;
        let mut stage =
            Stage::new(keel.clone(), build::root().join("examples/ala"), folder.join("logs"))?;
        let home = home()?;
        let ports = Ports::choose()?;
        let database = free_port()?;
        let url = format!("postgres://ala_user:for-this-run@127.0.0.1:{database}/ala_production");
        environment(&mut stage, &ports, url, false);
        stage.set("DB_PORT", database.to_string());
        stage.set("POSTGRES_PASSWORD", "for-this-run");
        stage.set("COMPOSE_PROJECT_NAME", "deployment");
        stage.set("UPDATE_DELAY", "0s");
        stage.set("UPDATE_MONITOR", "1s");
        let own = std::env::var("HOME").unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let value = std::env::var(name).unwrap_or_else(|_| format!("{own}/{folder}"));
            stage.set(name, value);
        }
        stage.set("HOME", home.path().to_string_lossy());
        stage.set("SHELL", "/bin/bash");
        let programs = keel.parent().map(|folder| folder.display().to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        stage.set("PATH", format!("{}:{path}", programs.unwrap_or_default()));
        let socket = stage.state.path().join("run/engine.sock");
        stage.set("DOCKER_HOST", format!("unix://{}", socket.display()));
        stage.start()?;
        Ok(Self { stage, script, ports, home })
    }

    /// None for a line that is not run here.
    fn try_line(&self, line: &Line) -> Result<Option<Result<Duration, String>>> {
        match line.way {
            Way::Runs { before, expected } => self.run(before, line.text, &[0], expected),
            Way::Typed { before, typed, expected } => {
                self.prepare(before)?;
                let on_terminal = format!(
                    "printf {typed:?} | script -qec \"stty rows 50 cols 200; $LINE\" /dev/null"
                );
                let told = self.shell(&on_terminal, line.text, DEADLINE)?;
                Ok(Some(judge(told, &[0], expected)))
            }
            Way::Finds { before } => self.run(before, line.text, &[0, 1], ""),
            Way::Follows { expected } => {
                let told = self.shell(line.text, "", LISTEN)?;
                Ok(Some(judge(told, &[], expected)))
            }
            Way::Host { instead: "", .. } => Ok(None),
            Way::Host { instead, expected, .. } => self.run("", instead, &[0], expected),
            Way::Broken { refusal, before, instead, expected, .. } => {
                self.prepare(before)?;
                let refused = self.shell(line.text, "", DEADLINE)?;
                match judge(refused, &[126, 127], refusal) {
                    Ok(_) => self.run("", instead, &[0], expected),
                    Err(why) => Ok(Some(Err(why))),
                }
            }
        }
    }

    fn prepare(&self, before: &str) -> Result<()> {
        if !before.is_empty() {
            let told = self.shell(before, "", DEADLINE)?;
            eprintln!("guide: ({before}) {}", told.said.lines().last().unwrap_or_default());
        }
        Ok(())
    }

    /// `codes` are the exit codes of a line that did what it should.
    fn run(
        &self,
        before: &str,
        text: &str,
        codes: &[i32],
        expected: &str,
    ) -> Result<Option<Result<Duration, String>>> {
        self.prepare(before)?;
        Ok(Some(judge(self.shell(text, "", DEADLINE)?, codes, expected)))
    }

    /// Runs a line as a person would, ports and the script's folder apart. What never ends is
    /// ended after its deadline. `on_terminal` is the line that a terminal is made for.
    fn shell(&self, text: &str, on_terminal: &str, deadline: Duration) -> Result<Told> {
        let text = text
            .replace("localhost:5000", &format!("localhost:{}", self.ports.api))
            .replace("localhost:80", &format!("localhost:{}", self.ports.frontend))
            .replace("./swarm-deploy", &self.script.to_string_lossy());
        let log = self.stage.logs.join("line");
        let out = fs::File::create(&log)?;
        let started = Instant::now();
        let child = Command::new("timeout")
            .args(["--signal=INT", "--kill-after=5", &deadline.as_secs().to_string()])
            .args(["bash", "-c", &text])
            .current_dir(&self.stage.folder)
            .env("KEEL_STATE", self.stage.state.path())
            .envs(self.stage.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .env("LINE", on_terminal)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()
            .with_context(|| format!("run {text}"))?;
        Ok(Told { code: code(child), said: read(&log), took: started.elapsed() })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Where one line leaves its backup.
        let _ = fs::remove_file(self.stage.folder.join("backup.sql"));
        eprintln!("guide: its home was {}", self.home.path().display());
    }
}

/// What a line said, and how it ended.
struct Told {
    code: i32,
    said: String,
    took: Duration,
}

/// With no codes any end will do.
fn judge(told: Told, codes: &[i32], expected: &str) -> Result<Duration, String> {
    let Told { code, said, took } = told;
    if !codes.is_empty() && !codes.contains(&code) {
        return Err(format!("exit code {code}: {said}"));
    }
    if !said.contains(expected) {
        return Err(format!("said nothing of {expected:?}: {said}"));
    }
    Ok(took)
}

/// A home as the guide takes it for granted: folders for backups and migrations, a certificate.
fn home() -> Result<tempfile::TempDir> {
    let home = tempfile::Builder::new().prefix("keel-home-").tempdir()?;
    let at = |path: &str| home.path().join("ala-improved").join(path);
    for folder in
        ["backend/src/migrations", "ssl-certs/certs", "ssl-certs/private", "etc/ssl/certs"]
    {
        fs::create_dir_all(at(folder))?;
    }
    fs::create_dir_all(home.path().join("backups"))?;
    let (key, certificate) =
        (at("ssl-certs/private/private.key"), at("ssl-certs/certs/fullchain.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .context("run openssl")?;
    ensure!(made.success(), "openssl made no certificate");
    fs::copy(&certificate, at("etc/ssl/certs/fullchain.crt"))?;
    Ok(home)
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
