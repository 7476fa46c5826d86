//! One task's actor: prepares its folder, starts its supervisor, probes, stops, reports.
//!
//! ```text
//! Prepare ─▶ folder with task.json ─▶ Ready
//! Start ───▶ supervisor ─▶ Starting ─▶ (probes) Running ─▶ Unhealthy | Exited
//! Adopt ───▶ the same from wherever the folder says the task is
//! ```

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use dockerapi::spec::Definition;
use orchestrator::{Observation, TaskId};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{io::unix::AsyncFd, sync::mpsc, time::sleep};

use super::{
    Command, Launch, Report,
    folder::{Plan, prepare},
    health::{Health, Verdict},
    plan, probe,
    process::Shared,
    pull,
};
use crate::{
    disk,
    supervisor::{Ended, Job, Running, console, kill_marked, read_json},
};

/// How long a supervisor may take to say that its task runs.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Takes commands until the task is forgotten.
pub(super) async fn run(shared: Arc<Shared>, task: TaskId, mut commands: mpsc::Receiver<Command>) {
    let folder = shared.config.tasks.join(&task.0);
    let actor = Actor { shared, task, folder };
    while let Some(command) = commands.recv().await {
        match command {
            Command::Prepare(launch) => actor.prepare(launch, &mut commands).await,
            Command::Start(launch) => actor.live(launch, &mut commands).await,
            Command::Run(launch) => {
                actor.forget_run();
                actor.live(launch, &mut commands).await;
            }
            Command::Adopt(launch) => actor.adopt(launch, &mut commands).await,
            // Nothing runs: it ended, or was never started.
            Command::Stop(_) => actor.ended_before().await,
            Command::Signal(..) | Command::Forget(_) => {}
        }
    }
}

struct Actor {
    shared: Arc<Shared>,
    task: TaskId,
    folder: PathBuf,
}

impl Actor {
    async fn report(&self, what: Observation) {
        let at = dockerapi::stamp::now();
        let _ = self.shared.reports.send(Report { task: self.task.clone(), at, what }).await;
    }

    async fn prepare(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
        self.report(Observation::Preparing).await;
        match pull::unless_unwanted(&self.shared, &launch, commands).await {
            pull::Outcome::Here => {}
            pull::Outcome::Failed(error) => {
                return self.report(Observation::Rejected { error }).await;
            }
            pull::Outcome::Unwanted => return self.ended_before().await,
        }
        let (shared, folder) = (Arc::clone(&self.shared), self.folder.clone());
        let prepared =
            tokio::task::spawn_blocking(move || prepare(&shared, &launch, &folder)).await;
        let what = match prepared {
            Ok(Ok(_)) => Observation::Ready,
            Ok(Err(error)) => Observation::Rejected { error },
            Err(error) => Observation::Rejected { error: format!("preparing: {error}") },
        };
        self.report(what).await;
    }

    /// Takes away what tells of a run that has ended, so that there can be another.
    fn forget_run(&self) {
        if self.folder.join("exit.json").exists() {
            // The end goes last: a crash on the way leaves one that ended.
            for mark in ["healthy", "started", "pid.json", "exit.json"] {
                let _ = fs::remove_file(self.folder.join(mark));
            }
        }
    }

    async fn ended_before(&self) {
        match read_json::<Ended>(&self.folder.join("exit.json")) {
            Some(ended) => self.report(exit(&ended)).await,
            None => {
                let (exit_code, error) = (None, Some("it was not running".to_owned()));
                self.report(Observation::Exited { exit_code, error }).await;
            }
        }
    }

    /// A container that may be started again keeps its image.
    fn hold(&self, launch: &Launch) {
        let definition = serde_json::from_str::<Definition>(&launch.definition);
        let spec = definition.ok().and_then(|known| known.task_template.container_spec);
        if let Some(spec) = spec {
            let _ = self.shared.images.hold(&spec.image, &self.task.0);
        }
    }

    async fn adopt(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
        if let Some(job) = read_json::<Job>(&self.folder.join("task.json")) {
            self.shared.ports.take(&job.ports);
            self.shared.know(&self.task, |known| known.ports = job.ports);
        }
        if let Some(ended) = read_json::<Ended>(&self.folder.join("exit.json")) {
            if launch.is_alone {
                self.hold(&launch);
            }
            return self.report(exit(&ended)).await;
        }
        if self.folder.join("started").exists() {
            return self.live(launch, commands).await;
        }
        if self.folder.join("task.json").exists() {
            return self.report(Observation::Ready).await;
        }
        self.prepare(launch, commands).await;
    }

    /// From start (or re-adoption) to the end of the process.
    async fn live(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
        self.run(launch, commands).await;
        self.tidy().await;
    }

    /// A task that ended needs its secrets and its control group no more.
    async fn tidy(&self) {
        let (config, task) = (self.shared.config.clone(), self.task.clone());
        let _ = tokio::task::spawn_blocking(move || config.tidy(&task)).await;
    }

    async fn run(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
        let is_alone = launch.is_alone;
        let (shared, folder) = (Arc::clone(&self.shared), self.folder.clone());
        let planned = tokio::task::spawn_blocking(move || prepare(&shared, &launch, &folder)).await;
        let plan = match planned {
            Ok(Ok(plan)) => plan,
            Ok(Err(error)) => return self.report(Observation::Rejected { error }).await,
            Err(error) => {
                let error = error.to_string();
                return self.report(Observation::Rejected { error }).await;
            }
        };
        let running = match self.start().await {
            Ok(running) => running,
            Err(what) => return self.report(what).await,
        };
        self.shared.know(&self.task, |known| known.running = Some(running));
        self.report(Observation::Starting).await;
        let ended = self.watch(&plan, running, is_alone, commands).await;
        self.shared.know(&self.task, |known| known.running = None);
        if !is_alone {
            self.shared.images.release(&self.task.0);
        }
        self.report(exit(&ended)).await;
    }

