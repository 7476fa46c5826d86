//! Configs, secrets, stacks, jobs, images, volumes, networks.

use anyhow::{Result, ensure};

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE};

pub const ALL: &[Scenario] = &[
    scenario("C59", "configs and secrets", objects),
    scenario("C60", "a task's secrets and configs", mounted),
    scenario("C61", "their data cannot change", fixed),
    scenario("C62", "stack deploy, again, changed, rm (to C65)", stack),
    scenario("C68", "a replicated job", job),
    scenario("C69", "a global job", global_job),
    scenario("C70", "images, volumes, networks", others),
];

fn objects(exam: &Exam<'_>) -> Result<()> {
    for kind in ["config", "secret"] {
        let arguments = [kind, "create", "c59", "-"];
        let id = exam.client(&arguments, "hello", PATIENCE)?.fine()?;
        ensure!(id.trim().len() == 25, "{kind}: {id}");
        exam.client(&arguments, "again", PATIENCE)?.refused("already exists")?;
        let listed = exam.docker(&format!("{kind} ls --format {{{{.Name}}}}"))?.fine()?;
        ensure!(listed.lines().any(|line| line == "c59"), "{listed}");
        let seen = exam.get(&format!("/v1.41/{kind}s/c59"))?;
        ensure!(seen["Spec"]["Data"].is_string() == (kind == "config"), "{kind}: {seen}");
        exam.docker(&format!("{kind} rm c59"))?.fine()?;
        exam.docker(&format!("{kind} rm c59"))?.refused("c59")?;
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
    exam.client(&["config", "create", "c61", "-"], "one", PATIENCE)?.fine()?;
    let mut seen = exam.get("/v1.41/configs/c61")?;
    seen["Spec"]["Data"] = serde_json::json!("dHdv");
    let path = format!(
        "/v1.41/configs/{}/update?version={}",
        crate::exam::text(&seen["ID"]),
        seen["Version"]["Index"]
    );
    let body = seen["Spec"].to_string();
    let refused = exam.refuses(("POST", &path, &body), (400, "only updates to Labels are allowed"));
    exam.docker("config rm c61")?.fine()?;
    refused
}

const STACK: &str = "version: '3.8'\n\
    services:\n  web:\n    image: sem:1\n    secrets: [s1]\n    configs: [{source: c1, target: /c1}]\n\
    secrets:\n  s1: {file: ./secret}\n\
    configs:\n  c1: {file: ./config}\n";

fn stack(exam: &Exam<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, text) in [("stack.yml", STACK), ("secret", "s"), ("config", "c")] {
        std::fs::write(folder.path().join(name), text)?;
    }
    let file = folder.path().join("stack.yml").display().to_string();
    let deploy = format!("stack deploy --resolve-image never -c {file} c62");
    let out = exam.docker(&deploy)?.fine()?;
    for line in ["network c62_default", "secret c62_s1", "config c62_c1", "service c62_web"] {
        ensure!(out.contains(&format!("Creating {line}")), "{line}: {out}");
    }
    let before = exam.until_running("c62_web", 1)?;
    let listed = exam.docker("stack ls --format {{.Name}}={{.Services}}")?.fine()?;
    ensure!(listed.lines().any(|line| line == "c62=1"), "{listed}");
    ensure!(exam.docker("stack ps c62")?.fine()?.contains("c62_web.1"), "stack ps");
    let out = exam.docker(&deploy)?.fine()?;
    ensure!(out.contains("Updating service c62_web"), "{out}");
    ensure!(exam.running("c62_web")? == before, "nothing changed, nothing is replaced");
    std::fs::write(folder.path().join("config"), "changed")?;
    exam.docker(&deploy)?.refused("only updates to Labels are allowed")?;
    let out = exam.docker("stack rm c62")?;
    ensure!(out.code == 0, "{out:?}");
    let told = format!("{}{}", out.out, out.err);
    ensure!(told.contains("Removing service c62_web"), "{told}");
    exam.until("nothing is left", || {
        let said = exam.docker("stack ps c62")?;
        Ok(said.err.contains("nothing found in stack: c62").then_some(()))
    })?;
    let none = exam.docker("stack rm c62-nosuch")?;
    ensure!(none.err.contains("othing found in stack: c62-nosuch"), "{none:?}");
    Ok(())
}

fn job(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --no-resolve-image --name c68 --mode replicated-job --max-concurrent 2 --replicas 3 -e EXIT_AFTER=300 -e EXIT_CODE=0 sem:1";
    let said = exam.docker(words)?;
    let listed = exam.docker("service ls --filter name=c68 --format {{.Replicas}}")?;
    let _ = exam.docker("service rm c68")?;
    ensure!(said.code == 0 && said.out.contains("job complete"), "{said:?}");
    ensure!(listed.out.contains("(3/3 completed)"), "{listed:?}");
    Ok(())
}

fn global_job(exam: &Exam<'_>) -> Result<()> {
    let words = "service create --no-resolve-image --name c69 --mode global-job -e EXIT_AFTER=300 -e EXIT_CODE=0 sem:1";
    let said = exam.docker(words)?;
    let listed = exam.docker("service ls --filter name=c69 --format {{.Replicas}}")?;
    let _ = exam.docker("service rm c69")?;
    ensure!(said.code == 0 && said.out.contains("job complete"), "{said:?}");
    ensure!(listed.out.contains("(1/1 completed)"), "{listed:?}");
    Ok(())
}

fn others(exam: &Exam<'_>) -> Result<()> {
    let images = exam.docker("images --format {{.Repository}}:{{.Tag}}")?.fine()?;
    ensure!(images.contains("sem:1") && images.contains("semh:3"), "{images}");
    let pruned = exam.docker("image prune -a -f --filter label=none")?.fine()?;
    ensure!(pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    exam.docker("volume create c70")?.fine()?;
    exam.docker("volume rm c70")?.fine()?;
    exam.docker("volume rm c70")?.refused("o such volume")?;
    let networks = exam.docker("network ls --format {{.Name}}={{.Driver}}={{.Scope}}")?.fine()?;
    ensure!(networks.lines().any(|line| line == "ingress=overlay=swarm"), "{networks}");
    Ok(())
}
