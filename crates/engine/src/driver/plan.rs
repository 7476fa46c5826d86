//! From an image and a task's definition to what is run: arguments, environment, working folder,
//! probe. Pure but for looking whether files of the image exist.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use dockerapi::spec::{ContainerSpec, Healthcheck, Reference};
use serde_json::Value;

use super::{
    Launch,
    health::{Probe, Test},
    layer::Layer,
};
use crate::template::Context;

/// The variable by which whatever a task left behind is found.
const MARKER: &str = "EVENKEEL_TASK";

/// The entry of a task's environment that no other process has.
pub(super) fn marker(task: &orchestrator::TaskId) -> String {
    format!("{MARKER}={task}")
}

/// The image's part of what is run.
pub(crate) struct ImageConfig<'a>(pub(crate) &'a Value);

impl ImageConfig<'_> {
    fn list(&self, key: &str) -> Vec<String> {
        let list = self.0.get("config").and_then(|c| c.get(key)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_owned())).collect()
    }

    fn text(&self, key: &str) -> &str {
        self.0.get("config").and_then(|c| c.get(key)).and_then(Value::as_str).unwrap_or("")
    }

    fn healthcheck(&self) -> Option<Healthcheck> {
        let check = self.0.get("config")?.get("Healthcheck")?.clone();
        serde_json::from_value(check).ok()
    }
}

/// The command line before its program is looked up: Docker's rules for entrypoint and command.
pub(super) fn command_line(image: &ImageConfig<'_>, spec: &ContainerSpec) -> Vec<String> {
    let (entrypoint, arguments) = if spec.command.is_empty() {
        let own = if spec.args.is_empty() { image.list("Cmd") } else { spec.args.clone() };
        (image.list("Entrypoint"), own)
    } else {
        (spec.command.clone(), spec.args.clone())
    };
    entrypoint.into_iter().chain(arguments).collect()
}

/// The environment: the image's, the service's (its templates expanded), then what the contract
/// sets.
pub(super) fn environment(
    image: &ImageConfig<'_>,
    spec: &ContainerSpec,
    launch: &Launch,
    ports: &[(u16, u16)],
) -> Vec<(String, String)> {
    let mut env = BTreeMap::new();
    env.insert("PATH".to_owned(), std::env::var("PATH").unwrap_or("/usr/bin:/bin".to_owned()));
    for entry in image.list("Env").iter().chain(&spec.env) {
        match entry.split_once('=') {
            Some((key, value)) => env.insert(key.to_owned(), value.to_owned()),
            // A name alone takes the variable away, as Docker does.
            None => env.remove(entry),
        };
    }
    if let Some((_, first)) = ports.first() {
        env.insert("PORT".to_owned(), first.to_string());
    }
    for (target, own) in ports {
        env.insert(format!("PORT_{target}"), own.to_string());
    }
    env.insert("HOST".to_owned(), "127.0.0.1".to_owned());
    env.insert(MARKER.to_owned(), launch.task.0.clone());
    if !spec.hostname.is_empty() {
        env.insert("HOSTNAME".to_owned(), spec.hostname.clone());
    }
    env.into_iter().collect()
}

/// Where a task's secrets and configs are for it: at their target, configs also by their name under
/// `/run/configs`.
pub(super) fn files(spec: &ContainerSpec) -> impl Iterator<Item = (String, &Reference)> {
    let at = |folder: &'static str, reference: &Reference| {
        let name = &reference.file.name;
        if name.starts_with('/') { name.clone() } else { format!("{folder}/{name}") }
    };
    let secrets = spec.secrets.iter().map(move |secret| (at("/run/secrets", secret), secret));
    let configs = spec.configs.iter().map(move |config| (at("", config), config));
    let by_name = spec.configs.iter().map(|config| {
        let name = Path::new(&config.file.name).file_name().unwrap_or_default();
        (format!("/run/configs/{}", name.to_string_lossy()), config)
    });
    secrets.chain(configs).chain(by_name)
}

/// What templates of this task can say.
pub(super) fn context(launch: &Launch) -> Context<'_> {
    Context {
        service_id: &launch.service_id,
        service_name: &launch.service_name,
        service_labels: launch.service_labels.clone(),
        node_id: &launch.node_id,
        node_hostname: &launch.node_hostname,
        task_id: &launch.task.0,
        task_name: &launch.name,
        task_slot: match launch.slot {
            0 => launch.node_id.clone(),
            slot => slot.to_string(),
        },
    }
}

