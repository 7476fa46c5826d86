//! `keel exec`: a command beside a task, on whatever node that runs.

use std::{
    io::{IsTerminal, Read, Write},
    os::fd::AsFd,
};

use dockerapi::{
    Client, ClientError,
    client::{Taken, escape, of_node},
    frame::{Decoder, Stream},
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    args,
    command::Context,
    failure::{Failure, Outcome, Stop},
    view::{self, has_daemons},
};

pub async fn run(context: &Context, exec: &args::Exec) -> Outcome {
    let client = context.client().await?;
    let place = find(&client, &exec.task).await?;
    let has_terminal = exec.terminal;
    if has_terminal && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("-t needs a terminal on standard input")
            .hint("leave -t out to pipe something in")
            .into());
    }
    let body = json!({
        "AttachStdin": exec.interactive, "AttachStdout": true, "AttachStderr": true,
        "Tty": has_terminal, "Cmd": exec.command, "Env": exec.env,
        "User": exec.user.clone().unwrap_or_default(),
    });
    let path = format!("{}/containers/{}/exec", place.docker, escape(&place.container));
    let created = client.post(&path, &body).await?;
    let id = created["Id"].as_str().unwrap_or("").to_owned();
    let exec_path = format!("{}/exec/{}", place.docker, escape(&id));
    let start = json!({ "Detach": false, "Tty": has_terminal });
    let taken = client.take_over(&format!("{exec_path}/start"), &start).await?;
    let raw = if has_terminal { Raw::enter() } else { None };
    let resizing = has_terminal.then(|| tokio::spawn(resize(client.clone(), exec_path.clone())));
    let passed = pass(taken, exec.interactive, has_terminal).await;
    if let Some(resizing) = resizing {
        resizing.abort();
    }
    drop(raw);
    passed.map_err(Failure::from)?;
    let ended = client.get(&format!("{exec_path}/json")).await?;
    match ended["ExitCode"].as_u64().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Stop::Code(code)),
        None => Err(Failure::new("exec-lost", "the command's exit code is not known").into()),
    }
}

/// Where a task's container is.
struct Place {
    /// Before Docker's own paths: empty for the engine itself.
    docker: String,
    container: String,
}

/// A service (any running task of it), `SERVICE.SLOT`, or a task's id; rather one that is to stay.
async fn find(client: &Client, key: &str) -> Result<Place, Failure> {
    let tasks = view::task::list(client, None).await?;
    let runs = |task: &&view::task::Task| task.state == "running" && task.container.is_some();
    let fits = |task: &&view::task::Task| {
        task.service == key || task.name == key || (key.len() > 4 && task.id.starts_with(key))
    };
    let stays = |task: &&view::task::Task| task.desired_state == "running";
    let found = tasks.iter().filter(fits).filter(runs).max_by_key(stays).ok_or_else(|| {
        Failure::new("no-running-task", format!("no task of `{key}` runs"))
            .hint("see `keel ps`; name a service, SERVICE.SLOT or a task")
    })?;
    let task = client.task(&found.id).await?;
    let node = task["NodeID"].as_str().unwrap_or("").to_owned();
    let here = client.info().await?;
    let is_here = here.pointer("/Swarm/NodeID").and_then(Value::as_str) == Some(node.as_str());
    if !is_here && !has_daemons(client).await {
        let what = format!("the task runs on node {}", found.node);
        return Err(Failure::new("other-node", format!("{what}, and Docker leads to no other"))
            .hint("run `keel daemon` on every node, and use it instead of Docker's own socket"));
    }
    let docker = if is_here { String::new() } else { of_node(&node) };
    Ok(Place { docker, container: found.container.clone().unwrap_or_default() })
}

/// Bytes both ways until the command ends.
async fn pass(taken: Taken, is_fed: bool, is_raw: bool) -> Result<(), ClientError> {
    let (mut from, mut to) = tokio::io::split(taken);
    let feeding = tokio::spawn(async move {
        let mut input = is_fed.then(input);
        while let Some(bytes) = next(&mut input).await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        // Kept open for reading until the other side ends.
        to
    });
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        if is_raw {
            let _ = out.write_all(&buffer[..count]).and_then(|()| out.flush());
            continue;
        }
        decoder.feed(&buffer[..count]);
        while let Some((stream, payload)) = decoder.next_frame() {
            // Nobody may be there to read; the command goes on all the same.
            let _ = match stream {
                Stream::Stdout => out.write_all(&payload).and_then(|()| out.flush()),
                Stream::Stderr | Stream::System => err.write_all(&payload),
            };
        }
    }
    feeding.abort();
    Ok(())
}

async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    input.as_mut()?.recv().await
}

/// Standard input, read by a thread of its own that nobody waits for: a read from a terminal ends
/// only with the next key.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = std::io::stdin();
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count) = input.read(&mut buffer) {
            if count == 0 || sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Tells the size of the terminal now and whenever it changes.
async fn resize(client: Client, exec: String) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = tcgetwinsize(std::io::stdout().as_fd()) {
            let path = format!("{exec}/resize?h={}&w={}", size.ws_row, size.ws_col);
            // Only the looks suffer when it fails.
            let _ = client.post(&path, &Value::Null).await;
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}

/// The terminal passes every key on; as it was again when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(input.as_fd(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
