//! Images on their way: saved and loaded, pushed and pulled.

use anyhow::{Result, ensure};
use bollard::{
    Docker,
    auth::DockerCredentials,
    body_full,
    query_parameters::{
        CreateImageOptionsBuilder, ImportImageOptions, PushImageOptionsBuilder, RemoveImageOptions,
        TagImageOptionsBuilder,
    },
};
use conformance::registry::{PASSWORD, USER};
use futures_util::TryStreamExt;

use super::{Case, Stage, refused};

pub const ALL: &[Case] = &[
    ("images are saved and loaded", |stage| Box::pin(saved(stage))),
    ("an image is pushed and pulled", |stage| Box::pin(pushed(stage))),
    ("what a registry refuses", |stage| Box::pin(refusals(stage))),
];

async fn tag(docker: &Docker, of: &str, repository: &str, tag: &str) -> Result<()> {
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    Ok(docker.tag_image(of, Some(options)).await?)
}

async fn remove(docker: &Docker, name: &str) -> Result<()> {
    docker.remove_image(name, None::<RemoveImageOptions>, None).await?;
    refused(docker.inspect_image(name).await, 404)
}

async fn saved(docker: &Docker) -> Result<()> {
    let names = ["b-saved:1", "b-saved:2"];
    let ids = [docker.inspect_image("sem:1").await?.id, docker.inspect_image("sem:2").await?.id];
    tag(docker, "sem:1", "b-saved", "1").await?;
    tag(docker, "sem:2", "b-saved", "2").await?;
    let pieces: Vec<bytes::Bytes> = docker.export_images(&names).try_collect().await?;
    for name in names {
        remove(docker, name).await?;
    }
    let body = body_full(pieces.concat().into());
    let told: Vec<_> =
        docker.import_image(ImportImageOptions::default(), body, None).try_collect().await?;
    let told: String = told.into_iter().filter_map(|info| info.stream).collect();
    for (name, id) in names.iter().zip(ids) {
        ensure!(told.contains(&format!("Loaded image: {name}\n")), "{told}");
        ensure!(docker.inspect_image(name).await?.id == id, "{name} is what it was");
        remove(docker, name).await?;
    }
    let one: Vec<bytes::Bytes> = docker.export_image("sem:3").try_collect().await?;
    let archive = one.concat();
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut names = Vec::new();
    for member in archive.entries()? {
        names.push(member?.path()?.display().to_string());
    }
    ensure!(names.contains(&"manifest.json".to_owned()), "{names:?}");
    Ok(())
}

fn login(password: &str) -> DockerCredentials {
    DockerCredentials {
        username: Some(USER.to_owned()),
        password: Some(password.to_owned()),
        ..Default::default()
    }
}

async fn push(stage: &Stage, repository: &str, password: &str) -> Result<Vec<String>> {
    let options = PushImageOptionsBuilder::new().tag("1").build();
    let told: Vec<_> =
        stage.push_image(repository, Some(options), Some(login(password))).try_collect().await?;
    Ok(told.into_iter().filter_map(|info| info.status).collect())
}

async fn pull(stage: &Stage, repository: &str, tag: &str, password: &str) -> Result<()> {
    let options = CreateImageOptionsBuilder::new().from_image(repository).tag(tag).build();
    let told: Vec<_> =
        stage.create_image(Some(options), None, Some(login(password))).try_collect().await?;
    let last = told.into_iter().rev().find_map(|info| info.status).unwrap_or_default();
    ensure!(last.starts_with("Status: "), "{last:?}");
    Ok(())
}

async fn pushed(stage: &Stage) -> Result<()> {
    let repository = format!("{}/b-pushed", stage.registry);
    let name = format!("{repository}:1");
    tag(stage, "sem:1", &repository, "1").await?;
    let told = push(stage, &repository, PASSWORD).await?;
    ensure!(told.iter().any(|status| status.contains("digest: sha256:")), "{told:?}");
    remove(stage, &name).await?;
    pull(stage, &repository, "1", PASSWORD).await?;
    let seen = stage.inspect_image(&name).await?;
    ensure!(seen.id == stage.inspect_image("sem:1").await?.id, "{seen:?}");
    let digests = seen.repo_digests.unwrap_or_default();
    let pinned = format!("{repository}@sha256:");
    ensure!(digests.iter().any(|digest| digest.starts_with(&pinned)), "{digests:?}");
    let there = stage.inspect_registry_image(&name, Some(login(PASSWORD))).await?;
    let digest = there.descriptor.digest.unwrap_or_default();
    ensure!(digests.contains(&format!("{repository}@{digest}")), "{digest} of {digests:?}");
    remove(stage, &name).await
}

async fn refusals(stage: &Stage) -> Result<()> {
    let repository = format!("{}/b-refused", stage.registry);
    tag(stage, "sem:1", &repository, "1").await?;
    let pushed = push(stage, &repository, "wrong").await;
    remove(stage, &format!("{repository}:1")).await?;
    let pulled = pull(stage, &repository, "1", "wrong").await;
    let missing = pull(stage, &repository, "nosuch", PASSWORD).await;
    for (result, why) in [(pushed.map(drop), "denied"), (pulled, "denied"), (missing, "nosuch")] {
        let error = result.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains(why), "{why}: {error:?}");
    }
    Ok(())
}