/// Says of a command line what is meant on this machine: the program, and arguments that are paths
/// of files the task has.
pub(crate) fn look_up(argv: &mut [String], layer: &Layer, env: &[(String, String)]) {
    let Some((first, arguments)) = argv.split_first_mut() else { return };
    *first = program(first, layer, env);
    for argument in arguments {
        let is_path = argument.len() > 1 && argument.starts_with('/');
        if let Some(own) = layer.find(argument).filter(|_| is_path) {
            *argument = own.to_string_lossy().into_owned();
        }
    }
}

/// Where a program is: among the task's files first, then on the host. The name as it was, when
/// nowhere.
pub(super) fn program(name: &str, layer: &Layer, env: &[(String, String)]) -> String {
    let inside = |path: &Path| layer.find(&path.to_string_lossy()).filter(|own| own.is_file());
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    if name.starts_with('/') {
        return inside(Path::new(name)).map_or_else(|| name.to_owned(), text);
    }
    if name.contains('/') {
        return name.to_owned();
    }
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value);
    let folders = || path.split(':').filter(|folder| !folder.is_empty());
    let own = folders().find_map(|folder| inside(&Path::new(folder).join(name)));
    let host = || folders().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    own.or_else(host).map_or_else(|| name.to_owned(), text)
}

/// The working folder that the image or the service names; `/` when none does.
pub(crate) fn working_folder<'a>(image: &'a ImageConfig<'_>, spec: &'a ContainerSpec) -> &'a str {
    let own = if spec.dir.is_empty() { image.text("WorkingDir") } else { &spec.dir };
    if own.is_empty() { "/" } else { own }
}

/// The user that the service or the image names; nothing when none does.
pub(super) fn user<'a>(image: &'a ImageConfig<'_>, spec: &'a ContainerSpec) -> &'a str {
    if spec.user.is_empty() { image.text("User") } else { &spec.user }
}

/// The stop signal's number; SIGTERM when none is named.
pub(crate) fn stop_signal(image: &ImageConfig<'_>, spec: &ContainerSpec) -> i32 {
    let own =
        if spec.stop_signal.is_empty() { image.text("StopSignal") } else { &spec.stop_signal };
    signal_number(own).unwrap_or(15)
}

/// `SIGTERM`, `TERM` or `15`.
pub fn signal_number(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let known = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("URG", 23),
        ("WINCH", 28),
    ];
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    known.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

pub(crate) fn grace(spec: &ContainerSpec) -> Duration {
    spec.stop_grace_period.map_or(Duration::from_secs(10), Duration::from_nanos)
}

/// The probe in force: HTTP by label, else the service's command, else the image's. Programs are
/// looked up as the task's own.
pub(super) fn probe(
    image: &ImageConfig<'_>,
    spec: &ContainerSpec,
    launch: &Launch,
    ports: &[(u16, u16)],
    lookup: impl Fn(&str) -> String,
) -> Option<Probe> {
    let own = spec.healthcheck.clone();
    let inherited = image.healthcheck();
    let has_test = own.as_ref().is_some_and(|check| !check.test.is_empty());
    let test = if has_test { own.clone() } else { inherited.clone() };
    let timing = own.or(inherited).unwrap_or_default();
    if let Some(path) = launch.service_labels.get(dockerapi::convert::HEALTH_HTTP) {
        let port = ports.first().map(|(_, own)| *own)?;
        return Some(Probe::new(Test::Http { port, path: path.clone() }, &timing));
    }
    let test = test?.test;
    let (kind, rest) = test.split_first()?;
    let argv = match (kind.as_str(), rest) {
        ("CMD", [program, arguments @ ..]) => {
            std::iter::once(lookup(program)).chain(arguments.iter().cloned()).collect()
        }
        ("CMD-SHELL", script) => {
            let shell = [lookup("/bin/sh"), "-c".to_owned()];
            shell.into_iter().chain(script.iter().cloned()).collect()
        }
        _ => return None,
    };
    Some(Probe::new(Test::Command(argv), &timing))
}
