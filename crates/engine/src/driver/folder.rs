//! A task's folder: made once from the image and the definition, read back ever after.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use dockerapi::spec::{ContainerSpec, Definition};
use serde_json::Value;

use super::{
    Launch,
    health::Probe,
    layer::Layer,
    logging,
    mount::{self, Mounted},
    plan::{self, ImageConfig},
    process::Shared,
    user::{self, User},
    vault::{self, Copy},
};
use crate::{
    disk, image,
    limits::{Limits, may_raise},
    supervisor::{Job, console::Console, read_json},
    template::{self, Payload},
};

/// What a started task needs to be watched and stopped.
pub(super) struct Plan {
    pub(super) job: Job,
    pub(super) probe: Option<Probe>,
    pub(super) stop_signal: i32,
    pub(super) grace: Duration,
}

/// Makes the task's folder, or reads it where it is made already. The error is for people.
pub(super) fn prepare(shared: &Shared, launch: &Launch, folder: &Path) -> Result<Plan, String> {
    let definition: Definition = serde_json::from_str(&launch.definition)
        .map_err(|error| format!("the task's definition cannot be read: {error}"))?;
    let limits = limits(shared, launch)?;
    let spec = definition.task_template.container_spec.unwrap_or_default();
    let spec = template::spec(&spec, &plan::context(launch))?;
    let image = shared.images.hold(&spec.image, &launch.task.0).map_err(|e| e.to_string())?;
    let root = shared.images.root(&image).map_err(|error| error.to_string())?;
    let config = ImageConfig(&image.config);
    let known = read_json::<Job>(&folder.join("task.json"));
    let ports = match &known {
        Some(job) => {
            shared.ports.take(&job.ports);
            job.ports.clone()
        }
        None => {
            let targets: Vec<u16> =
                definition.endpoint_spec.ports.iter().map(|port| port.target_port).collect();
            shared.ports.choose(&targets).ok_or("no free loopback port for the task")?
        }
    };
    shared.know(&launch.task, |known| known.ports.clone_from(&ports));
    let asked = mount::of(&spec, folder)?;
    let vault = match &known {
        Some(job) => job.vault.clone().unwrap_or_else(|| folder.join("files")),
        None => shared.config.vault.root(folder),
    };
    let mut mounts = vault::mounted(&spec, &vault);
    mounts.extend(asked.iter().cloned());
    // The nearest folder is the one that is meant.
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.target.components().count()));
    let layer = Layer::new(folder, &root, plan::working_folder(&config, &spec), mounts.clone());
    let user = user::of(&config, &spec, &root)?;
    // Also for a task that is known: memory does not survive the machine's restart.
    if known.is_none() || !(vault.starts_with(folder) || vault.exists()) {
        let copies = copies(launch, &spec)?;
        vault::fill(&vault, &copies, user)
            .map_err(|error| format!("copy secrets to {}: {error}", vault.display()))?;
    }
    let job = match known {
        Some(job) => job,
        None => {
            mount::prepare(&spec, &asked, user)?;
            let (root, config, spec, layer) = (&root, &config, &spec, &layer);
            let vault = (!vault.starts_with(folder)).then_some(vault);
            let mounts = &mounts;
            let made =
                Made { shared, launch, folder, root, config, spec, layer, mounts, vault, limits };
            let mut job = made
                .make(ports, user)
                .map_err(|error| format!("prepare {}: {error}", folder.display()))?;
            let driver = definition.task_template.log_driver.unwrap_or_default();
            (job.log_max_bytes, job.log_max_files) =
                logging::limits(&driver, (job.log_max_bytes, job.log_max_files))?;
            if let Some(closed) =
                user.and_then(|user| user::closed_folder(Path::new(&job.cwd), user))
            {
                let (name, closed) = (plan::user(config, spec), closed.display());
                return Err(format!("user {name} may not enter {closed}; `chmod a+x {closed}`"));
            }
            disk::replace(
                &folder.join("task.json"),
                &serde_json::to_vec(&job).map_err(|error| error.to_string())?,
            )
            .map_err(|error| format!("prepare {}: {error}", folder.display()))?;
            job
        }
    };
    let lookup = |program: &str| plan::program(program, &layer, &job.env);
    let probe = plan::probe(&config, &spec, launch, &job.ports, lookup);
    let (stop_signal, grace) = (plan::stop_signal(&config, &spec), plan::grace(&spec));
    Ok(Plan { job, probe, stop_signal, grace })
}

