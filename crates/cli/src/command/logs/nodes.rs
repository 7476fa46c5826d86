//! The log of a service whose tasks run on several nodes, asked of each node's own Docker. Swarm's
//! log API hangs on a node that is away and ends without a word; here the rest goes on, and it is
//! said what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use dockerapi::{
    Client, ClientError,
    client::{LogLine, LogQuery, LogStream, of_node},
    object, stamp,
};
use orchestrator::Time;
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use super::{held::Held, unix};
use crate::{failure::Failure, view::typed};

/// Between two looks for new tasks, and before a node that was away is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at the lines that are held.
const LOOK: Duration = Duration::from_millis(50);
/// How long a node may take for the next line of what is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose log, and from where on.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub service: String,
    /// Only this task's.
    pub task: Option<String>,
    pub query: LogQuery,
}

/// What comes of it, in order.
pub enum News {
    Line(LogLine),
    /// A part of the log is missing, and why.
    Missing(String),
}

/// A task's log and how far it was read.
#[derive(Clone, Debug)]
struct Log {
    task: String,
    node: String,
    /// Before Docker's own paths on that node.
    prefix: String,
    container: String,
    query: LogQuery,
}

/// Says all there is, and with `follow` what comes, until the service is removed or the task ends.
pub async fn read(client: Client, wanted: Wanted, says: mpsc::Sender<News>) -> Result<(), Failure> {
    let mut logs = find(&client, &wanted).await?;
    let is_whole = history(&client, &mut logs, &says).await;
    if wanted.query.follow {
        return follow(&client, &wanted, logs, &says).await;
    }
    if is_whole {
        return Ok(());
    }
    Err(Failure::new("log-incomplete", "nodes that were not reached have more of this log")
        .hint("see `keel nodes`"))
}

/// Tasks with a container, those that ended included.
async fn find(client: &Client, wanted: &Wanted) -> Result<Vec<Log>, Failure> {
    let nodes = client.nodes().await?.into_iter();
    let name = |node: Value| {
        Some((
            node["ID"].as_str()?.to_owned(),
            node["Description"]["Hostname"].as_str()?.to_owned(),
        ))
    };
    let names: BTreeMap<String, String> = nodes.filter_map(name).collect();
    let tasks: Vec<object::Task> = typed(client.tasks(&[("service", &wanted.service)]).await?)?;
    let fits = |task: &object::Task| wanted.task.as_ref().is_none_or(|id| *id == task.id);
    let log = |task: object::Task| {
        let container = task.status.container_status?.container_id;
        (!container.is_empty()).then(|| Log {
            node: names.get(&task.node_id).unwrap_or(&task.node_id).clone(),
            prefix: of_node(&task.node_id),
            task: task.id,
            container,
            query: wanted.query.clone(),
        })
    };
    Ok(tasks.into_iter().filter(fits).filter_map(log).collect())
}

impl Log {
    async fn open(&self, client: &Client) -> Result<LogStream, ClientError> {
        client.container_logs(&self.prefix, &self.container, &self.query).await
    }

    /// The next line, as one of this task's; later it goes on after it.
    async fn next(
        &mut self,
        stream: &mut LogStream,
    ) -> Result<Option<(Time, LogLine)>, ClientError> {
        let Some(mut line) = stream.next().await? else { return Ok(None) };
        line.task.clone_from(&self.task);
        let time = line.time.as_deref().and_then(stamp::parse).unwrap_or_default();
        self.query.since = Some(unix(Time(time.0 + 1)));
        self.query.tail = None;
        Ok(Some((time, line)))
    }

    /// What is to be said of an error.
    fn missing(&self, why: &Lost) -> String {
        let task: String = self.task.chars().take(12).collect();
        format!("log of task {task} on node {}: {why}", self.node)
    }
}

/// Why a log, or the rest of it, is not to be had.
#[derive(Debug)]
enum Lost {
    NoMore,
    Silent,
    Other(ClientError),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMore => f.write_str("its container is no more"),
            Self::Silent => write!(f, "no answer for {} s", PATIENCE.as_secs()),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        if error.is_not_found() { Self::NoMore } else { Self::Other(error) }
    }
}

