//! Running one health probe: a command in the task's own environment, or an HTTP GET.

use std::process::Stdio;

use orchestrator::Time;
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::health::{Probe, Test};
use crate::{exec::inside::Inside, supervisor::Job};

/// What is kept of a probe's output.
const OUTPUT_LIMIT: u64 = 4096;
/// The head of an answer up to its status.
const HEAD: usize = 13;

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    pub start: Time,
    pub end: Time,
    /// 0 when it is well, −1 when there was no exit code.
    pub exit_code: i32,
    pub output: String,
}

struct Outcome {
    exit_code: i32,
    output: String,
}

impl Outcome {
    fn failed(output: impl Into<String>) -> Self {
        Self { exit_code: -1, output: output.into() }
    }
}

/// Runs it once.
pub(super) async fn run(probe: &Probe, job: &Job) -> Probed {
    let start = dockerapi::stamp::now();
    let outcome = match &probe.test {
        Test::Http { port, path } => timeout(probe.timeout, http(*port, path)).await,
        Test::Command(argv) => timeout(probe.timeout, command(argv, job)).await,
    };
    let outcome = outcome.unwrap_or_else(|_| {
        Outcome::failed(format!("Health check exceeded timeout ({:?})", probe.timeout))
    });
    let end = dockerapi::stamp::now();
    Probed { start, end, exit_code: outcome.exit_code, output: outcome.output }
}

impl Probed {
    pub(super) fn is_fine(&self) -> bool {
        self.exit_code == 0
    }

    /// For people.
    pub(super) fn reason(&self) -> String {
        match (self.exit_code, self.output.trim()) {
            (-1, output) => output.to_owned(),
            (code, "") => format!("exit code {code}"),
            (code, output) => format!("exit code {code}: {output}"),
        }
    }
}

async fn http(port: u16, path: &str) -> Outcome {
    match answer(port, path).await {
        Ok(line) => {
            let status: Option<u16> = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            match status {
                Some(200..=399) => Outcome { exit_code: 0, output: line },
                _ => Outcome { exit_code: 1, output: format!("GET {path} answered {line}") },
            }
        }
        Err(error) => Outcome::failed(format!("GET {path} on port {port}: {error}")),
    }
}

/// The first line of the answer.
async fn answer(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: keel-health\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![0_u8; 1024];
    let mut length = 0;
    while length < HEAD {
        match stream.read(&mut head[length..]).await? {
            0 => return Err(std::io::Error::other("closed before an answer")),
            count => length += count,
        }
    }
    // The rest is taken too, and not waited for: an answer that nobody reads is an error in some
    // servers' logs.
    tokio::spawn(async move {
        let (mut rest, mut nowhere) = (stream.take(1 << 20), tokio::io::sink());
        let reading = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = timeout(std::time::Duration::from_secs(1), reading).await;
    });
    let head = String::from_utf8_lossy(&head[..length]);
    Ok(head.lines().next().unwrap_or_default().to_owned())
}

/// Ends the probe's whole group, also when its future is dropped at the deadline.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

async fn command(argv: &[String], job: &Job) -> Outcome {
    let Some((program, arguments)) = argv.split_first() else {
        return Outcome::failed("the health check has no command");
    };
    let inside = Inside::of(job);
    let (first, before) = match &inside {
        Some(inside) => inside.before(program),
        None => (program.clone(), Vec::new()),
    };
    let mut command = Command::new(first);
    command
        .args(before)
        .args(arguments)
        .env_clear()
        .envs(job.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&job.cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let (Some(uid), Some(gid), None) = (job.uid, job.gid, inside) {
        command.uid(uid).gid(gid);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::failed(format!("{program}: {error}")),
    };
    let group = Group(child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut said, complained) = tokio::join!(output(stdout), output(stderr));
    said.extend(complained);
    let status = child.wait().await;
    // It ended by itself; its group's number may be another's now.
    let mut group = group;
    group.0 = None;
    let mut text = String::from_utf8_lossy(&said).into_owned();
    if said.len() as u64 > OUTPUT_LIMIT {
        text = text.chars().take(4096).collect::<String>() + "...";
    }
    match status {
        Ok(status) => Outcome { exit_code: status.code().unwrap_or(-1), output: text },
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// The beginning of what is said; the rest is read and thrown away.
async fn output(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(OUTPUT_LIMIT + 1).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    said
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use dockerapi::spec::Healthcheck;
    use tokio::net::TcpListener;

    use super::*;
    use crate::limits::Limits;

    fn job() -> Job {
        Job {
            argv: Vec::new(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            cwd: "/".to_owned(),
            uid: None,
            gid: None,
            log_max_bytes: 1 << 20,
            log_max_files: 1,
            ports: Vec::new(),
            mounts: Vec::new(),
            vault: None,
            group: None,
            limits: Limits::default(),
            console: None,
        }
    }

    /// Probes a server that answers with these bytes and keeps the connection open.
    async fn asks(answer: &'static [u8]) -> Probed {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            stream.write_all(answer).await.expect("written");
            std::future::pending::<()>().await;
        });
        let timing = Healthcheck { timeout: 5_000_000_000, ..Healthcheck::default() };
        run(&Probe::new(Test::Http { port, path: "health".to_owned() }, &timing), &job()).await
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_its_status_without_waiting_for_its_end() {
        let started = Instant::now();
        assert!(asks(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_fine());
        let sick = asks(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        let expected = "exit code 1: GET health answered HTTP/1.1 503 Service Unavailable";
        assert_eq!(sick.reason(), expected);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_command_is_judged_by_its_exit_code_and_ended_at_its_deadline() {
        let timing = Healthcheck { timeout: 200_000_000, ..Healthcheck::default() };
        let probe = |script: &str| {
            let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            Probe::new(Test::Command(argv), &timing)
        };
        assert!(run(&probe("exit 0"), &job()).await.is_fine());
        let failed = run(&probe("echo no database; exit 3"), &job()).await;
        assert_eq!(failed.reason(), "exit code 3: no database");
        let started = Instant::now();
        let late = run(&probe("sleep 60 & wait"), &job()).await;
        assert_eq!(late.reason(), "Health check exceeded timeout (200ms)");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
