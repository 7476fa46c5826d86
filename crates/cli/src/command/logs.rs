//! `keel logs`: lines of a service's or task's log, followed through restarts of the engine. On a
//! Swarm with our daemons each node is asked for its own tasks' (`nodes`).

mod held;
mod nodes;

use std::{collections::BTreeMap, time::Duration};

use dockerapi::{
    Client,
    client::{LogLine, LogQuery, LogStream},
    frame::Stream,
    object, stamp,
};
use nodes::{News, Wanted};
use orchestrator::Time;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    args::{self, Tail},
    command::Context,
    failure::{Failure, Outcome, Stop},
    output::Output,
    view::{has_daemons, task::find_service, typed},
};

/// How long a followed log waits for an engine that is away.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(context: &Context, logs: &args::Logs) -> Outcome {
    let client = context.client().await?;
    let mut source = Source::find(client, &logs.service).await?;
    let mut since = match &logs.since {
        Some(text) => Some(parse_since(text, stamp::now())?),
        None => None,
    };
    let mut tail = match logs.tail {
        Some(Tail::Last(count)) => Some(count),
        Some(Tail::All) | None => None,
    };
    if has_daemons(&source.client).await && !source.has_terminal().await? {
        let follow = logs.follow;
        let query = LogQuery { follow, tail, since: since.map(unix), timestamps: true };
        return source.of_nodes(query, logs.timestamps, context.output).await;
    }
    let mut away = None;
    loop {
        let query =
            LogQuery { follow: logs.follow, tail, since: since.map(unix), timestamps: true };
        let ended = match source.open(&query).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(line)) => {
                        away = None;
                        if let Some(at) = line.time.as_deref().and_then(stamp::parse) {
                            since = Some(Time(at.0 + 1));
                        }
                        source.say(&line, logs.timestamps, context.output).await?;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            },
            Err(error) => Some(error),
        };
        match ended {
            None if !logs.follow => return Ok(()),
            Some(error) if !logs.follow || !is_worth_waiting(&error) => return Err(error.into()),
            _ => {}
        }
        // The engine went away: go on after the last line seen.
        let first = *away.get_or_insert_with(tokio::time::Instant::now);
        if first.elapsed() > PATIENCE {
            let text = format!("the engine was away for {} s", PATIENCE.as_secs());
            return Err(Failure::new("engine-not-reachable", text)
                .hint("start it with `keel daemon --background`")
                .into());
        }
        tail = None;
        since = since.or_else(|| Some(stamp::now()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_worth_waiting(error: &dockerapi::ClientError) -> bool {
    error.is_passing() || matches!(error, dockerapi::ClientError::Protocol { .. })
}

/// Whose log.
struct Source {
    client: Client,
    id: String,
    is_task: bool,
    service: String,
    /// Task id → `ala_api.1`.
    names: BTreeMap<String, String>,
}

impl Source {
    async fn find(client: Client, name: &str) -> Result<Self, Failure> {
        match find_service(&client, name).await {
            Ok(service) => {
                let (id, service) = (service.id, service.spec.name);
                Ok(Self { client, id, is_task: false, service, names: BTreeMap::new() })
            }
            Err(missing) if missing.code == "service-not-found" => {
                let (id, service) = find_task(&client, name).await?.ok_or(missing)?;
                Ok(Self { client, id, is_task: true, service, names: BTreeMap::new() })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn open(&self, query: &LogQuery) -> Result<LogStream, dockerapi::ClientError> {
        if self.is_task {
            self.client.task_logs(&self.id, query).await
        } else {
            self.client.service_logs(&self.id, query).await
        }
    }

    /// Its tasks have a terminal: their logs are no frames.
    async fn has_terminal(&self) -> Result<bool, Failure> {
        let service = self.client.service(&self.service).await?;
        let tty = service.pointer("/Spec/TaskTemplate/ContainerSpec/TTY");
        Ok(tty.and_then(Value::as_bool) == Some(true))
    }

    /// The log as the nodes have it, each asked for what it ran.
    async fn of_nodes(&mut self, query: LogQuery, times: bool, output: Output) -> Outcome {
        let task = self.is_task.then(|| self.id.clone());
        let wanted = Wanted { service: self.service.clone(), task, query };
        let (says, mut news) = mpsc::channel(256);
        let reading = tokio::spawn(nodes::read(self.client.clone(), wanted, says));
        while let Some(news) = news.recv().await {
            match news {
                News::Line(line) => self.say(&line, times, output).await?,
                News::Missing(text) => output.note(&text),
            }
        }
        match reading.await {
            Ok(ended) => Ok(ended?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn say(&mut self, line: &LogLine, times: bool, output: Output) -> Result<(), Stop> {
        if line.stream == Stream::System {
            output.note(&line.text);
            return Ok(());
        }
        let name = self.name(&line.task).await;
        if output.json {
            let stream = if line.stream == Stream::Stderr { "stderr" } else { "stdout" };
            let shown = json!({
                "time": line.time, "task": name, "task_id": line.task, "service": self.service,
                "stream": stream, "text": line.text,
            });
            output.line(&shown.to_string())?;
            return Ok(());
        }
        let time =
            line.time.as_ref().filter(|_| times).map_or_else(String::new, |t| format!("{t} "));
        if output.quiet {
            output.line(&format!("{time}{}", line.text))?;
        } else {
            output.line(&format!("{time}{name:<width$} | {}", line.text, width = self.width()))?;
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.names.values().map(String::len).max().unwrap_or(0)
    }

    /// `ala_api.1` for a task's id. A task that is no more goes by its id.
    async fn name(&mut self, task: &str) -> String {
        if let Some(name) = self.names.get(task) {
            return name.clone();
        }
        let found = self.client.task(task).await.ok();
        let found = found.and_then(|task| crate::view::one::<object::Task>(task).ok());
        let place = found.map_or_else(
            || task.chars().take(12).collect(),
            |task| if task.slot == 0 { task.node_id } else { task.slot.to_string() },
        );
        let name = format!("{}.{place}", self.service);
        self.names.insert(task.to_owned(), name.clone());
        name
    }
}

/// A task by id, by the beginning of one, or by `ala_api.1` (the newest of that slot).
async fn find_task(client: &Client, name: &str) -> Result<Option<(String, String)>, Failure> {
    let services: Vec<object::Service> = typed(client.services(&[]).await?)?;
    let mut tasks: Vec<object::Task> = typed(client.tasks(&[]).await?)?;
    tasks.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    let service_of = |task: &object::Task| {
        let service = services.iter().find(|service| service.id == task.service_id);
        service.map(|service| service.spec.name.clone()).unwrap_or_default()
    };
    let slot_name = |task: &object::Task| format!("{}.{}", service_of(task), task.slot);
    let found = tasks.iter().find(|task| {
        (name.len() >= 4 && task.id.starts_with(name))
            || name == slot_name(task)
            || name == format!("{}.{}", slot_name(task), task.id)
    });
    Ok(found.map(|task| (task.id.clone(), service_of(task))))
}

/// `30m` (that long ago), RFC 3339, or Unix seconds.
fn parse_since(text: &str, now: Time) -> Result<Time, Failure> {
    if let Some(ago) = stamp::parse_duration(text) {
        let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        return Ok(Time(now.0.saturating_sub(nanos)));
    }
    stamp::parse(text).or_else(|| stamp::parse_unix(text)).ok_or_else(|| {
        Failure::usage(format!("--since `{text}` is not a time"))
            .hint("write 30m, 2025-11-13T14:00:00Z or Unix seconds")
    })
}

fn unix(time: Time) -> String {
    format!("{}.{:09}", time.0 / 1_000_000_000, time.0 % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_distance_or_a_time() {
        let now = Time(100_000_000_000);
        assert_eq!(parse_since("30s", now), Ok(Time(70_000_000_000)));
        assert_eq!(parse_since("1970-01-01T00:00:05Z", now), Ok(Time(5_000_000_000)));
        assert_eq!(parse_since("7", now), Ok(Time(7_000_000_000)));
        assert!(parse_since("yesterday", now).is_err());
        assert_eq!(unix(Time(7_000_000_009)), "7.000000009");
    }
}
