//! Logs of a service or task: lines of all its tasks, merged by time, one frame per line.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    convert::Infallible,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use dockerapi::{ApiError, client::escape, frame, stamp};
use futures_util::stream;
use http::{HeaderValue, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame};
use orchestrator::{ServiceId, TaskId, Time};
use tokio::sync::mpsc;

use super::{Answer, Api, Call, system::sync};
use crate::{
    control::find_task,
    log::{Line, Reader},
};

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);
/// Bytes put into one piece of the answer.
const PIECE: usize = 32 * 1024;

#[derive(Clone, Debug)]
struct Options {
    stdout: bool,
    stderr: bool,
    follow: bool,
    tail: Option<usize>,
    since: Time,
    timestamps: bool,
    details: bool,
}

impl Options {
    fn parse(call: &Call) -> Result<Self, ApiError> {
        let (stdout, stderr) = (call.is_set("stdout"), call.is_set("stderr"));
        if !stdout && !stderr {
            let text = "Bad parameters: you must choose at least one stream";
            return Err(ApiError::internal(text));
        }
        let since = call.get("since").filter(|since| !since.is_empty());
        let since = match since {
            None => Time(0),
            Some(text) => {
                stamp::parse_unix(text).or_else(|| stamp::parse(text)).ok_or_else(|| {
                    ApiError::bad_parameter(format!("invalid value for since: {text}"))
                })?
            }
        };
        Ok(Self {
            stdout,
            stderr,
            follow: call.is_set("follow"),
            tail: call.get("tail").and_then(|tail| tail.parse().ok()),
            since,
            timestamps: call.is_set("timestamps"),
            details: call.is_set("details"),
        })
    }

    fn wants(&self, line: &Line) -> bool {
        line.at >= self.since && if line.is_error { self.stderr } else { self.stdout }
    }

    fn frame(&self, line: &Line, details: &str) -> Vec<u8> {
        let mut text = String::with_capacity(line.text.len() + 64);
        if self.timestamps {
            text.push_str(&stamp::text(line.at));
            text.push(' ');
        }
        if self.details {
            text.push_str(details);
            text.push(' ');
        }
        text.push_str(&line.text);
        text.push('\n');
        let stream = if line.is_error { frame::Stream::Stderr } else { frame::Stream::Stdout };
        frame::encode(stream, text.as_bytes())
    }
}

/// One task's log.
struct Source {
    reader: Reader,
    details: String,
}

impl Api {
    pub(super) async fn service_logs(&self, key: &str, call: &Call) -> Answer {
        let options = Options::parse(call)?;
        let key = key.to_owned();
        let service = self.control.write(move |state| state.find_service(&key)).await?;
        self.logs(service, None, options).await
    }

    pub(super) async fn task_logs(&self, key: &str, call: &Call) -> Answer {
        let options = Options::parse(call)?;
        let key = key.to_owned();
        let found = self.control.write(move |state| {
            let id = find_task(&state.world, &key)?;
            let service = state.world.task(&id).map(|task| task.service.clone());
            Ok((id, service.ok_or_else(|| ApiError::not_found(format!("task {key} not found")))?))
        });
        let (task, service) = found.await?;
        self.logs(service, Some(task), options).await
    }

