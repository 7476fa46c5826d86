//! One task's actor: prepares its folder, starts its supervisor, probes, stops, reports.
//!
//! ```text
//! Prepare ─▶ folder with task.json ─▶ Ready
//! Start ───▶ supervisor ─▶ Starting ─▶ (probes) Running ─▶ Unhealthy | Exited
//! Adopt ───▶ the same from wherever the folder says the task is
//! ```

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use dockerapi::spec::{ContainerSpec, Definition};
use orchestrator::{Observation, TaskId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::{io::unix::AsyncFd, sync::mpsc, time::sleep};

use super::{
    Command, Launch, Report,
    plan::{self, ImageConfig},
    probe::{Health, Probe, Verdict},
    process::Shared,
};
use crate::{
    disk,
    supervisor::{Ended, Job, Running, read_json},
};

/// How long a supervisor may take to say that its task runs.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Takes commands until the task is forgotten.
pub(super) async fn run(shared: Arc<Shared>, task: TaskId, mut commands: mpsc::Receiver<Command>) {
    let folder = shared.config.tasks.join(&task.0);
    let actor = Actor { shared, task, folder };
    while let Some(command) = commands.recv().await {
        match command {
            Command::Prepare(launch) => actor.prepare(launch).await,
            Command::Start(launch) => actor.live(launch, &mut commands).await,
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

/// What a started task needs to be watched and stopped.
struct Plan {
    job: Job,
    probe: Option<Probe>,
    stop_signal: i32,
    grace: Duration,
}

impl Actor {
    async fn report(&self, what: Observation) {
        let at = dockerapi::stamp::now();
        let _ = self.shared.reports.send(Report { task: self.task.clone(), at, what }).await;
    }

    async fn prepare(&self, launch: Launch) {
        self.report(Observation::Preparing).await;
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

    async fn ended_before(&self) {
        match read_json::<Ended>(&self.folder.join("exit.json")) {
            Some(ended) => self.report(exit(&ended)).await,
            None => {
                let (exit_code, error) = (None, Some("it was not running".to_owned()));
                self.report(Observation::Exited { exit_code, error }).await;
            }
        }
    }

    async fn adopt(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
        if let Some(job) = read_json::<Job>(&self.folder.join("task.json")) {
            self.shared.take_ports(&job.ports);
            self.shared.know(&self.task, |known| known.ports = job.ports);
        }
        if let Some(ended) = read_json::<Ended>(&self.folder.join("exit.json")) {
            return self.report(exit(&ended)).await;
        }
        if self.folder.join("started").exists() {
            return self.live(launch, commands).await;
        }
        if self.folder.join("task.json").exists() {
            return self.report(Observation::Ready).await;
        }
        self.prepare(launch).await;
    }

    /// From start (or re-adoption) to the end of the process.
    async fn live(&self, launch: Launch, commands: &mut mpsc::Receiver<Command>) {
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
        let ended = self.watch(&plan, running, commands).await;
        self.shared.know(&self.task, |known| known.running = None);
        self.report(exit(&ended)).await;
    }

    /// Starts the supervisor unless one lives already, and waits until it says who runs.
    async fn start(&self) -> Result<Running, Observation> {
        let pid_file = self.folder.join("pid.json");
        let failed = |error: String| Observation::Exited { exit_code: None, error: Some(error) };
        if !self.folder.join("started").exists() {
            fs::write(self.folder.join("started"), b"")
                .map_err(|error| failed(format!("start {}: {error}", self.task)))?;
            let spawned = tokio::process::Command::new(&self.shared.config.keel)
                .arg("supervise")
                .arg(&self.folder)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn();
            match spawned {
                // Reaped in the background; its end is seen through its pidfd.
                Ok(mut child) => drop(tokio::spawn(async move { child.wait().await })),
                Err(error) => return Err(failed(format!("start the supervisor: {error}"))),
            }
        }
        let started = Instant::now();
        loop {
            if let Some(running) = read_json::<Running>(&pid_file) {
                return Ok(running);
            }
            if let Some(ended) = read_json::<Ended>(&self.folder.join("exit.json")) {
                return Err(exit(&ended));
            }
            if started.elapsed() > START_DEADLINE {
                return Err(failed("its supervisor did not start it within 20 s".to_owned()));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn watch(
        &self,
        plan: &Plan,
        running: Running,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Ended {
        let mut end = std::pin::pin!(self.end(running));
        let mut probing = std::pin::pin!(self.probe(plan));
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
                    kill_group(running);
                    kill_at = Some(tokio::time::Instant::now() + Duration::from_secs(1));
                }
                command = commands.recv() => match command {
                    Some(Command::Stop(_)) => {
                        if kill_at.is_none() {
                            signal(running, plan.stop_signal);
                            kill_at = Some(tokio::time::Instant::now() + plan.grace);
                        }
                    }
                    Some(Command::Signal(_, number)) => signal(running, number),
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
        kill_group(running);
        let error = Some("task: its supervisor died".to_owned());
        let ended = Ended { code: 137, error, at: dockerapi::stamp::now().0 };
        let _ = disk::replace(&exit_file, &serde_json::to_vec(&ended).unwrap_or_default());
        ended
    }

    /// Probes until the task is found unhealthy; reports that it runs, and that it is not well.
    async fn probe(&self, plan: &Plan) {
        let marker = self.folder.join("healthy");
        let was_healthy = marker.exists();
        let Some(probe) = plan.probe.as_ref().filter(|_| !was_healthy).or(plan.probe.as_ref())
        else {
            return self.runs().await;
        };
        if was_healthy {
            self.runs().await;
        }
        let mut health = Health::new(Instant::now(), was_healthy);
        loop {
            sleep(health.next_wait(probe)).await;
            let outcome = probe.run(&plan.job).await;
            match health.judge(probe, Instant::now(), outcome.is_ok()) {
                Verdict::BecameHealthy => {
                    let _ = fs::write(&marker, b"");
                    self.runs().await;
                }
                Verdict::Unhealthy => {
                    let error = outcome.err().unwrap_or_default();
                    return self.report(Observation::Unhealthy { error }).await;
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

/// Makes the task's folder, or reads it where it is made already.
fn prepare(shared: &Shared, launch: &Launch, folder: &Path) -> Result<Plan, String> {
    let definition: Definition = serde_json::from_str(&launch.definition)
        .map_err(|error| format!("the task's definition cannot be read: {error}"))?;
    let spec = definition.task_template.container_spec.unwrap_or_default();
    let image = shared.images.get(&spec.image).map_err(|error| error.to_string())?;
    let root = shared.images.root(&image).map_err(|error| error.to_string())?;
    let config = ImageConfig(&image.config);
    let known = read_json::<Job>(&folder.join("task.json"));
    let ports = match &known {
        Some(job) => job.ports.clone(),
        None => {
            let targets: Vec<u16> =
                definition.endpoint_spec.ports.iter().map(|port| port.target_port).collect();
            shared.choose_ports(&targets).ok_or("no free loopback port for the task")?
        }
    };
    shared.know(&launch.task, |known| known.ports.clone_from(&ports));
    let job = match known {
        Some(job) => job,
        None => make(shared, launch, folder, &root, &config, &spec, ports)
            .map_err(|error| format!("prepare {}: {error}", folder.display()))?,
    };
    let mut probe = plan::probe(&config, &spec, launch, &job.ports);
    if let Some(probe) = &mut probe {
        probe.resolve(|program| plan::program(program, &root, &job.env));
    }
    let (stop_signal, grace) = (plan::stop_signal(&config, &spec), plan::grace(&spec));
    Ok(Plan { job, probe, stop_signal, grace })
}

fn make(
    shared: &Shared,
    launch: &Launch,
    folder: &Path,
    root: &Path,
    config: &ImageConfig<'_>,
    spec: &ContainerSpec,
    ports: Vec<(u16, u16)>,
) -> std::io::Result<Job> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    files(launch, spec, folder)?;
    let env = plan::environment(config, spec, launch, &ports, folder);
    let mut argv = plan::command_line(config, spec);
    if let Some(first) = argv.first_mut() {
        *first = plan::program(first, root, &env);
    }
    // A path that the image has means the image's file, as it would in a container.
    for argument in argv.iter_mut().skip(1) {
        let own = root.join(argument.trim_start_matches('/'));
        if argument.len() > 1 && argument.starts_with('/') && own.exists() {
            *argument = own.to_string_lossy().into_owned();
        }
    }
    let cwd = folder.join("work");
    let wanted = root.join(plan::working_folder(config, spec).trim_start_matches('/'));
    fs::create_dir_all(&cwd)?;
    for entry in fs::read_dir(&wanted).into_iter().flatten().flatten() {
        let link = cwd.join(entry.file_name());
        if !link.exists() {
            symlink(entry.path(), link)?;
        }
    }
    let job = Job {
        argv,
        env,
        cwd: cwd.to_string_lossy().into_owned(),
        uid: None,
        gid: None,
        log_max_bytes: shared.config.log_max_bytes,
        log_max_files: shared.config.log_max_files,
        ports,
    };
    disk::replace(&folder.join("task.json"), &serde_json::to_vec(&job)?)?;
    Ok(job)
}

/// Secrets and configs as files in the task's private folder.
fn files(launch: &Launch, spec: &ContainerSpec, folder: &Path) -> std::io::Result<()> {
    let secrets = spec.secrets.iter().map(|reference| ("run/secrets", reference));
    let configs = spec.configs.iter().map(|reference| ("run/configs", reference));
    for (under, reference) in secrets.chain(configs) {
        let Some(bytes) = launch.files.get(reference.id()) else { continue };
        let name = Path::new(&reference.file.name).file_name().unwrap_or_default();
        let path = folder.join("files").join(under).join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = reference.file.mode.unwrap_or(0o444) & 0o777;
        let mut file =
            fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn signal(running: Running, number: i32) {
    let Some(pid) = Pid::from_raw(running.child.pid) else { return };
    let Some(signal) = Signal::from_named_raw(number) else { return };
    if running.child.is_alive() {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn kill_group(running: Running) {
    let Some(pid) = Pid::from_raw(running.child.pid) else { return };
    if running.child.is_alive() {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// Waits for the end of a process that need not be our child.
#[expect(deprecated, reason = "an OwnedFd keeps its promise of IO safety; the new name is unsafe")]
async fn wait_for(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let Ok(pidfd) = AsyncFd::new(pidfd) else { return };
    let _ = pidfd.readable().await;
}
