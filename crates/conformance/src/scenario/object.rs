//! Configs, secrets, jobs, images, volumes, networks.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE, is_id, text};

pub const ALL: &[Scenario] = &[
    scenario("C59", "configs and secrets", objects),
    scenario("C60", "a task's secrets and configs", mounted),
    scenario("C61", "their data cannot change", fixed),
    scenario("C68", "a replicated job", job),
    scenario("C69", "a global job", global_job),
    scenario("C70", "images, volumes, networks", others),
];

fn objects(exam: &Exam<'_>) -> Result<()> {
    for kind in ["config", "secret"] {
        let arguments = [kind, "create", "c59", "-"];
        let id = exam.client(&arguments, "hello", PATIENCE)?.fine()?;
        ensure!(is_id(id.trim()), "{kind}: {id}");
        exam.client(&arguments, "again", PATIENCE)?.refused("already exists")?;
        let again = json!({ "Name": "c59", "Data": "YWdhaW4=" }).to_string();
        let path = format!("/v1.41/{kind}s/create");
        exam.refuses(("POST", &path, &again), (409, &format!("{kind} c59 already exists")))?;
        let listed = exam.docker(&format!("{kind} ls --format {{{{.Name}}}}"))?.fine()?;
        ensure!(listed.lines().any(|line| line == "c59"), "{listed}");
        let seen = exam.docker(&format!("{kind} inspect c59"))?.fine()?;
        let seen = serde_json::from_str::<Value>(&seen)?[0].clone();
        // The secret's data never comes back.
        let wanted = if kind == "config" { json!("aGVsbG8=") } else { Value::Null };
        ensure!(seen["ID"] == id.trim() && seen["Spec"]["Data"] == wanted, "{kind}: {seen}");
        let removed = exam.docker(&format!("{kind} rm c59"))?.fine()?;
        ensure!(removed.trim() == "c59", "{removed}");
        let again = exam.docker(&format!("{kind} rm c59"))?;
        ensure!(again.code == 1, "{again:?}");
        again.refused(&format!("{kind} c59 not found"))?;
    }
    Ok(())
}

fn mounted(exam: &Exam<'_>) -> Result<()> {
    exam.client(&["secret", "create", "c60s", "-"], "the secret", PATIENCE)?.fine()?;
    exam.client(&["config", "create", "c60c", "-"], "the config", PATIENCE)?.fine()?;
    exam.create("c60", "--secret source=c60s,target=s --config source=c60c,target=/c", "sem:1")?;
    exam.until_running("c60", 1)?;
    let words = "ps -q --filter label=com.docker.swarm.service.name=c60";
    let id = exam.docker(words)?.fine()?.trim().to_owned();
    for (path, wanted) in [("/run/secrets/s", "the secret"), ("/c", "the config")] {
        let read = exam.docker(&format!("exec {id} /app readfile {path}"))?;
        ensure!(read.out == wanted, "{path}: {read:?}");
    }
    exam.docker("secret rm c60s")?.refused("is in use by the following service: c60")?;
    exam.docker("config rm c60c")?.refused("is in use by the following service: c60")?;
    exam.docker("service rm c60")?.fine()?;
    exam.docker("secret rm c60s")?.fine()?;
    exam.docker("config rm c60c")?.fine().map(drop)
}

fn fixed(exam: &Exam<'_>) -> Result<()> {
    for (kind, data) in [("config", "b25l"), ("secret", "b25l")] {
        exam.client(&[kind, "create", "c61", "-"], "one", PATIENCE)?.fine()?;
        let update = |data: Value, label: &str| -> Result<(u16, String)> {
            let seen = exam.get(&format!("/v1.41/{kind}s/c61"))?;
            let mut spec = seen["Spec"].clone();
            (spec["Data"], spec["Labels"]) = (data, json!({ "a": label }));
            let (id, index) = (text(&seen["ID"]), &seen["Version"]["Index"]);
            let path = format!("/v1.41/{kind}s/{id}/update?version={index}");
            let (status, _, body) = exam.api("POST", &path, &spec.to_string())?;
            Ok((status, body))
        };
        let (status, body) = update(json!("dHdv"), "1")?;
        let is_refused = status == 400 && body.contains("only updates to Labels are allowed");
        ensure!(is_refused, "{kind}: {status} {body}");
        // What it was posted with, as `docker stack deploy` does each time, and without data.
        for (data, label) in [(json!(data), "2"), (Value::Null, "3")] {
            let (status, body) = update(data, label)?;
            ensure!(status == 200, "{kind}: {status} {body}");
            let seen = exam.get(&format!("/v1.41/{kind}s/c61"))?;
            ensure!(seen["Spec"]["Labels"]["a"] == label, "{kind}: {seen}");
        }
        exam.docker(&format!("{kind} rm c61"))?.fine()?;
    }
    Ok(())
}

