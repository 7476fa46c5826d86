//! Configs, secrets, networks, volumes, images.

use anyhow::{Context, Result, ensure};
use bollard::{
    Docker,
    models::{ConfigSpec, NetworkCreateRequest, SecretSpec, VolumeCreateRequest},
    query_parameters::{
        ListConfigsOptionsBuilder, ListImagesOptions, ListSecretsOptionsBuilder,
        ListVolumesOptions, RemoveImageOptions, RemoveVolumeOptions, TagImageOptionsBuilder,
        UpdateConfigOptionsBuilder, UpdateSecretOptionsBuilder,
    },
};

use super::{Case, refused};

pub const ALL: &[Case] = &[
    ("configs", |docker| Box::pin(configs(docker))),
    ("secrets, whose data never comes back", |docker| Box::pin(secrets(docker))),
    ("networks", |docker| Box::pin(networks(docker))),
    ("volumes", |docker| Box::pin(volumes(docker))),
    ("images are listed, inspected, tagged and removed", |docker| Box::pin(images(docker))),
];

/// `hello`
const DATA: &str = "aGVsbG8=";

async fn configs(docker: &Docker) -> Result<()> {
    let mut spec = ConfigSpec {
        name: Some("bollard-config".to_owned()),
        data: Some(DATA.to_owned()),
        ..Default::default()
    };
    docker.create_config(spec.clone()).await?;
    refused(docker.create_config(spec.clone()).await, 409)?;
    let filters = [("name".to_owned(), vec!["bollard-config".to_owned()])].into();
    let options = ListConfigsOptionsBuilder::new().filters(&filters).build();
    ensure!(docker.list_configs(Some(options)).await?.len() == 1, "one of that name");
    let seen = docker.inspect_config("bollard-config").await?;
    let data = seen.spec.and_then(|spec| spec.data);
    ensure!(data.as_deref() == Some(DATA), "{data:?}");
    let index = seen.version.and_then(|version| version.index).context("an index")?;
    spec.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let options = UpdateConfigOptionsBuilder::new().version(i64::try_from(index)?).build();
    docker.update_config("bollard-config", spec.clone(), options).await?;
    let seen = docker.inspect_config("bollard-config").await?;
    ensure!(seen.spec.and_then(|spec| spec.labels) == spec.labels, "its labels");
    docker.delete_config("bollard-config").await?;
    refused(docker.inspect_config("bollard-config").await, 404)
}

async fn secrets(docker: &Docker) -> Result<()> {
    let mut spec = SecretSpec {
        name: Some("bollard-secret".to_owned()),
        data: Some(DATA.to_owned()),
        ..Default::default()
    };
    docker.create_secret(spec.clone()).await?;
    refused(docker.create_secret(spec.clone()).await, 409)?;
    let filters = [("name".to_owned(), vec!["bollard-secret".to_owned()])].into();
    let options = ListSecretsOptionsBuilder::new().filters(&filters).build();
    ensure!(docker.list_secrets(Some(options)).await?.len() == 1, "one of that name");
    let seen = docker.inspect_secret("bollard-secret").await?;
    ensure!(seen.spec.is_some_and(|spec| spec.data.is_none()), "the data came back");
    let index = seen.version.and_then(|version| version.index).context("an index")?;
    spec.labels = Some([("a".to_owned(), "b".to_owned())].into());
    spec.data = None;
    let options = UpdateSecretOptionsBuilder::new().version(i64::try_from(index)?).build();
    docker.update_secret("bollard-secret", spec, options).await?;
    docker.delete_secret("bollard-secret").await?;
    refused(docker.delete_secret("bollard-secret").await, 404)
}

async fn networks(docker: &Docker) -> Result<()> {
    let request = NetworkCreateRequest {
        name: "bollard-net".to_owned(),
        driver: Some("overlay".to_owned()),
        ..Default::default()
    };
    let made = docker.create_network(request).await?;
    let seen = docker.inspect_network("bollard-net", None).await?;
    ensure!(seen.id.as_deref() == Some(made.id.as_str()), "{seen:?}");
    ensure!(seen.driver.as_deref() == Some("overlay"), "{seen:?}");
    let all = docker.list_networks(None).await?;
    let names: Vec<_> = all.iter().filter_map(|network| network.name.as_deref()).collect();
    ensure!(names.contains(&"bollard-net") && names.contains(&"ingress"), "{names:?}");
    docker.remove_network("bollard-net").await?;
    refused(docker.inspect_network("bollard-net", None).await, 404)
}

async fn volumes(docker: &Docker) -> Result<()> {
    let labels = Some([("a".to_owned(), "b".to_owned())].into());
    let name = Some("bollard-volume".to_owned());
    let request = VolumeCreateRequest { name, labels, ..Default::default() };
    let made = docker.create_volume(request).await?;
    let seen = docker.inspect_volume("bollard-volume").await?;
    ensure!(seen == made && seen.labels.get("a").is_some_and(|b| b == "b"), "{seen:?} {made:?}");
    let all = docker.list_volumes(None::<ListVolumesOptions>).await?.volumes.unwrap_or_default();
    ensure!(all.iter().any(|volume| volume.name == "bollard-volume"), "{all:?}");
    docker.remove_volume("bollard-volume", None::<RemoveVolumeOptions>).await?;
    let again = docker.remove_volume("bollard-volume", None::<RemoveVolumeOptions>).await;
    refused(again, 404)
}

async fn images(docker: &Docker) -> Result<()> {
    let all = docker.list_images(None::<ListImagesOptions>).await?;
    let known = all.iter().find(|image| image.repo_tags.contains(&"semh:1".to_owned()));
    let known = known.context("semh:1")?;
    let seen = docker.inspect_image("semh:1").await?;
    ensure!(seen.id.as_deref() == Some(known.id.as_str()), "{seen:?}");
    let config = seen.config.context("its config")?;
    ensure!(config.entrypoint == Some(vec!["/app".to_owned()]), "{config:?}");
    let retries = config.healthcheck.and_then(|check| check.retries);
    ensure!(retries == Some(2), "{retries:?}");
    let options = TagImageOptionsBuilder::new().repo("bollard").tag("x").build();
    docker.tag_image("sem:1", Some(options)).await?;
    ensure!(docker.inspect_image("bollard:x").await?.id.is_some(), "tagged");
    let removed = docker.remove_image("bollard:x", None::<RemoveImageOptions>, None).await?;
    let untagged = removed.iter().filter_map(|item| item.untagged.as_deref());
    ensure!(untagged.clone().any(|name| name == "bollard:x"), "{removed:?}");
    refused(docker.inspect_image("bollard:x").await, 404)?;
    docker.inspect_image("sem:1").await?;
    Ok(())
}
