//! Services from creation to removal, and their scale.

use anyhow::{Result, ensure};

use super::{Scenario, scenario};
use crate::exam::{Exam, PATIENCE, text};

pub const ALL: &[Scenario] = &[
    scenario("C15", "a service starts and is healthy", create),
    scenario("C16", "service ls", list),
    scenario("C17", "service ps", tasks),
    scenario("C18", "service inspect", inspect),
    scenario("C19", "tasks are containers", containers),
    scenario("C20", "service rm", remove),
    scenario("C21", "scaling up leaves what runs", scale_up),
    scenario("C22", "scaling down leaves no history", scale_down),
    scenario("C23", "scaling to nothing", scale_to_nothing),
    scenario("C24", "a global service has no scale", scale_global),
    scenario("C67", "global services", global),
];

fn create(exam: &Exam<'_>) -> Result<()> {
    let words =
        "service create --no-resolve-image --name c15 --replicas 2 -e HEALTHY_AFTER=1500 semh:1";
    let out = exam.docker(words)?.fine()?;
    let id = text(&exam.service("c15")?["ID"]);
    let status = exam.service("c15")?["UpdateStatus"].clone();
    exam.docker("service rm c15")?.fine()?;
    ensure!(out.starts_with(&id) && out.contains("converged"), "{out}");
    ensure!(status.is_null(), "{status}");
    Ok(())
}

fn list(exam: &Exam<'_>) -> Result<()> {
    exam.create("c16", "--replicas 2", "sem:1")?;
    exam.until_running("c16", 2)?;
    let format = "{{.Name}}|{{.Mode}}|{{.Replicas}}|{{.Image}}|{{.Ports}}";
    let arguments = ["service", "ls", "--filter", "name=c16", "--format", format];
    let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
    exam.docker("service rm c16")?.fine()?;
    ensure!(out.trim() == "c16|replicated|2/2|sem:1|", "{out}");
    Ok(())
}

fn tasks(exam: &Exam<'_>) -> Result<()> {
    exam.create("c17", "--replicas 2", "sem:1")?;
    exam.until_running("c17", 2)?;
    let mut rows = exam.rows("c17")?;
    rows.sort();
    ensure!(rows == ["c17.1|sem:1|Running|Running|", "c17.2|sem:1|Running|Running|"], "{rows:?}");
    let ids = exam.docker("service ps -q --no-trunc c17")?.fine()?;
    ensure!(ids.lines().count() == 2 && ids.lines().all(|id| id.len() == 25), "{ids}");
    exam.docker("service ps nosuch")?.refused("no such service: nosuch")?;
    let both = exam.docker("service ps c17 nosuch")?;
    exam.docker("service rm c17")?.fine()?;
    ensure!(both.code == 1 && both.out.contains("c17.1"), "{both:?}");
    Ok(())
}

fn inspect(exam: &Exam<'_>) -> Result<()> {
    exam.create("c18", "--replicas 2 --update-delay 1s", "sem:1")?;
    let out = exam.docker("service inspect --pretty c18")?.fine()?;
    let missing = exam.docker("service inspect nosuch")?;
    exam.docker("service rm c18")?.fine()?;
    for line in [
        "Service Mode:\tReplicated",
        " Replicas:\t2",
        "UpdateConfig:",
        " Update order:      stop-first",
        "Endpoint Mode:\tvip",
    ] {
        ensure!(out.contains(line), "{line:?} is missing: {out}");
    }
    ensure!(missing.code == 1 && missing.out.trim() == "[]", "{missing:?}");
    ensure!(missing.err.contains("no such service: nosuch"), "{missing:?}");
    Ok(())
}

