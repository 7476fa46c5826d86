//! Tasks as containers: listed, inspected, measured, ended; commands beside them, files in and out.

use anyhow::{Context, Result, bail, ensure};
use bollard::{
    Docker, body_full,
    container::LogOutput,
    exec::{ResizeExecOptions, StartExecOptions, StartExecResults},
    models::{ContainerStateStatusEnum, ExecConfig, HealthStatusEnum},
    query_parameters::{
        DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder,
        ListContainersOptionsBuilder, LogsOptionsBuilder, StatsOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{Case, container, refused, serve, until, until_running};

pub const ALL: &[Case] = &[
    ("containers are listed and inspected", |docker| Box::pin(shown(docker))),
    ("a container's health", |docker| Box::pin(health(docker))),
    ("a container's logs and figures", |docker| Box::pin(measured(docker))),
    ("a container is waited for and killed", |docker| Box::pin(killed(docker))),
    ("a command's output and exit code", |docker| Box::pin(output(docker))),
    ("a command's input", |docker| Box::pin(input(docker))),
    ("a command on a terminal, and one alone", |docker| Box::pin(terminal(docker))),
    ("files in and out", |docker| Box::pin(files(docker))),
];

async fn shown(docker: &Docker) -> Result<()> {
    serve(docker, "shown", 1, &["A=B"]).await?;
    let id = container(docker, "shown").await?;
    let label = "com.docker.swarm.service.name=shown".to_owned();
    let filters = [("label".to_owned(), vec![label])].into();
    let options = ListContainersOptionsBuilder::new().filters(&filters).build();
    let found = docker.list_containers(Some(options)).await?;
    ensure!(found.len() == 1 && found[0].id.as_deref() == Some(&id), "{found:?}");
    let seen = docker.inspect_container(&id, None).await?;
    docker.delete_service("shown").await?;
    let state = seen.state.context("a state")?;
    ensure!(state.running == Some(true), "{state:?}");
    ensure!(state.status == Some(ContainerStateStatusEnum::RUNNING), "{state:?}");
    ensure!(state.pid.is_some_and(|pid| pid > 0), "{state:?}");
    let env = seen.config.and_then(|config| config.env).unwrap_or_default();
    ensure!(env.contains(&"A=B".to_owned()), "{env:?}");
    refused(docker.inspect_container("nosuch", None).await, 404)
}

async fn health(docker: &Docker) -> Result<()> {
    let spec = json!({
        "Name": "health", "TaskTemplate": { "ContainerSpec": { "Image": "semh:1" } },
    });
    docker.create_service(serde_json::from_value(spec)?, None).await?;
    until_running(docker, "health", 1).await?;
    let id = container(docker, "health").await?;
    let seen = docker.inspect_container(&id, None).await?;
    docker.delete_service("health").await?;
    let health = seen.state.and_then(|state| state.health).context("its health")?;
    ensure!(health.status == Some(HealthStatusEnum::HEALTHY), "{health:?}");
    let log = health.log.unwrap_or_default();
    ensure!(log.last().is_some_and(|probe| probe.exit_code == Some(0)), "{log:?}");
    Ok(())
}

async fn measured(docker: &Docker) -> Result<()> {
    serve(docker, "measured", 1, &["LOG_EVERY=50"]).await?;
    let id = container(docker, "measured").await?;
    let options = StatsOptionsBuilder::new().stream(false).build();
    let once: Vec<_> = docker.stats(&id, Some(options)).try_collect().await?;
    ensure!(once.len() == 1, "one answer: {once:?}");
    let memory = once[0].memory_stats.as_ref().and_then(|memory| memory.usage);
    ensure!(memory.is_some_and(|bytes| bytes > 0), "{memory:?}");
    let stream = docker.stats(&id, Some(StatsOptionsBuilder::new().stream(true).build()));
    let two: Vec<_> = stream.take(2).try_collect().await?;
    ensure!(two.len() == 2, "one after another");
    let options = LogsOptionsBuilder::new().stdout(true).tail("3").build();
    let lines: Vec<_> = docker.logs(&id, Some(options)).try_collect().await?;
    docker.delete_service("measured").await?;
    ensure!(lines.len() == 3, "{lines:?}");
    ensure!(lines.iter().all(|line| line.to_string().starts_with("out ")), "{lines:?}");
    Ok(())
}

async fn killed(docker: &Docker) -> Result<()> {
    let first = serve(docker, "killed", 1, &[]).await?;
    let id = container(docker, "killed").await?;
    let mut wait = Box::pin(docker.wait_container(&id, None));
    let kill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    let (ended, killed) = tokio::join!(wait.next(), docker.kill_container(&id, Some(kill)));
    killed?;
    // This client makes an error of an exit code that is not 0.
    match ended.context("an end")? {
        Err(bollard::errors::Error::DockerContainerWaitError { code: 137, .. }) => {}
        other => bail!("{other:?}"),
    }
    until("another task", async || {
        let now = until_running(docker, "killed", 1).await?;
        Ok((now != first).then_some(()))
    })
    .await?;
    docker.delete_service("killed").await?;
    Ok(())
}

/// A command of the exam's service with both its streams.
fn command(words: &[&str]) -> ExecConfig {
    ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(std::iter::once(&"/app").chain(words).map(ToString::to_string).collect()),
        ..Default::default()
    }
}

/// What a command said, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: Option<i64>,
}

