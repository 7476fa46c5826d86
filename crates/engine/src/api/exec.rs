//! `docker exec`: create, start (with the connection taken over), inspect, resize.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dockerapi::{ApiError, frame};
use http::StatusCode;
use orchestrator::TaskId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, WriteHalf},
    process::Child,
    sync::Mutex as AsyncMutex,
    time::timeout,
};

use super::{
    Answer, Api, Call,
    connection::{Client, Connection, take_over},
    empty, json as respond,
};
use crate::{
    control::{container_id, random_id},
    exec::{self, Order, terminal::Terminal},
};

/// How long output may still come after the command's end.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
/// This client reads an answer's head through a buffer, and a stream after it beside that buffer:
/// what comes together with the head is lost to it.
const READS_AHEAD: &[u8] = b"docker-sdk-python";
/// Between an answer's head and its stream, for a client that reads ahead.
const AFTER_HEAD: Duration = Duration::from_millis(100);
/// Commands that run or are remembered after their end.
const REMEMBERED: usize = 500;

/// Commands that were asked for, and how to start those with a terminal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Execs {
    known: Arc<Mutex<BTreeMap<String, Exec>>>,
    keel: PathBuf,
}

#[derive(Clone, Debug)]
struct Exec {
    task: TaskId,
    order: Order,
    /// Order of creation: the oldest ended ones are forgotten first.
    number: u64,
    state: State,
    terminal: Option<Arc<Terminal>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Created,
    Running { pid: u32 },
    Ended { code: i32 },
}

impl Execs {
    /// `keel` is the binary that makes a terminal a command's own.
    pub(crate) fn new(keel: PathBuf) -> Self {
        Self { keel, ..Self::default() }
    }

    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Exec) -> T) -> Result<T, ApiError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let exec = known.get_mut(id);
        exec.map(change).ok_or_else(|| ApiError::not_found(format!("No such exec instance: {id}")))
    }

    fn add(&self, task: TaskId, order: Order) -> Result<String, ApiError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = known.values().map(|exec| exec.number).max().map_or(0, |last| last + 1);
        let ended = known.iter().filter(|(_, exec)| !matches!(exec.state, State::Running { .. }));
        let oldest = ended.min_by_key(|(_, exec)| exec.number).map(|(id, _)| id.clone());
        if known.len() >= REMEMBERED {
            let full = || {
                ApiError::unavailable(format!(
                    "{REMEMBERED} commands run beside tasks already; end some of them first"
                ))
            };
            known.remove(&oldest.ok_or_else(full)?);
        }
        let id = container_id(&TaskId(random_id()));
        let exec = Exec { task, order, number, state: State::Created, terminal: None };
        known.insert(id.clone(), exec);
        Ok(id)
    }
}

impl Api {
    pub(super) async fn create_exec(&self, key: &str, call: Call) -> Answer {
        let (task, files, job) = self.running(key).await?;
        let asked = call.json().await?;
        let list = |name: &str| -> Vec<String> {
            let list = asked.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
        };
        let is_set = |name: &str| asked.get(name).and_then(Value::as_bool).unwrap_or(false);
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or("");
        let mut argv = list("Cmd");
        if argv.is_empty() {
            return Err(ApiError::bad_parameter("No exec command specified"));
        }
        if !text("User").is_empty() {
            return Err(ApiError::not_supported(
                "the embedded engine runs a command beside a task as the task's user; leave out \
                 `--user`",
            ));
        }
        let mut order = Order::beside(&job, &list("Env"));
        crate::driver::plan::look_up(&mut argv, &files, &order.env);
        order.argv = argv;
        if let Some(folder) = Some(text("WorkingDir")).filter(|folder| !folder.is_empty()) {
            order.cwd = files.find(folder).ok_or_else(|| {
                ApiError::bad_parameter(format!("chdir to cwd ({folder:?}) failed: no such folder"))
            })?;
        }
        order.has_terminal = is_set("Tty");
        order.stdin = is_set("AttachStdin");
        order.stdout = is_set("AttachStdout");
        order.stderr = is_set("AttachStderr");
        let mut response = respond(&json!({ "Id": self.execs.add(task, order)? }));
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }

