//! `keel images`: the images that the engine has, and which services run them.

use std::collections::BTreeMap;

use dockerapi::{object, stamp};
use orchestrator::Time;
use serde_json::json;

use crate::{
    args,
    command::Context,
    failure::Outcome,
    human, table,
    view::{image_name, typed},
};

pub async fn run(context: &Context, images: &args::Images) -> Outcome {
    let client = context.client().await?;
    let mut list: Vec<object::ImageSummary> = typed(client.images().await?)?;
    list.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
    let services: Vec<object::Service> = typed(client.services(&[]).await?)?;
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for service in services {
        let image = service.spec.task_template.container_spec.unwrap_or_default().image;
        users.entry(tagged(image_name(&image))).or_default().push(service.spec.name);
    }
    let rows: Vec<Row> = list
        .iter()
        .flat_map(|image| image.repo_tags.iter().map(move |name| (image, name)))
        .filter(|(_, name)| images.name.as_ref().is_none_or(|part| name.contains(part.as_str())))
        .map(|(image, name)| Row {
            name: name.clone(),
            id: image.id.clone(),
            created_seconds: image.created,
            size_bytes: u64::try_from(image.size).unwrap_or(0),
            used_by: users.get(name).cloned().unwrap_or_default(),
        })
        .collect();
    show(context, &rows)
}

#[derive(serde::Serialize)]
struct Row {
    name: String,
    id: String,
    created_seconds: i64,
    size_bytes: u64,
    used_by: Vec<String>,
}

fn show(context: &Context, rows: &[Row]) -> Outcome {
    let output = context.output;
    if output.json {
        output.json(&json!(rows))?;
    } else if output.quiet {
        for row in rows {
            output.line(&row.name)?;
        }
    } else if rows.is_empty() {
        output.note("no images; build them with `keel build`");
    } else {
        let now = stamp::now();
        let shown = rows.iter().map(|row| {
            [
                row.name.clone(),
                row.id.trim_start_matches("sha256:").chars().take(12).collect(),
                created(row.created_seconds, now),
                human::bytes(row.size_bytes),
                row.used_by.join(", "),
            ]
        });
        output.line(&table::render(["IMAGE", "ID", "CREATED", "SIZE", "USED BY"], shown))?;
    }
    Ok(())
}

/// Images that are the same whenever they are built carry no time.
fn created(seconds: i64, now: Time) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => {
            human::ago(now, &stamp::text(Time(seconds.saturating_mul(1_000_000_000))))
        }
        _ => "-".to_owned(),
    }
}

/// With the tag that Docker means when none is given.
fn tagged(name: &str) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name.to_owned() } else { format!("{name}:latest") }
}