    /// Starts the supervisor unless there was one already, and waits until it says who runs.
    async fn start(&self) -> Result<Running, Observation> {
        let failed = |error: String| Observation::Exited { exit_code: None, error: Some(error) };
        if !self.folder.join("started").exists() {
            let expected = self.shared.known(&self.task).map_or(0, |known| known.expected);
            if expected > 0 {
                let _ = fs::write(self.folder.join(console::EXPECTED), expected.to_string());
            }
            let spawned = tokio::process::Command::new(&self.shared.config.keel)
                .arg("supervise")
                .arg(&self.folder)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            match spawned {
                // Reaped in the background; its end is seen through its pidfd.
                Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
                Err(error) => return Err(failed(format!("start the supervisor: {error}"))),
            }
        }
        let started = Instant::now();
        loop {
            if let Some(running) = read_json::<Running>(&self.folder.join("pid.json")) {
                return Ok(running);
            }
            if let Some(ended) = read_json::<Ended>(&self.folder.join("exit.json")) {
                return Err(exit(&ended));
            }
            if started.elapsed() > START_DEADLINE {
                // Whatever it started all the same must not run beside a replacement.
                let marker = plan::marker(&self.task);
                let _ = tokio::task::spawn_blocking(move || kill_marked(&marker)).await;
                return Err(failed("its supervisor did not start it within 20 s".to_owned()));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn watch(
        &self,
        plan: &Plan,
        running: Running,
        is_alone: bool,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Ended {
        let mut end = std::pin::pin!(self.end(running));
        let mut probing = std::pin::pin!(self.probe(plan, running, is_alone));
        let mut is_probing = true;
        let mut kill_at: Option<tokio::time::Instant> = None;
        loop {
            let killing = async {
                match kill_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = &mut end => return ended,
                () = &mut probing, if is_probing => is_probing = false,
                () = killing => {
                    running.child.kill_group();
                    kill_at = Some(tokio::time::Instant::now() + Duration::from_secs(1));
                }
                command = commands.recv() => match command {
                    Some(Command::Stop(_)) => {
                        if kill_at.is_none() {
                            running.child.signal(plan.stop_signal);
                            kill_at = Some(tokio::time::Instant::now() + plan.grace);
                        }
                    }
                    Some(Command::Signal(_, number)) => running.child.signal(number),
                    Some(_) => {}
                    // Forgotten, or the engine ends: the task goes on without us.
                    None => return (&mut end).await,
                },
            }
        }
    }

    /// Waits for the supervisor's end and reads how the task ended.
    async fn end(&self, running: Running) -> Ended {
        if running.supervisor.is_alive() {
            wait_for(running.supervisor.pid).await;
        }
        let exit_file = self.folder.join("exit.json");
        if let Some(ended) = read_json::<Ended>(&exit_file) {
            return ended;
        }
        running.child.kill_group();
        let error = Some("task: its supervisor died".to_owned());
        let at = dockerapi::stamp::now().0;
        let ended = Ended { code: 137, error, oom_killed: false, at };
        let _ = disk::replace(&exit_file, &serde_json::to_vec(&ended).unwrap_or_default());
        ended
    }

    /// Probes until the task is found unhealthy; reports that it runs, and that it is not well. A
    /// container `is_alone` and may get well again.
    async fn probe(&self, plan: &Plan, running: Running, is_alone: bool) {
        let marker = self.folder.join("healthy");
        let was_healthy = marker.exists();
        let Some(probe) = &plan.probe else { return self.runs().await };
        if was_healthy {
            self.runs().await;
        }
        let mut health = Health::new(probe, was_healthy);
        let mut is_sick = false;
        loop {
            sleep(health.next_wait(probe)).await;
            let seen = probe::run(probe, &plan.job).await;
            self.shared.probed(&self.task, seen.clone());
            match health.judge(probe, running.child.age(), seen.is_fine()) {
                Verdict::BecameHealthy => {
                    let _ = fs::write(&marker, b"");
                    is_sick = false;
                    self.runs().await;
                }
                Verdict::Unhealthy => {
                    let _ = fs::remove_file(&marker);
                    if !std::mem::replace(&mut is_sick, true) {
                        self.report(Observation::Unhealthy { error: seen.reason() }).await;
                    }
                    if !is_alone {
                        return;
                    }
                    health = Health::new(probe, false);
                    sleep(probe.interval()).await;
                }
                Verdict::GoOn => {}
            }
        }
    }

    async fn runs(&self) {
        let port = read_json::<Job>(&self.folder.join("task.json"))
            .and_then(|job| job.ports.first().map(|(_, own)| *own));
        let address = port.map(|port| ([127, 0, 0, 1], port).into());
        self.report(Observation::Running { address }).await;
    }
}

fn exit(ended: &Ended) -> Observation {
    let error = ended.error.clone();
    let by_code = || (ended.code != 0).then(|| format!("task: non-zero exit ({})", ended.code));
    Observation::Exited { exit_code: Some(ended.code), error: error.or_else(by_code) }
}

/// Waits for the end of a process that need not be our child.
#[expect(deprecated, reason = "an OwnedFd keeps its promise of IO safety; the new name is unsafe")]
async fn wait_for(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let Ok(pidfd) = AsyncFd::new(pidfd) else { return };
    let _ = pidfd.readable().await;
}
