//! `keel daemon --background`: the same binary again, on its own, until it is ready.

use std::{
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use dockerapi::Client;
use serde_json::{Value, json};

use super::{last_lines, private_folder, process, runtime};
use crate::{
    args,
    failure::{Exit, Failure, Outcome},
    output::Output,
    place,
};

/// How long engine and ingress may take to be ready.
const READY: Duration = Duration::from_secs(30);

pub(super) fn run(
    state: &Path,
    daemon: &args::Daemon,
    also_on: Option<&str>,
    output: Output,
) -> Outcome {
    private_folder(state.to_owned())?;
    let log = place::daemon_log(state);
    let offset = log.metadata().map_or(0, |file| file.len());
    let mut child = start(state, &log, daemon, also_on)?;
    let host = format!("unix://{}", place::engine_socket(state).display());
    let ready = runtime(1)?.block_on(await_ready(&host, &mut child));
    let lines = || {
        let lines = last_lines(&log, offset);
        if lines.is_empty() {
            String::new()
        } else {
            format!("; its log:\n  {}", lines.join("\n  "))
        }
    };
    match ready {
        Ready::Both(pid) => {
            if output.json {
                output.json(&json!({ "ready": true, "pid": pid, "host": host }))?;
            } else {
                output.note(&format!("engine and ingress are ready (process {pid}, {host})"));
            }
            Ok(())
        }
        Ready::Ended => {
            let said = last_lines(&log, offset);
            let text = format!("the engine ended before it was ready{}", lines());
            let failure = Failure::new("daemon-ended", text).hint(hint(&log));
            Err(Failure::heard(&said).unwrap_or(failure).into())
        }
        Ready::TooLate { is_engine } => {
            let what = if is_engine { "the ingress" } else { "the engine" };
            let seconds = READY.as_secs();
            let text = format!("{what} was not ready within {seconds} s{}", lines());
            Err(Failure::new("daemon-not-ready", text).exit(Exit::Deadline).hint(hint(&log)).into())
        }
    }
}

fn hint(log: &Path) -> String {
    format!("the whole log is in `{}`", log.display())
}

fn start(
    state: &Path,
    log: &Path,
    daemon: &args::Daemon,
    also_on: Option<&str>,
) -> Result<Child, Failure> {
    let begin = || {
        let keel = std::env::current_exe()?;
        let mut command = process::quiet(&keel, process::open_log(log)?)?;
        if let Some(host) = also_on {
            command.arg("--host").arg(host);
        }
        command.arg("daemon");
        if let Some(docker) = &daemon.swarm {
            command.arg(format!("--swarm={docker}"));
        }
        if daemon.ignore_limits {
            command.arg("--ignore-limits");
        }
        let tls = &daemon.tls;
        for (name, file) in
            [("--tls-ca", &tls.tls_ca), ("--tls-cert", &tls.tls_cert), ("--tls-key", &tls.tls_key)]
        {
            if let Some(file) = file {
                // The engine's working folder is another one.
                command.arg(name).arg(std::path::absolute(file)?);
            }
        }
        if daemon.no_hub {
            command.env("KEEL_NO_HUB", "1");
        }
        command
            .arg("--detached")
            .arg("--state-dir")
            .arg(state)
            .arg("--publish-address")
            .arg(daemon.publish_address.to_string())
            .current_dir("/")
            .spawn()
    };
    begin().map_err(|error| {
        Failure::new("daemon-start", format!("start the engine: {error}")).hint(hint(log))
    })
}

enum Ready {
    Both(u32),
    Ended,
    TooLate { is_engine: bool },
}

/// Until the engine of this very child says that both are ready.
async fn await_ready(host: &str, child: &mut Child) -> Ready {
    let deadline = Instant::now() + READY;
    let mut is_engine = false;
    let Ok(client) = Client::new(host) else { return Ready::TooLate { is_engine } };
    let pid = child.id();
    while Instant::now() < deadline {
        if let Ok(Some(_)) = child.try_wait() {
            return Ready::Ended;
        }
        if let Ok(ready) = client.get("/evenkeel/v1/ready").await
            && ready.get("pid").and_then(Value::as_u64) == Some(u64::from(pid))
        {
            is_engine = true;
            if ready.get("ingress") == Some(&Value::Bool(true)) {
                return Ready::Both(pid);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ready::TooLate { is_engine }
}