/// What is there now: always the earliest of the next lines of all. False when a node was not
/// reached.
async fn history(client: &Client, logs: &mut [Log], says: &mpsc::Sender<News>) -> bool {
    let mut is_whole = true;
    let mut open: Vec<Open<'_>> = Vec::new();
    for log in logs {
        log.query.follow = false;
        match log.open(client).await {
            Ok(stream) => open.push(Open { log, stream, head: None }),
            Err(error) => is_whole &= lost(log, &error.into(), says).await,
        }
    }
    let mut ready: Vec<Open<'_>> = Vec::new();
    loop {
        for mut one in open.drain(..) {
            match one.advance().await {
                Ok(true) => ready.push(one),
                Ok(false) => {}
                Err(why) => is_whole &= lost(one.log, &why, says).await,
            }
        }
        let earliest = ready.iter().enumerate().min_by_key(|(_, one)| one.time());
        let Some(at) = earliest.map(|(at, _)| at) else { return is_whole };
        let mut one = ready.swap_remove(at);
        if let Some((_, line)) = one.head.take()
            && says.send(News::Line(line)).await.is_err()
        {
            return is_whole;
        }
        open.push(one);
    }
}

/// Says what is missing; true when nobody can have it any more.
async fn lost(log: &Log, why: &Lost, says: &mpsc::Sender<News>) -> bool {
    let _ = says.send(News::Missing(log.missing(why))).await;
    matches!(why, Lost::NoMore)
}

/// A log that is being read, with its next line.
struct Open<'a> {
    log: &'a mut Log,
    stream: LogStream,
    head: Option<(Time, LogLine)>,
}

impl Open<'_> {
    fn time(&self) -> Option<Time> {
        self.head.as_ref().map(|(time, _)| *time)
    }

    /// Reads the next line; false at the end.
    async fn advance(&mut self) -> Result<bool, Lost> {
        let next = timeout(PATIENCE, self.log.next(&mut self.stream)).await;
        self.head = next.map_err(|_| Lost::Silent)??;
        Ok(self.head.is_some())
    }
}

/// What comes, of the tasks that are there and of those to come.
async fn follow(
    client: &Client,
    wanted: &Wanted,
    logs: Vec<Log>,
    says: &mpsc::Sender<News>,
) -> Result<(), Failure> {
    let (sender, mut lines) = mpsc::channel(256);
    let mut readers = tokio::task::JoinSet::new();
    let mut seen = BTreeSet::new();
    for mut log in logs {
        seen.insert(log.task.clone());
        if log.query.tail.take().is_some() {
            // What was left out stays out.
            log.query.since.get_or_insert_with(|| unix(stamp::now()));
        }
        readers.spawn(pass_on(client.clone(), log, sender.clone()));
    }
    let mut held = Held::default();
    let (mut look, mut search) = (tokio::time::interval(LOOK), tokio::time::interval(PAUSE));
    loop {
        tokio::select! {
            Some(next) = lines.recv() => match next {
                Next::Line(time, line) => held.put(Instant::now(), time, line),
                Next::Missing(text) => drop(says.send(News::Missing(text)).await),
            },
            Some(_) = readers.join_next() => {
                if wanted.task.is_some() && readers.is_empty() {
                    break;
                }
            }
            _ = look.tick() => {
                for line in held.due(Instant::now()) {
                    if says.send(News::Line(line)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            _ = search.tick() => match search_for(client, wanted).await {
                Ok(Some(logs)) => for mut log in logs {
                    if seen.insert(log.task.clone()) {
                        // All of it is new.
                        (log.query.tail, log.query.since) = (None, None);
                        readers.spawn(pass_on(client.clone(), log, sender.clone()));
                    }
                },
                Ok(None) => break,
                // A manager that is away: what is being read goes on.
                Err(_) => {}
            },
        }
    }
    // The service, or the task, is gone: what it said last is on its way.
    drop(sender);
    let _ = timeout(PAUSE * 10, async {
        while let Some(next) = lines.recv().await {
            if let Next::Line(time, line) = next {
                held.put(Instant::now(), time, line);
            }
        }
    })
    .await;
    for line in held.rest() {
        let _ = says.send(News::Line(line)).await;
    }
    Ok(())
}

/// The logs there are now; none when the service is no more.
async fn search_for(client: &Client, wanted: &Wanted) -> Result<Option<Vec<Log>>, Failure> {
    match client.service(&wanted.service).await {
        Ok(_) => find(client, wanted).await.map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

enum Next {
    Line(Time, LogLine),
    Missing(String),
}

/// Follows one log to its end, through times when its node is away.
async fn pass_on(client: Client, mut log: Log, lines: mpsc::Sender<Next>) {
    log.query.follow = true;
    let mut is_told = false;
    loop {
        let ended: Lost = match log.open(&client).await {
            Ok(mut stream) => loop {
                is_told = false;
                match log.next(&mut stream).await {
                    Ok(Some((time, line))) => {
                        if lines.send(Next::Line(time, line)).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => break error.into(),
                }
            },
            Err(error) => error.into(),
        };
        if !is_told {
            is_told = true;
            let _ = lines.send(Next::Missing(log.missing(&ended))).await;
        }
        if matches!(ended, Lost::NoMore) || lines.is_closed() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
