//! Health probes: when the next one is due, what its outcome means, and running one.
//!
//! ```text
//! Starting ──success──▶ Healthy ──`retries` failures in a row──▶ Unhealthy
//!    └──no success within start_period + retries × interval────────▲
//! ```
//!
//! While starting, probes come at once and often, so readiness costs milliseconds and not an
//! interval; how long a task may take is Docker's rule all the same.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use dockerapi::spec::Healthcheck;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::supervisor::Job;

#[derive(Clone, Debug)]
enum Test {
    Command(Vec<String>),
    Http { port: u16, path: String },
}

/// A health check with its timing.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    test: Test,
    interval: Duration,
    timeout: Duration,
    retries: u32,
    start_period: Duration,
}

impl Probe {
    pub(super) fn http(port: u16, path: &str, timing: &Healthcheck) -> Self {
        Self::new(Test::Http { port, path: path.to_owned() }, timing)
    }

    pub(super) fn command(argv: Vec<String>, timing: &Healthcheck) -> Self {
        Self::new(Test::Command(argv), timing)
    }

    fn new(test: Test, timing: &Healthcheck) -> Self {
        let or = |nanos: u64, default: u64| match nanos {
            0 => Duration::from_secs(default),
            nanos => Duration::from_nanos(nanos),
        };
        Self {
            test,
            interval: or(timing.interval, 30),
            timeout: or(timing.timeout, 30),
            retries: u32::try_from(timing.retries).unwrap_or(3).clamp(1, 1000),
            start_period: Duration::from_nanos(timing.start_period),
        }
        .with_default_retries(timing.retries)
    }

    fn with_default_retries(mut self, retries: u64) -> Self {
        if retries == 0 {
            self.retries = 3;
        }
        self
    }

    /// Programs are looked up as the task's own.
    pub(super) fn resolve(&mut self, lookup: impl Fn(&str) -> String) {
        if let Test::Command(argv) = &mut self.test
            && let Some(first) = argv.first_mut()
        {
            *first = lookup(first);
        }
    }

    /// Runs it once. `Err` says what was seen.
    pub(super) async fn run(&self, job: &Job) -> Result<(), String> {
        let outcome = match &self.test {
            Test::Http { port, path } => timeout(self.timeout, http(*port, path)).await,
            Test::Command(argv) => timeout(self.timeout, command(argv, job)).await,
        };
        outcome
            .unwrap_or_else(|_| Err(format!("Health check exceeded timeout ({:?})", self.timeout)))
    }
}

/// What a probe's outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// For the first time.
    BecameHealthy,
    Unhealthy,
    /// Nothing new.
    GoOn,
}

/// Where the health of one task stands.
#[derive(Clone, Debug)]
pub(super) struct Health {
    started: Instant,
    is_healthy: bool,
    streak: u32,
    wait: Duration,
}

impl Health {
    pub(super) fn new(started: Instant, is_healthy: bool) -> Self {
        Self { started, is_healthy, streak: 0, wait: Duration::from_millis(5) }
    }

    /// How long until the next probe.
    pub(super) fn next_wait(&mut self, probe: &Probe) -> Duration {
        if self.is_healthy {
            return probe.interval;
        }
        let wait = self.wait;
        self.wait = (wait * 3 / 2).min(probe.interval).min(Duration::from_millis(500));
        wait
    }

    pub(super) fn judge(&mut self, probe: &Probe, now: Instant, is_fine: bool) -> Verdict {
        if is_fine {
            self.streak = 0;
            let is_first = !std::mem::replace(&mut self.is_healthy, true);
            return if is_first { Verdict::BecameHealthy } else { Verdict::GoOn };
        }
        if self.is_healthy {
            self.streak += 1;
            return if self.streak >= probe.retries { Verdict::Unhealthy } else { Verdict::GoOn };
        }
        let patience = probe.start_period + probe.interval * probe.retries;
        if now.duration_since(self.started) >= patience {
            return Verdict::Unhealthy;
        }
        Verdict::GoOn
    }
}

async fn http(port: u16, path: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: keel-health\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut head = vec![0_u8; 1024];
    let mut length = 0;
    while length < 13 {
        let count = stream.read(&mut head[length..]).await.map_err(|e| e.to_string())?;
        if count == 0 {
            return Err("the connection was closed before an answer".to_owned());
        }
        length += count;
    }
    let line = String::from_utf8_lossy(&head[..length]);
    let status = line.split(' ').nth(1).unwrap_or("");
    match status.parse::<u16>() {
        Ok(200..=399) => Ok(()),
        _ => Err(format!("GET {path} answered {}", line.lines().next().unwrap_or_default())),
    }
}

async fn command(argv: &[String], job: &Job) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(job.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&job.cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let said: String = said.trim().chars().take(4096).collect();
    let code = output.status.code().unwrap_or(-1);
    Err(format!("exit code {code}{}{said}", if said.is_empty() { "" } else { ": " }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        let second = 1_000_000_000;
        let timing = Healthcheck {
            interval: second,
            retries: 2,
            start_period: second,
            ..Default::default()
        };
        Probe::http(1, "/", &timing)
    }

    #[test]
    fn a_task_that_never_answers_is_unhealthy_after_dockers_time_and_not_before() {
        let (probe, start) = (probe(), Instant::now());
        let mut health = Health::new(start, false);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(health.judge(&probe, at(2900), false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, at(3000), false), Verdict::Unhealthy);
    }

    #[test]
    fn a_healthy_task_turns_unhealthy_after_enough_failures_in_a_row() {
        let (probe, start) = (probe(), Instant::now());
        let mut health = Health::new(start, false);
        assert_eq!(health.judge(&probe, start, true), Verdict::BecameHealthy);
        assert_eq!(health.judge(&probe, start, false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, start, true), Verdict::GoOn);
        assert_eq!(health.judge(&probe, start, false), Verdict::GoOn);
        assert_eq!(health.judge(&probe, start, false), Verdict::Unhealthy);
    }

    #[test]
    fn probes_start_at_once_and_become_rarer() {
        let probe = probe();
        let mut health = Health::new(Instant::now(), false);
        let waits: Vec<Duration> = (0..20).map(|_| health.next_wait(&probe)).collect();
        assert!(waits[0] <= Duration::from_millis(10));
        assert!(waits.is_sorted());
        assert_eq!(waits[19], Duration::from_millis(500));
    }
}