    async fn logs(&self, service: ServiceId, only: Option<TaskId>, options: Options) -> Answer {
        let (pieces, received) = mpsc::channel::<Bytes>(8);
        let api = self.clone();
        tokio::spawn(async move { api.send_logs(service, only, options, pieces).await });
        let stream = stream::unfold(received, |mut received| async move {
            let piece = received.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), received))
        });
        let body = BodyExt::map_err(
            StreamBody::new(Box::pin(stream)),
            |never: Infallible| -> super::BoxError { match never {} },
        );
        let mut response = Response::new(BodyExt::boxed(sync(body)));
        let kind = HeaderValue::from_static("application/vnd.docker.multiplexed-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    /// Everything there is, then (with follow) what comes, of later tasks as well.
    async fn send_logs(
        &self,
        service: ServiceId,
        only: Option<TaskId>,
        options: Options,
        pieces: mpsc::Sender<Bytes>,
    ) {
        let mut sources: BTreeMap<TaskId, Source> = BTreeMap::new();
        let mut is_first = true;
        loop {
            let tasks = self.log_folders(&service, only.as_ref()).await;
            for (id, folder, details) in tasks {
                sources
                    .entry(id)
                    .or_insert_with(|| Source { reader: Reader::open(&folder), details });
            }
            let tail = options.tail.filter(|_| is_first);
            let (options_now, sender) = (options.clone(), pieces.clone());
            let mut taken = std::mem::take(&mut sources);
            let merged = tokio::task::spawn_blocking(move || {
                let is_open = merge(&mut taken, &options_now, tail, &sender);
                (taken, is_open)
            });
            let Ok((back, is_open)) = merged.await else { return };
            sources = back;
            is_first = false;
            if !options.follow || !is_open || pieces.is_closed() {
                return;
            }
            tokio::time::sleep(FOLLOW).await;
        }
    }

    async fn log_folders(
        &self,
        service: &ServiceId,
        only: Option<&TaskId>,
    ) -> Vec<(TaskId, PathBuf, String)> {
        let (service, only, root) = (service.clone(), only.cloned(), self.tasks.clone());
        let found = self.control.read(move |state| {
            let tasks = state.world.tasks_of(&service);
            tasks
                .filter(|task| only.as_ref().is_none_or(|only| *only == task.id))
                .map(|task| {
                    let pairs = [
                        ("com.docker.swarm.node.id", &task.node),
                        ("com.docker.swarm.service.id", &task.service.0),
                        ("com.docker.swarm.task.id", &task.id.0),
                    ];
                    let pairs = pairs.map(|(key, value)| format!("{key}={}", escape(value)));
                    (task.id.clone(), root.join(&task.id.0), pairs.join(","))
                })
                .collect()
        });
        found.await.unwrap_or_default()
    }
}

/// Sends what the sources have, oldest line first. False once nobody listens.
fn merge(
    sources: &mut BTreeMap<TaskId, Source>,
    options: &Options,
    tail: Option<usize>,
    pieces: &mpsc::Sender<Bytes>,
) -> bool {
    let mut queues: Vec<Queue<'_>> =
        sources.values_mut().map(|source| Queue::new(source, options, tail)).collect();
    let mut heads = BinaryHeap::new();
    for (at, queue) in queues.iter_mut().enumerate() {
        queue.head = queue.pull(options);
        heads.extend(queue.head.as_ref().map(|line| Reverse((line.at, at))));
    }
    let mut piece = Vec::with_capacity(PIECE);
    while let Some(Reverse((_, at))) = heads.pop() {
        let Some(queue) = queues.get_mut(at) else { continue };
        if let Some(line) = queue.head.take() {
            piece.extend(options.frame(&line, &queue.source.details));
        }
        queue.head = queue.pull(options);
        heads.extend(queue.head.as_ref().map(|line| Reverse((line.at, at))));
        if piece.len() >= PIECE && pieces.blocking_send(std::mem::take(&mut piece).into()).is_err()
        {
            return false;
        }
    }
    piece.is_empty() && !pieces.is_closed() || pieces.blocking_send(piece.into()).is_ok()
}

/// The lines of one task that are still to be sent.
struct Queue<'a> {
    source: &'a mut Source,
    /// With a tail: its lines, read in advance.
    last: Option<VecDeque<Line>>,
    head: Option<Line>,
}

impl<'a> Queue<'a> {
    fn new(source: &'a mut Source, options: &Options, tail: Option<usize>) -> Self {
        let last = tail.map(|count| {
            let mut last = VecDeque::new();
            while let Ok(Some(line)) = source.reader.next_line() {
                if options.wants(&line) {
                    last.push_back(line);
                    if last.len() > count {
                        last.pop_front();
                    }
                }
            }
            last
        });
        Self { source, last, head: None }
    }

    fn pull(&mut self, options: &Options) -> Option<Line> {
        if let Some(last) = &mut self.last {
            return last.pop_front();
        }
        while let Ok(Some(line)) = self.source.reader.next_line() {
            if options.wants(&line) {
                return Some(line);
            }
        }
        None
    }
}
