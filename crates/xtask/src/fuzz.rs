//! Runs the fuzz targets: compiled with coverage counters on stable Rust, driven by libFuzzer, two
//! at a time. What is found is kept beside the corpus and fails the run.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::build;

/// The instrumented build is for this target, so that build scripts stay as they are.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What libFuzzer works with: counters at the edges, a table of them, the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16";
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// One input may take so long, and the process so much memory.
const INPUT_SECONDS: u32 = 25;
const MEMORY_MIB: u32 = 2048;
/// Inputs larger than this teach nothing that smaller ones do not.
const LONGEST: u32 = 16 << 10;

/// Runs the named targets, or all, each for so many seconds. False when something was found.
pub fn run(seconds: u32, seed: u32, names: &[String]) -> Result<bool> {
    let known: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no fuzz target is called `{unknown}`; there are {}", known.join(", "));
    }
    let wanted = known.into_iter().filter(|n| names.is_empty() || names.iter().any(|w| w == n));
    let binary = compile()?;
    let mut waiting: VecDeque<&str> = wanted.collect();
    let mut running: Vec<Run> = Vec::new();
    let mut failed = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < AT_ONCE
            && let Some(name) = waiting.pop_front()
        {
            running.push(Run::start(&binary, name, seconds, seed)?);
        }
        let mut going = Vec::new();
        for mut run in running {
            match run.child.try_wait()? {
                None => going.push(run),
                Some(status) => {
                    println!("{}", run.summary(status.success()));
                    if !status.success() {
                        failed.push(run);
                    }
                }
            }
        }
        running = going;
        thread::sleep(Duration::from_millis(100));
    }
    for run in &failed {
        eprintln!("{}", run.advice());
    }
    Ok(failed.is_empty())
}

fn compile() -> Result<PathBuf> {
    let folder = build::target().join("fuzz");
    let status = conformance::cargo()
        .args(["build", "--quiet", "--package", "fuzz", "--bin", "fuzz", "--profile", "fuzz"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS)
        .current_dir(build::root())
        .status()
        .context("run cargo")?;
    ensure!(
        status.success(),
        "the fuzz targets do not build; a C++ compiler is needed (`make setup`)"
    );
    Ok(folder.join(TARGET).join("fuzz/fuzz"))
}

/// One target at work.
struct Run {
    name: String,
    child: Child,
    log: PathBuf,
    found: PathBuf,
}

impl Run {
    fn start(binary: &Path, name: &str, seconds: u32, seed: u32) -> Result<Self> {
        let source = build::root().join("crates/fuzz");
        let place = build::target().join("fuzz").join(name);
        let (corpus, found) = (place.join("corpus"), place.join("found"));
        // Findings of an earlier run were reported then.
        let _ = fs::remove_dir_all(&found);
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let log = place.join("log");
        let output = fs::File::create(&log)?;
        // A client that leaves must not end the process: a program that is not Rust's own dies of
        // SIGPIPE unless that is ignored, as it is from birth with this.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' PIPE; exec \"$0\" \"$@\""]).arg(binary);
        // The first folder is written to, the others only give inputs.
        command.arg(&corpus).arg(source.join("corpus").join(name));
        let kept = source.join("regression").join(name);
        if kept.is_dir() {
            command.arg(kept);
        }
        let child = command
            .arg(format!("-artifact_prefix={}/", found.display()))
            .arg(format!("-dict={}", source.join("dictionary").join(name).display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-seed={seed}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-max_len={LONGEST}"))
            .args(["-print_final_stats=1", "-verbosity=1"])
            .env("KEEL_FUZZ_TARGET", name)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("run {}", binary.display()))?;
        Ok(Self { name: name.to_owned(), child, log, found })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn stat(&self, key: &str) -> String {
        let text = self.text();
        let line = text.lines().rev().find_map(|line| line.strip_prefix(key));
        line.map_or_else(|| "?".to_owned(), |value| value.trim().to_owned())
    }

    fn summary(&self, is_fine: bool) -> String {
        let text = self.text();
        let covered = text.lines().rev().find_map(|line| line.split_once(" cov: "));
        let covered = covered.and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?");
        format!(
            "{:9} {:>9} inputs, {:>6} edges, {:>5} MiB, {}",
            self.name,
            self.stat("stat::number_of_executed_units:"),
            covered,
            self.stat("stat::peak_rss_mb:"),
            if is_fine { "nothing found" } else { "FOUND SOMETHING" },
        )
    }

    /// What was found, and how to go on.
    fn advice(&self) -> String {
        let text = self.text();
        let last: Vec<&str> = text.lines().rev().take(60).collect();
        let said: Vec<&str> = last.into_iter().rev().collect();
        let inputs: Vec<String> = fs::read_dir(&self.found)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().display().to_string())
            .collect();
        format!(
            "\n{0}: {1}\n{2}\nreplay it with `cargo run -p fuzz -- {0} FILE`; once it is fixed, keep \
             the file in crates/fuzz/regression/{0}",
            self.name,
            inputs.join(" "),
            said.join("\n"),
        )
    }
}