fn containers(exam: &Exam<'_>) -> Result<()> {
    exam.create("c19", "--replicas 2", "sem:1")?;
    exam.until_running("c19", 2)?;
    let label = "label=com.docker.swarm.service.name=c19";
    let ids = exam.docker(&format!("ps -q --no-trunc --filter {label}"))?.fine()?;
    let task = exam.tasks("c19")?.remove(0);
    let known = text(&task["Status"]["ContainerStatus"]["ContainerID"]);
    let inspected =
        exam.docker(&format!("inspect -f {{{{.Id}}}}={{{{.Name}}}} {known}"))?.fine()?;
    exam.docker("service rm c19")?.fine()?;
    ensure!(ids.lines().count() == 2 && ids.contains(&known), "{ids} of {known}");
    let name = format!("{known}=/c19.{}.{}", task["Slot"], text(&task["ID"]));
    ensure!(inspected.trim() == name, "{inspected} of {name}");
    Ok(())
}

fn remove(exam: &Exam<'_>) -> Result<()> {
    exam.create("c20", "", "sem:1")?;
    exam.until_running("c20", 1)?;
    let id = text(&exam.service("c20")?["ID"]);
    let removed = exam.docker("service rm c20 nosuch")?;
    ensure!(removed.code == 1 && removed.out.trim() == "c20", "{removed:?}");
    exam.refuses(("GET", "/v1.41/services/c20", ""), (404, "not found"))?;
    exam.until("its tasks are gone", || {
        let all = exam.get("/v1.41/tasks")?;
        let left =
            all.as_array().into_iter().flatten().any(|task| task["ServiceID"] == id.as_str());
        Ok((!left).then_some(()))
    })
}

fn scale_up(exam: &Exam<'_>) -> Result<()> {
    exam.create("c21", "", "sem:1")?;
    let before = exam.until_running("c21", 1)?;
    let out = exam.docker("service scale --detach c21=3")?.fine()?;
    let after = exam.until_running("c21", 3)?;
    let status = exam.service("c21")?["UpdateStatus"].clone();
    exam.docker("service rm c21")?.fine()?;
    ensure!(out.contains("c21 scaled to 3") && after.contains(&before[0]), "{out} {after:?}");
    ensure!(status.is_null(), "{status}");
    Ok(())
}

fn scale_down(exam: &Exam<'_>) -> Result<()> {
    exam.create("c22", "--replicas 3", "sem:1")?;
    exam.until_running("c22", 3)?;
    exam.docker("service scale --detach c22=1")?.fine()?;
    let rows = exam
        .until("one task in all", || Ok(Some(exam.rows("c22")?).filter(|rows| rows.len() == 1)));
    exam.docker("service rm c22")?.fine()?;
    rows.map(drop)
}

fn scale_to_nothing(exam: &Exam<'_>) -> Result<()> {
    exam.create("c23", "", "sem:1")?;
    exam.until_running("c23", 1)?;
    exam.docker("service scale --detach c23=0")?.fine()?;
    exam.until("no task", || Ok(exam.rows("c23")?.is_empty().then_some(())))?;
    let out = exam.docker("service ls --filter name=c23 --format {{.Replicas}}")?.fine()?;
    exam.docker("service rm c23")?.fine()?;
    ensure!(out.trim() == "0/0", "{out}");
    Ok(())
}

fn scale_global(exam: &Exam<'_>) -> Result<()> {
    exam.create("c24", "--mode global", "sem:1")?;
    let refused = exam.docker("service scale c24=2")?;
    exam.docker("service rm c24")?.fine()?;
    refused.refused("scale can only be used with replicated or replicated-job mode")
}

fn global(exam: &Exam<'_>) -> Result<()> {
    exam.create("c67", "--mode global", "sem:1")?;
    let first = exam.until_running("c67", 1)?;
    let node = text(&exam.tasks("c67")?[0]["NodeID"]);
    let rows = exam.rows("c67")?;
    exam.update("c67", "--image sem:2")?;
    let second = exam
        .until("another task", || Ok(exam.running("c67")?.into_iter().find(|id| *id != first[0])));
    exam.docker("service rm c67")?.fine()?;
    ensure!(rows[0].starts_with(&format!("c67.{node}|sem:1|Running|")), "{rows:?}");
    second.map(drop)
}