/// Two at a time, three in all.
fn job(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --no-resolve-image --name c68 --mode replicated-job --max-concurrent 2 --replicas 3 -e EXIT_AFTER=700 -e EXIT_CODE=0 sem:1";
    let (said, shots) = exam.meanwhile(words, || {
        exam.until("created", || Ok(exam.service("c68").ok().map(drop)))?;
        exam.film("c68", "three are complete", |shot| {
            shot.tasks.iter().filter(|task| task.state == "complete").count() == 3
        })
    })?;
    ensure!(said.code == 0 && said.out.contains("job complete"), "{said:?}");
    for shot in &shots {
        let active = shot.tasks.iter().filter(|task| !task.is_over()).count();
        ensure!(active <= 2, "{:?}", shot.tasks);
    }
    let tasks = exam.tasks("c68")?;
    ensure!(tasks.len() == 3 && tasks.iter().all(|t| t["DesiredState"] == "complete"), "{tasks:?}");
    let listed = exam.docker("service ls --filter name=c68 --format {{.Mode}}={{.Replicas}}")?;
    ensure!(listed.out.trim() == "replicated job=0/2 (3/3 completed)", "{listed:?}");
    Ok(())
}

fn global_job(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --no-resolve-image --name c69 --mode global-job -e EXIT_AFTER=300 -e EXIT_CODE=0 sem:1";
    let said = exam.docker(words)?;
    ensure!(said.code == 0 && said.out.contains("job complete"), "{said:?}");
    let rows = exam.rows("c69")?;
    ensure!(rows.len() == 1 && rows[0].contains("|Complete|Complete|"), "{rows:?}");
    let listed = exam.docker("service ls --filter name=c69 --format {{.Mode}}={{.Replicas}}")?;
    ensure!(listed.out.trim() == "global job=0/0 (1/1 completed)", "{listed:?}");
    Ok(())
}

fn others(exam: &Exam<'_>) -> Result<()> {
    let images = exam.docker("images --format {{.Repository}}:{{.Tag}}")?.fine()?;
    for name in ["sem:1", "sem:2", "sem:3", "semh:1", "semh:2", "semh:3"] {
        ensure!(images.lines().any(|line| line == name), "{name}: {images}");
    }
    let listed = exam.get("/v1.41/images/json")?;
    let is_it = |image: &&Value| image["RepoTags"] == json!(["semh:1"]);
    let listed = listed.as_array().into_iter().flatten().find(is_it).cloned().context("semh:1")?;
    let seen = exam.get("/v1.41/images/semh:1/json")?;
    let id = text(&seen["Id"]);
    ensure!(id.starts_with("sha256:") && id.len() == 71 && listed["Id"] == id, "{listed} {seen}");
    ensure!(listed["Size"].as_u64() == seen["Size"].as_u64() && seen["Size"].is_u64(), "{seen}");
    ensure!(listed["Created"].is_i64() && seen["Created"].is_string(), "{listed} {seen}");
    ensure!(seen["Config"]["Entrypoint"] == json!(["/app"]), "{seen}");
    ensure!(seen["Config"]["Healthcheck"]["Retries"] == 2, "{seen}");
    ensure!(seen["Os"] == "linux" && seen["RootFS"]["Layers"][0].is_string(), "{seen}");
    exam.refuses(("GET", "/v1.41/images/nosuch:1/json", ""), (404, "No such image: nosuch:1"))?;
    let pruned = exam.docker("image prune -a -f --filter label=none")?.fine()?;
    ensure!(pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    let made = exam.docker("volume create c70")?.fine()?;
    ensure!(made.trim() == "c70", "{made}");
    exam.docker("volume rm c70")?.fine()?;
    let again = exam.docker("volume rm c70")?;
    ensure!(again.code == 1, "{again:?}");
    again.refused("o such volume")?;
    let networks = exam.docker("network ls --format {{.Name}}={{.Driver}}={{.Scope}}")?.fine()?;
    ensure!(networks.lines().any(|line| line == "ingress=overlay=swarm"), "{networks}");
    Ok(())
}