/// What clients that attach may do.
fn console(spec: &ContainerSpec) -> Console {
    let is_set = |key: &str| spec.extra.get(key).and_then(Value::as_bool).unwrap_or(false);
    Console {
        has_terminal: is_set("TTY"),
        takes_input: is_set("OpenStdin"),
        ends_with_client: is_set("StdinOnce"),
    }
}

struct Made<'a> {
    shared: &'a Shared,
    launch: &'a Launch,
    folder: &'a Path,
    root: &'a Path,
    config: &'a ImageConfig<'a>,
    spec: &'a ContainerSpec,
    layer: &'a Layer,
    mounts: &'a [Mounted],
    vault: Option<PathBuf>,
    limits: Limits,
}

/// What the machine is asked for; an engine that came to another machine may have to refuse.
fn limits(shared: &Shared, launch: &Launch) -> Result<Limits, String> {
    let definition: Value = serde_json::from_str(&launch.definition).unwrap_or_default();
    let limits = Limits::of(&definition["TaskTemplate"])?;
    match shared.config.cgroups.refusal(&limits) {
        Some(refusal) => Err(refusal),
        None => Ok(shared.config.cgroups.keepable(limits.allowed(may_raise()))),
    }
}

impl Made<'_> {
    fn make(&self, ports: Vec<(u16, u16)>, user: Option<User>) -> io::Result<Job> {
        // Others may pass through, to the folders that are theirs, and see nothing.
        let mode = if user.is_some() { 0o711 } else { 0o700 };
        fs::DirBuilder::new().recursive(true).mode(mode).create(self.folder)?;
        // What is copied in goes there; every container has a `/tmp` to copy to.
        let room = self.folder.join("files");
        fs::create_dir_all(&room)?;
        if self.launch.is_alone {
            fs::create_dir_all(room.join("tmp"))?;
            fs::set_permissions(room.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        }
        let mut env = plan::environment(self.config, self.spec, self.launch, &ports);
        for (_, value) in &mut env {
            if let Some(real) = mount::resolve(self.mounts, Path::new(value.as_str())) {
                *value = real.to_string_lossy().into_owned();
            }
        }
        let cwd = self.working_folder(user)?;
        let argv = self.command_line(&env);
        Ok(Job {
            argv,
            env,
            cwd: cwd.to_string_lossy().into_owned(),
            uid: user.map(|user| user.uid),
            gid: user.map(|user| user.gid),
            log_max_bytes: self.shared.config.log_max_bytes,
            log_max_files: self.shared.config.log_max_files,
            ports,
            mounts: self.mounts.to_vec(),
            vault: self.vault.clone(),
            group: self.shared.config.cgroups.group(&self.launch.task),
            limits: self.limits.clone(),
            console: self.launch.is_alone.then(|| console(self.spec)),
        })
    }

    /// As it is run: a path that the task has means its own file, as it would in a container.
    fn command_line(&self, env: &[(String, String)]) -> Vec<String> {
        let mut argv = plan::command_line(self.config, self.spec);
        plan::look_up(&mut argv, self.layer, env);
        argv
    }

    /// A folder of the task's own, with links to what the image has in its working folder.
    fn working_folder(&self, user: Option<User>) -> io::Result<PathBuf> {
        let cwd = self.folder.join("work");
        fs::create_dir_all(&cwd)?;
        let wanted = Path::new(plan::working_folder(self.config, self.spec));
        let wanted = image::path::resolve(self.root, wanted);
        let entries = wanted.map(fs::read_dir).into_iter().flatten().flatten();
        for entry in entries.flatten() {
            let link = cwd.join(entry.file_name());
            if !link.exists() {
                symlink(entry.path(), link)?;
            }
        }
        if let Some(user) = user {
            chown(&cwd, Some(user.uid), Some(user.gid))?;
        }
        Ok(cwd)
    }
}

/// Secrets and configs as the task gets them: templates are expanded.
fn copies(launch: &Launch, spec: &ContainerSpec) -> Result<Vec<Copy>, String> {
    let payload = Payload { spec, files: &launch.files };
    let context = plan::context(launch);
    let mut copies = Vec::new();
    for (path, reference) in plan::files(spec) {
        let Some(bytes) = launch.files.get(reference.id()) else { continue };
        let bytes = match launch.templates.contains(reference.id()) {
            true => template::payload(reference, bytes, &context, &payload)?,
            false => bytes.clone(),
        };
        let file = &reference.file;
        let (uid, gid) = (file.uid.parse().ok(), file.gid.parse().ok());
        copies.push(Copy { path, bytes, mode: file.mode.unwrap_or(0o444), uid, gid });
    }
    Ok(copies)
}
