//! Containers outside any service: from their creation to their removal.

use anyhow::{Context, Result, bail, ensure};
use bollard::{
    Docker,
    models::{ContainerCreateBody, ContainerStateStatusEnum},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptions, CreateContainerOptionsBuilder,
        ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        RenameContainerOptionsBuilder, RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
    },
};
use futures_util::TryStreamExt;
use tokio::io::AsyncWriteExt;

use super::{
    Case,
    beside::{copied_out, copy_in, run},
    refused, until,
};

pub const ALL: &[Case] = &[
    ("a container runs to its end", |docker| Box::pin(to_its_end(docker))),
    ("a container is stopped, started and renamed", |docker| Box::pin(stopped(docker))),
    ("a container is attached to before it starts", |docker| Box::pin(attached(docker))),
    ("commands and files of a container", |docker| Box::pin(beside(docker))),
];

/// Made, not started.
async fn make(docker: &Docker, name: &str, words: &[&str]) -> Result<String> {
    let made = docker.create_container(named(name), body(name, words)).await?;
    ensure!(made.id.len() == 64, "{made:?}");
    Ok(made.id)
}

fn named(name: &str) -> Option<CreateContainerOptions> {
    Some(CreateContainerOptionsBuilder::new().name(name).build())
}

fn body(name: &str, words: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("sem:1".to_owned()),
        cmd: Some(words.iter().map(ToString::to_string).collect()),
        env: Some(vec!["A=B".to_owned()]),
        labels: Some([("of".to_owned(), name.to_owned())].into()),
        ..Default::default()
    }
}

async fn remove(docker: &Docker, id: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    Ok(docker.remove_container(id, Some(options)).await?)
}

/// Its exit code, which this client makes an error of when it is not 0.
async fn end(docker: &Docker, id: &str) -> Result<i64> {
    match docker.wait_container(id, None).try_collect::<Vec<_>>().await {
        Ok(ends) => Ok(ends.first().context("an end")?.status_code),
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => Ok(code),
        Err(other) => bail!("{other}"),
    }
}

async fn is_listed(docker: &Docker, name: &str, all: bool) -> Result<bool> {
    let filters = [("label".to_owned(), vec![format!("of={name}")])].into();
    let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
    Ok(!docker.list_containers(Some(options)).await?.is_empty())
}

async fn to_its_end(docker: &Docker) -> Result<()> {
    let id = make(docker, "b-end", &["echo", "hi"]).await?;
    let again = docker.create_container(named("b-end"), body("b-end", &[])).await;
    refused(again, 409)?;
    let made = docker.inspect_container("b-end", None).await?;
    let status = made.state.and_then(|state| state.status);
    ensure!(status == Some(ContainerStateStatusEnum::CREATED), "{status:?}");
    docker.start_container(&id, None).await?;
    ensure!(end(docker, &id).await? == 0, "a good end");
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let lines: Vec<_> = docker.logs(&id, Some(options)).try_collect().await?;
    let mut lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    lines.sort();
    ensure!(lines == ["err:hi\n", "hi\n"], "{lines:?}");
    let seen = docker.inspect_container(&id, None).await?;
    ensure!(seen.name.as_deref() == Some("/b-end"), "{:?}", seen.name);
    let state = seen.state.context("a state")?;
    ensure!(state.status == Some(ContainerStateStatusEnum::EXITED), "{state:?}");
    ensure!(state.exit_code == Some(0) && state.finished_at.is_some(), "{state:?}");
    let (among_all, running) =
        (is_listed(docker, "b-end", true).await?, is_listed(docker, "b-end", false).await?);
    ensure!(among_all && !running, "{among_all} {running}");
    docker.remove_container(&id, None).await?;
    refused(docker.inspect_container(&id, None).await, 404)?;
    let id = make(docker, "b-end", &["exit", "3"]).await?;
    docker.start_container(&id, None).await?;
    let code = end(docker, &id).await?;
    remove(docker, &id).await?;
    ensure!(code == 3, "{code}");
    Ok(())
}

async fn stopped(docker: &Docker) -> Result<()> {
    let id = make(docker, "b-stopped", &[]).await?;
    docker.start_container(&id, None).await?;
    ensure!(is_listed(docker, "b-stopped", false).await?, "it runs");
    refused(docker.remove_container(&id, None).await, 409)?;
    let pid = |seen: bollard::models::ContainerInspectResponse| seen.state?.pid;
    let first = pid(docker.inspect_container(&id, None).await?);
    let options = RestartContainerOptionsBuilder::new().t(5).build();
    docker.restart_container(&id, Some(options)).await?;
    let second = pid(docker.inspect_container(&id, None).await?);
    ensure!(first != second && second.is_some_and(|pid| pid > 0), "{first:?} {second:?}");
    let options = RenameContainerOptionsBuilder::new().name("b-renamed").build();
    docker.rename_container(&id, options).await?;
    // It says so when it hears its stop signal, which it does once it has begun.
    let said = async || {
        let options = LogsOptionsBuilder::new().stdout(true).build();
        let lines: Vec<_> = docker.logs("b-renamed", Some(options)).try_collect().await?;
        anyhow::Ok(lines.iter().map(ToString::to_string).collect::<String>())
    };
    until("that it listens again", async || {
        Ok((said().await?.matches("listening 1\n").count() == 2).then_some(()))
    })
    .await?;
    let options = StopContainerOptionsBuilder::new().t(5).build();
    docker.stop_container("b-renamed", Some(options)).await?;
    let (state, said) = (docker.inspect_container(&id, None).await?.state, said().await?);
    remove(docker, &id).await?;
    ensure!(said.ends_with("got signal 15\n"), "{said}");
    let state = state.context("a state")?;
    ensure!(state.running == Some(false) && state.exit_code == Some(0), "{state:?}");
    Ok(())
}

async fn attached(docker: &Docker) -> Result<()> {
    let wanted = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..body("b-attached", &["cat"])
    };
    let id = docker.create_container(named("b-attached"), wanted).await?.id;
    let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true);
    let mut client = docker.attach_container(&id, Some(options.build())).await?;
    docker.start_container(&id, None).await?;
    client.input.write_all(b"one\ntwo\n").await?;
    client.input.shutdown().await?;
    let said: Vec<_> = client.output.try_collect().await?;
    let code = end(docker, &id).await?;
    remove(docker, &id).await?;
    let said: String = said.iter().map(ToString::to_string).collect();
    ensure!(said == "one\ntwo\n" && code == 0, "{code} {said:?}");
    Ok(())
}

async fn beside(docker: &Docker) -> Result<()> {
    let id = make(docker, "b-beside", &[]).await?;
    // Files of one that does not run yet.
    copy_in(docker, &id, "note", "hello").await?;
    docker.start_container(&id, None).await?;
    let read = run(docker, &id, &["readfile", "/note"]).await?;
    let env = run(docker, &id, &["env"]).await?;
    let failed = run(docker, &id, &["exit", "4"]).await?;
    let back = copied_out(docker, &id, "/note").await?;
    let top = docker.top_processes(&id, None).await?;
    remove(docker, &id).await?;
    ensure!(read.out == "hello" && read.code == Some(0), "{read:?}");
    ensure!(env.out.lines().any(|line| line == "A=B"), "{env:?}");
    ensure!(failed.code == Some(4), "{failed:?}");
    ensure!(back == "hello", "{back}");
    ensure!(top.processes.is_some_and(|processes| !processes.is_empty()), "its processes");
    Ok(())
}
