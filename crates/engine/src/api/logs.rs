//! Logs of a service or task: lines of all its tasks, merged by time, one frame per line.
//!
//! A reader gets pieces of bounded size, made when it has taken the one before: however slow it is
//! and however long the logs are, it holds a few of them in memory and no thread.

mod merge;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use dockerapi::client::escape;
use http::StatusCode;
use hyper::Response;
use orchestrator::{ServiceId, Task, TaskId, Time};
use tokio::sync::mpsc;

use self::merge::{Options, Source, send_all};
use super::{Answer, Api, Body, Call, container::Container, stream};
use crate::control::find_task;

/// How often a followed log is looked at: soon after it grew, less often when it is quiet.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(400);

/// Whose logs are wanted.
#[derive(Clone, Debug)]
enum Which {
    Service(ServiceId),
    Task(TaskId),
    /// Outside any service.
    Container(TaskId),
}

/// The tasks whose logs are wanted, and whether more may come.
struct Wanted {
    tasks: Vec<(TaskId, PathBuf, String)>,
    is_over: bool,
}

impl Api {
    pub(super) async fn service_logs(&self, key: &str, call: &Call) -> Answer {
        let options = Options::parse(call, StatusCode::INTERNAL_SERVER_ERROR)?;
        let key = key.to_owned();
        let service = self.control.find(move |state| state.find_service(&key)).await?;
        Ok(self.logs(Which::Service(service), options))
    }

    /// `refusal` as in [`Options::parse`].
    pub(super) async fn task_logs(&self, key: &str, call: &Call, refusal: StatusCode) -> Answer {
        let options = Options::parse(call, refusal)?;
        let key = key.to_owned();
        let task = self.control.find(move |state| find_task(&state.world, &key)).await?;
        Ok(self.logs(Which::Task(task), options))
    }

    /// Of a container outside any service.
    pub(super) fn alone_logs(&self, container: &Container, call: &Call) -> Answer {
        let mut options = Options::parse(call, StatusCode::BAD_REQUEST)?;
        options.is_raw = container.has_terminal();
        Ok(self.logs(Which::Container(container.id.clone()), options))
    }

    /// What a task says from now on, for a client that attaches to it.
    pub(super) fn follow(&self, task: TaskId) -> mpsc::Receiver<Bytes> {
        let options = Options {
            stdout: true,
            stderr: true,
            follow: true,
            tail: Some(0),
            since: Time(0),
            timestamps: false,
            details: false,
            is_raw: false,
        };
        let (pieces, received) = mpsc::channel(8);
        let api = self.clone();
        tokio::spawn(async move { api.send_logs(Which::Task(task), options, pieces).await });
        received
    }

    fn logs(&self, which: Which, options: Options) -> Response<Body> {
        let (pieces, response) = stream::open(match options.is_raw {
            true => "application/vnd.docker.raw-stream",
            false => "application/vnd.docker.multiplexed-stream",
        });
        let api = self.clone();
        tokio::spawn(async move { api.send_logs(which, options, pieces).await });
        response
    }

    /// Everything there is, then (with follow) what comes, of later tasks as well.
    async fn send_logs(&self, which: Which, options: Options, pieces: mpsc::Sender<Bytes>) {
        let (mut saved, mut ends) = (self.control.saved.clone(), self.ends.clone());
        let mut wanted = self.wanted_logs(&which).await;
        // A tail is of what there is now; tasks that come later are followed from their first line.
        let mut skip = None;
        let mut sources = BTreeMap::new();
        let mut pause = SOON;
        loop {
            sources.retain(|id, _| wanted.tasks.iter().any(|(known, ..)| known == id));
            for (id, folder, details) in &wanted.tasks {
                let new = || Source::new(folder.clone(), details.clone(), skip);
                sources.entry(id.clone()).or_insert_with(new);
            }
            skip = Some(0);
            pause = match sources.values().any(Source::has_more) {
                true => SOON,
                false => (pause * 2).min(LATER),
            };
            sources = match send_all(sources, &options, &pieces).await {
                Some(sources) => sources,
                None => return,
            };
            if !options.follow || wanted.is_over {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = pieces.closed() => return,
                _ = ends.wait_for(|ends| *ends) => return,
            }
            if saved.has_changed().unwrap_or(true) {
                saved.borrow_and_update();
                wanted = self.wanted_logs(&which).await;
            }
        }
    }

    async fn wanted_logs(&self, which: &Which) -> Wanted {
        let (which, root) = (which.clone(), self.tasks.clone());
        let found = self.control.read(move |state| {
            let of = |task: &Task| {
                let pairs = [
                    ("com.docker.swarm.node.id", &task.node),
                    ("com.docker.swarm.service.id", &task.service.0),
                    ("com.docker.swarm.task.id", &task.id.0),
                ];
                let pairs = pairs.map(|(key, value)| format!("{key}={}", escape(value)));
                (task.id.clone(), root.join(&task.id.0), pairs.join(","))
            };
            match &which {
                Which::Service(service) => Wanted {
                    tasks: state.world.tasks_of(service).map(of).collect(),
                    is_over: state.world.service(service).is_none(),
                },
                Which::Task(task) => {
                    let task = state.world.task(task);
                    let is_over = task.is_none_or(|task| task.observed.is_end());
                    Wanted { tasks: task.into_iter().map(of).collect(), is_over }
                }
                Which::Container(id) => {
                    let is_there = state.containers.contains_key(id);
                    let own = (id.clone(), root.join(&id.0), String::new());
                    let is_over = !state.is_running_or_waits(id);
                    Wanted { tasks: is_there.then_some(own).into_iter().collect(), is_over }
                }
            }
        });
        found.await.unwrap_or(Wanted { tasks: Vec::new(), is_over: true })
    }
}