    pub(super) async fn start_exec(&self, id: &str, mut call: Call) -> Answer {
        let upgrade = call.upgrade.take();
        let agent = call.headers.get(http::header::USER_AGENT);
        let reads_ahead = agent.is_some_and(|agent| agent.as_bytes().starts_with(READS_AHEAD));
        let pause = if reads_ahead { AFTER_HEAD } else { Duration::ZERO };
        let asked = call.json().await?;
        let is_detached = asked.get("Detach").and_then(Value::as_bool).unwrap_or(false);
        let (task, mut order) = self.execs.change(id, |exec| match exec.state {
            State::Created => Ok((exec.task.clone(), exec.order.clone())),
            State::Running { .. } | State::Ended { .. } => Err(ApiError {
                status: StatusCode::CONFLICT,
                message: format!("Error: Exec command {id} is already running or was run"),
            }),
        })??;
        let running = Running { api: self.clone(), id: id.to_owned(), task };
        if is_detached {
            (order.stdin, order.stdout, order.stderr) = (false, false, false);
            let child = order.spawn().map_err(|error| running.cannot(&order, &error))?;
            running.is(&child, None)?;
            tokio::spawn(async move { running.wait(child).await });
            return Ok(empty(StatusCode::OK));
        }
        let (response, connection) = take_over(upgrade, order.has_terminal, order.stdin)?;
        let size = asked.get("ConsoleSize").and_then(Value::as_array);
        let side = |size: &Vec<Value>, at| size.get(at).and_then(Value::as_u64).unwrap_or(0);
        let size = size.map(|size| (side(size, 0), side(size, 1)));
        running.start(order, connection, size, pause);
        Ok(response)
    }

    pub(super) fn exec(&self, id: &str) -> Answer {
        let (exec, id) = (self.execs.change(id, |exec| exec.clone())?, id.to_owned());
        let (is_running, pid, code) = match exec.state {
            State::Created => (false, 0, Value::Null),
            State::Running { pid } => (true, pid, Value::Null),
            State::Ended { code } => (false, 0, json!(code)),
        };
        let order = &exec.order;
        Ok(respond(&json!({
            "ID": id, "Running": is_running, "ExitCode": code, "Pid": pid,
            "ContainerID": container_id(&exec.task), "CanRemove": false, "DetachKeys": "",
            "OpenStdin": order.stdin, "OpenStdout": order.stdout, "OpenStderr": order.stderr,
            "ProcessConfig": {
                "tty": order.has_terminal, "entrypoint": order.argv.first(),
                "arguments": order.argv.get(1..).unwrap_or_default(), "privileged": false,
            },
        })))
    }

    pub(super) fn resize_exec(&self, id: &str, call: &Call) -> Answer {
        let side = |key: &str| call.get(key).and_then(|value| value.parse::<u16>().ok());
        let terminal = self.execs.change(id, |exec| exec.terminal.clone())?;
        if let (Some(terminal), Some(rows), Some(columns)) = (terminal, side("h"), side("w")) {
            terminal.resize(rows, columns);
        }
        Ok(empty(StatusCode::OK))
    }
}

/// A command that is started.
struct Running {
    api: Api,
    id: String,
    task: TaskId,
}

type Writer = AsyncMutex<WriteHalf<Box<dyn Client>>>;

impl Running {
    fn is(&self, child: &Child, terminal: Option<Arc<Terminal>>) -> Result<(), ApiError> {
        let pid = child.id().unwrap_or(0);
        self.api.execs.change(&self.id, |exec| {
            exec.state = State::Running { pid };
            exec.terminal = terminal;
        })
    }

    fn ended(&self, code: i32) {
        let _ = self.api.execs.change(&self.id, |exec| {
            exec.state = State::Ended { code };
            exec.terminal = None;
        });
    }

    fn cannot(&self, order: &Order, error: &std::io::Error) -> ApiError {
        let (code, text) = exec::refusal(order.argv.first().map_or("", String::as_str), error);
        self.ended(code);
        ApiError::bad_parameter(format!("OCI runtime {text}"))
    }

