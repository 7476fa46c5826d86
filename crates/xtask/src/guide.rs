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

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    build,
    demo::{Ports, database, environment},
    stage::{Stage, code},
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
    let client = Command::new("docker").arg("--version").stdout(Stdio::null()).status();
    ensure!(client.is_ok_and(|status| status.success()), "the docker client is missing");
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
    let counts: serde_json::Map<String, Value> =
        ["ran", "failed", "refused", "host", "later", "broken"]
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

/// The example application on an engine of its own.
struct Site {
    stage: Stage,
    script: PathBuf,
    ports: Ports,
    _database: load::postgres::Postgres,
}

impl Site {
    fn start() -> Result<Self> {
        let folder = build::target().join("guide");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let keel = build::keel()?;
        let script = folder.join("swarm-deploy");
        std::os::unix::fs::symlink(&keel, &script)?;
        let mut stage = Stage::new(keel, build::root().join("examples/ala"), folder.join("logs"))?;
        let database = database(stage.state.path())?;
        let ports = Ports::choose()?;
        environment(&mut stage, &ports, database.url(), false);
        stage.set("UPDATE_DELAY", "0s");
        stage.set("UPDATE_MONITOR", "1s");
        let socket = stage.state.path().join("run/engine.sock");
        stage.set("DOCKER_HOST", format!("unix://{}", socket.display()));
        stage.start()?;
        Ok(Self { stage, script, ports, _database: database })
    }

    /// None for a line that is not run here.
    fn try_line(&self, line: &Line) -> Result<Option<Result<Duration, String>>> {
        let (before, expected, codes, is_endless) = match line.way {
            Way::Runs { before, expected } => (before, expected, &[0][..], false),
            Way::Finds { before } => (before, "", &[0, 1][..], false),
            Way::Follows { expected } => ("", expected, &[][..], true),
            Way::Refused { expected, .. } => ("", expected, &[1][..], false),
            Way::Host(_) | Way::Later(_) | Way::Broken(_) => return Ok(None),
        };
        if !before.is_empty() {
            let (_, said) = self.shell(before, DEADLINE)?;
            eprintln!("guide: ({before}) {}", said.lines().last().unwrap_or_default());
        }
        let started = Instant::now();
        let deadline = if is_endless { LISTEN } else { DEADLINE };
        let (exit_code, said) = self.shell(line.text, deadline)?;
        let took = started.elapsed();
        if !is_endless && !codes.contains(&exit_code) {
            return Ok(Some(Err(format!("exit code {exit_code}: {said}"))));
        }
        if !said.contains(expected) {
            return Ok(Some(Err(format!("said nothing of {expected:?}: {said}"))));
        }
        Ok(Some(Ok(took)))
    }

    /// Runs a line as a person would, ports and the script's folder apart. What never ends is
    /// ended after its deadline.
    fn shell(&self, text: &str, deadline: Duration) -> Result<(i32, String)> {
        let text = text
            .replace("localhost:5000", &format!("localhost:{}", self.ports.api))
            .replace("localhost:80", &format!("localhost:{}", self.ports.frontend))
            .replace("./swarm-deploy", &self.script.to_string_lossy());
        let log = self.stage.logs.join("line");
        let out = fs::File::create(&log)?;
        let child = Command::new("timeout")
            .args(["--signal=INT", "--kill-after=5", &deadline.as_secs().to_string()])
            .args(["bash", "-c", &text])
            .current_dir(&self.stage.folder)
            .env("KEEL_STATE", self.stage.state.path())
            .envs(self.stage.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .status()
            .with_context(|| format!("run {text}"))?;
        if code(child) == 127 {
            bail!("{text}: a program is missing");
        }
        Ok((code(child), read(&log)))
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
