//! Images without Docker: run the build command, collect files, make a reproducible image, load it.

mod archive;

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use dockerapi::Client;
use stack::{Artifact, DockerBuild};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::watch,
};

use crate::{
    deploy::{Wanted, nothing_changed},
    error::Error,
    progress::{Progress, Said},
};
pub use archive::{Image, make};

/// How long one build command may take.
const BUILD: Duration = Duration::from_secs(3600);

/// Builds and loads the image of every service that has an artifact.
pub async fn all(
    client: &Client,
    wanted: &Wanted,
    is_embedded: bool,
    progress: &dyn Progress,
    interrupts: watch::Receiver<u32>,
) -> Result<Vec<(String, String)>, Error> {
    let folder = &wanted.source.folder;
    let mut done: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut built: Vec<(String, String)> = Vec::new();
    for service in &wanted.lowered.services {
        let Some(artifact) = &service.artifact else {
            let Some(build) = &service.build else { continue };
            if is_embedded {
                let text = format!("{}: a Dockerfile is built by a Docker engine", service.name);
                return Err(Error::new("build-needs-docker", text)
                    .hint("describe the image under `x-evenkeel: {artifact: …}`, or use Docker"));
            }
            if built.iter().any(|(image, _)| *image == service.image) {
                continue;
            }
            let argv = dockerfile(client.host(), &service.image, build);
            command(&service.name, &argv, folder, progress, interrupts.clone()).await?;
            let digest =
                client.image(&service.image).await?["Id"].as_str().unwrap_or("").to_owned();
            progress.say(Said::Output { line: format!("{} is {digest}", service.image) });
            built.push((service.image.clone(), digest));
            continue;
        };
        if built.iter().any(|(image, _)| *image == service.image) {
            continue;
        }
        if let Some(argv) = artifact.build.clone().filter(|argv| done.insert(argv.clone())) {
            command(&service.name, &argv, folder, progress, interrupts.clone()).await?;
        }
        let digest = load(client, &service.image, artifact, folder).await?;
        progress.say(Said::Output { line: format!("{} is {digest}", service.image) });
        built.push((service.image.clone(), digest));
    }
    Ok(built)
}

/// The docker client builds it: it knows every way of building that its engine has.
fn dockerfile(host: &str, image: &str, build: &DockerBuild) -> Vec<String> {
    let mut argv: Vec<String> =
        ["docker", "--host", host, "build", "--tag", image].map(str::to_owned).into();
    let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
    if let Some(file) = &build.dockerfile {
        option("--file", build.context.join(file).to_string_lossy().into_owned());
    }
    if let Some(target) = &build.target {
        option("--target", target.clone());
    }
    for (key, value) in &build.args {
        let value = value.as_ref().map_or(String::new(), |value| format!("={value}"));
        option("--build-arg", format!("{key}{value}"));
    }
    for (key, value) in &build.labels {
        option("--label", format!("{key}={value}"));
    }
    argv.push(build.context.to_string_lossy().into_owned());
    argv
}

/// Makes the image and loads it, unless the engine has the same already.
async fn load(
    client: &Client,
    name: &str,
    artifact: &Artifact,
    folder: &Path,
) -> Result<String, Error> {
    let (name, artifact, folder) = (name.to_owned(), artifact.clone(), folder.to_owned());
    let made = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || make(&name, &artifact, &folder)).await
    };
    let image = made.map_err(|error| Error::new("build-failed", error.to_string()))??;
    let known = client.image(&name).await.ok();
    if known.is_some_and(|known| known["Id"] == image.id.as_str()) {
        return Ok(image.id);
    }
    client.upload("/images/load?quiet=1", image.archive.into()).await?;
    Ok(image.id)
}

/// Runs a build command in the stack file's folder; its output is passed on line by line.
async fn command(
    service: &str,
    argv: &[String],
    folder: &Path,
    progress: &dyn Progress,
    mut interrupts: watch::Receiver<u32>,
) -> Result<(), Error> {
    let failed = |what: String| {
        Error::new("build-failed", format!("{service}: `{}` {what}", argv.join(" ")))
            .hint("its output is above; run it by hand in the stack file's folder")
    };
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let group = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    let out = child.stdout.take().map(|pipe| BufReader::new(pipe).lines());
    let err = child.stderr.take().map(|pipe| BufReader::new(pipe).lines());
    let (Some(mut out), Some(mut err)) = (out, err) else { return Ok(()) };
    let deadline = tokio::time::sleep(BUILD);
    let mut deadline = std::pin::pin!(deadline);
    let (mut is_out, mut is_err) = (true, true);
    let status = loop {
        tokio::select! {
            line = out.next_line(), if is_out => match line {
                Ok(Some(line)) => progress.say(Said::Output { line }),
                _ => is_out = false,
            },
            line = err.next_line(), if is_err => match line {
                Ok(Some(line)) => progress.say(Said::Output { line }),
                _ => is_err = false,
            },
            status = child.wait(), if !is_out && !is_err => break status,
            () = &mut deadline => {
                kill(group);
                return Err(failed("took longer than an hour".to_owned()));
            }
            _ = interrupts.wait_for(|count| *count > 0) => {
                kill(group);
                return Err(nothing_changed());
            }
        }
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("ended with {status}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn kill(group: Option<rustix::process::Pid>) {
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}