/// Runs a command of the exam's service to its end.
pub async fn run(docker: &Docker, container: &str, words: &[&str]) -> Result<Ran> {
    let exec = docker.create_exec(container, command(words)).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await? else {
        bail!("not attached");
    };
    let said: Vec<_> = output.try_collect().await?;
    // How it comes in pieces is nobody's business.
    let (mut out, mut err) = (String::new(), String::new());
    for piece in &said {
        match piece {
            LogOutput::StdOut { .. } => out.push_str(&piece.to_string()),
            LogOutput::StdErr { .. } => err.push_str(&piece.to_string()),
            LogOutput::StdIn { .. } | LogOutput::Console { .. } => bail!("{said:?}"),
        }
    }
    let seen = docker.inspect_exec(&exec).await?;
    ensure!(seen.running == Some(false), "{seen:?}");
    Ok(Ran { out, err, code: seen.exit_code })
}

async fn output(docker: &Docker) -> Result<()> {
    serve(docker, "output", 1, &[]).await?;
    let id = container(docker, "output").await?;
    let said = run(docker, &id, &["echo", "hi"]).await?;
    let failed = run(docker, &id, &["exit", "3"]).await?;
    docker.delete_service("output").await?;
    ensure!(said.out == "hi\n" && said.err == "err:hi\n" && said.code == Some(0), "{said:?}");
    ensure!(failed.code == Some(3), "{failed:?}");
    refused(docker.inspect_exec("nosuch").await, 404)
}

async fn input(docker: &Docker) -> Result<()> {
    serve(docker, "input", 1, &[]).await?;
    let id = container(docker, "input").await?;
    let config = ExecConfig { attach_stdin: Some(true), ..command(&["cat"]) };
    let exec = docker.create_exec(&id, config).await?.id;
    let started = docker.start_exec(&exec, None).await?;
    let StartExecResults::Attached { output, mut input } = started else {
        bail!("not attached");
    };
    input.write_all(b"one\ntwo\n").await?;
    input.shutdown().await?;
    let said: Vec<_> = output.try_collect().await?;
    docker.delete_service("input").await?;
    let said: String = said.iter().map(ToString::to_string).collect();
    ensure!(said == "one\ntwo\n", "{said:?}");
    Ok(())
}

async fn terminal(docker: &Docker) -> Result<()> {
    serve(docker, "terminal", 1, &[]).await?;
    let id = container(docker, "terminal").await?;
    let stdin = Some(true);
    let config = ExecConfig { tty: Some(true), attach_stdin: stdin, ..command(&["cat"]) };
    let exec = docker.create_exec(&id, config).await?.id;
    let options = StartExecOptions { tty: true, ..Default::default() };
    let started = docker.start_exec(&exec, Some(options)).await?;
    let StartExecResults::Attached { mut output, mut input } = started else {
        bail!("not attached");
    };
    docker.resize_exec(&exec, ResizeExecOptions { height: 40, width: 100 }).await?;
    input.write_all(b"hi\n").await?;
    let mut said = String::new();
    // Once as the terminal's echo, once from the command.
    while said.matches("hi\r\n").count() < 2 {
        said.push_str(&output.next().await.context("more")??.to_string());
    }
    input.write_all(&[4]).await?;
    while output.next().await.is_some() {}
    ensure!(docker.inspect_exec(&exec).await?.exit_code == Some(0), "{said:?}");
    let exec = docker.create_exec(&id, command(&["echo", "hi"])).await?.id;
    let options = StartExecOptions { detach: true, ..Default::default() };
    let started = docker.start_exec(&exec, Some(options)).await?;
    ensure!(matches!(started, StartExecResults::Detached), "{started:?}");
    until("its end", async || {
        let seen = docker.inspect_exec(&exec).await?;
        Ok((seen.running == Some(false)).then_some(()))
    })
    .await?;
    docker.delete_service("terminal").await?;
    Ok(())
}

/// Puts a file into a container's root.
pub async fn copy_in(docker: &Docker, container: &str, name: &str, content: &str) -> Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len())?);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, name, content.as_bytes())?;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let body = body_full(archive.into_inner()?.into());
    Ok(docker.upload_to_container(container, Some(options), body).await?)
}

/// What a file of a container has in it.
pub async fn copied_out(docker: &Docker, container: &str, path: &str) -> Result<String> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let download = docker.download_from_container(container, Some(options));
    let pieces: Vec<bytes::Bytes> = download.try_collect().await?;
    let bytes = pieces.concat();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut member = archive.entries()?.next().context("a member")??;
    ensure!(path.ends_with(&member.path()?.display().to_string()), "{:?}", member.path());
    let mut content = String::new();
    std::io::Read::read_to_string(&mut member, &mut content)?;
    Ok(content)
}

async fn files(docker: &Docker) -> Result<()> {
    serve(docker, "files", 1, &[]).await?;
    let id = container(docker, "files").await?;
    copy_in(docker, &id, "note", "hello").await?;
    let content = copied_out(docker, &id, "/note").await?;
    let options = DownloadFromContainerOptionsBuilder::new().path("/nosuch").build();
    let missing: Vec<_> = docker.download_from_container(&id, Some(options)).collect().await;
    docker.delete_service("files").await?;
    ensure!(content == "hello", "{content}");
    refused(missing.into_iter().next().context("an answer")?, 404)
}