    /// Waits for its end, or ends it with its task.
    async fn wait(&self, mut child: Child) -> i32 {
        let mut saved = self.api.control.saved.clone();
        let code = loop {
            tokio::select! {
                status = child.wait() => break status.map_or(-1, exec::exit_code),
                _ = saved.changed() => {
                    let task = self.task.clone();
                    let lives = self.api.control.read(move |state| state.is_running(&task));
                    if !lives.await.unwrap_or(true) {
                        exec::kill(&child);
                        let _ = child.start_kill();
                    }
                }
            }
        };
        self.ended(code);
        code
    }

    fn start(
        self,
        order: Order,
        connection: Connection,
        size: Option<(u64, u64)>,
        pause: Duration,
    ) {
        tokio::spawn(async move {
            let Some(client) = connection.open().await else { return };
            tokio::time::sleep(pause).await;
            let (reader, writer) = tokio::io::split(client);
            let writer = Arc::new(AsyncMutex::new(writer));
            let result = match order.has_terminal {
                true => self.on_terminal(&order, size, reader, &writer).await,
                false => self.with_pipes(&order, reader, &writer).await,
            };
            if let Err(error) = result {
                let text = self.cannot(&order, &error).message + "\r\n";
                let bytes = match order.has_terminal {
                    true => text.into_bytes(),
                    false => frame::encode(frame::Stream::Stdout, text.as_bytes()),
                };
                let _ = writer.lock().await.write_all(&bytes).await;
            }
            let _ = writer.lock().await.shutdown().await;
        });
    }

    async fn with_pipes(
        &self,
        order: &Order,
        mut reader: impl AsyncRead + Unpin + Send + 'static,
        writer: &Arc<Writer>,
    ) -> std::io::Result<()> {
        let mut child = order.spawn()?;
        let _ = self.is(&child, None);
        let input = child.stdin.take().map(|mut stdin| {
            tokio::spawn(async move { tokio::io::copy(&mut reader, &mut stdin).await })
        });
        let out = frames(child.stdout.take(), frame::Stream::Stdout, writer);
        let err = frames(child.stderr.take(), frame::Stream::Stderr, writer);
        self.to_the_end(child, async {
            tokio::join!(out, err);
        })
        .await;
        if let Some(input) = input {
            input.abort();
        }
        Ok(())
    }

    async fn on_terminal(
        &self,
        order: &Order,
        size: Option<(u64, u64)>,
        mut reader: impl AsyncRead + Unpin + Send + 'static,
        writer: &Arc<Writer>,
    ) -> std::io::Result<()> {
        let (child, ours) = order.spawn_on_terminal(&self.api.execs.keel)?;
        let terminal = Arc::new(Terminal::new(ours)?);
        if let Some((rows, columns)) = size {
            let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
            terminal.resize(side(rows), side(columns));
        }
        let _ = self.is(&child, Some(Arc::clone(&terminal)));
        let typed = Arc::clone(&terminal);
        let input = tokio::spawn(async move {
            let mut buffer = [0_u8; 4096];
            while let Ok(count) = reader.read(&mut buffer).await {
                if count == 0 || typed.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        let output = async {
            let mut buffer = [0_u8; 8192];
            while let Ok(count) = terminal.read(&mut buffer).await {
                if count == 0 {
                    return;
                }
                // Nobody reads any more: the command is not held up by that.
                let _ = writer.lock().await.write_all(&buffer[..count]).await;
            }
        };
        self.to_the_end(child, output).await;
        input.abort();
        Ok(())
    }

    /// Until the command has ended and its output was passed on; what it left behind in the
    /// background does not hold the client for ever.
    async fn to_the_end(&self, child: Child, output: impl Future<Output = ()>) {
        let mut output = std::pin::pin!(output);
        let mut ending = std::pin::pin!(self.wait(child));
        tokio::select! {
            () = &mut output => drop(ending.await),
            _ = &mut ending => drop(timeout(LEFT_BEHIND, output).await),
        }
    }
}

/// Passes one of the command's streams on; when nobody reads any more it is read all the same.
async fn frames(pipe: Option<impl AsyncRead + Unpin>, stream: frame::Stream, writer: &Arc<Writer>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let _ = writer.lock().await.write_all(&frame::encode(stream, &buffer[..count])).await;
    }
}
