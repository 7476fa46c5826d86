//! Services from creation to removal, and their scale.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Scenario, scenario};
use crate::{
    exam::{Exam, PATIENCE, is_id, text},
    film::time_in,
};

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
    let started = Instant::now();
    let (said, shots) = exam.meanwhile(words, || {
        exam.until("created", || Ok(exam.service("c15").ok().map(drop)))?;
        exam.film("c15", "two run", |shot| shot.serving().len() == 2)
    })?;
    let (took, out) = (started.elapsed(), said.fine()?);
    let service = exam.service("c15")?;
    ensure!(out.lines().next() == service["ID"].as_str(), "{out}");
    let last = out.trim().lines().last().unwrap_or_default();
    ensure!(last.starts_with("verify: Service ") && last.ends_with("converged"), "{out}");
    // The client watches for the monitor time, 5 s, after both run.
    ensure!(took >= Duration::from_secs(6), "{took:?}");
    ensure!(service["UpdateStatus"].is_null(), "{}", service["UpdateStatus"]);
    let Some(last) = shots.last() else { return Ok(()) };
    for task in &last.tasks {
        let starting = time_in(&shots, &task.id, "starting");
        ensure!(starting >= Duration::from_millis(1200), "starting for {starting:?}");
        ensure!(task.message == "started", "{task:?}");
        let is_right = |shot: &crate::film::Shot| {
            shot.task(&task.id).is_none_or(|t| t.state != "starting" || t.message == "starting")
        };
        ensure!(shots.iter().all(is_right), "the message of a task that starts");
    }
    Ok(())
}

fn list(exam: &Exam<'_>) -> Result<()> {
    exam.create("c16", "--replicas 2", "sem:1")?;
    exam.until_running("c16", 2)?;
    let arguments = ["service", "ls", "--filter", "name=c16", "--format", "{{json .}}"];
    let out = exam.client(&arguments, "", PATIENCE)?.fine()?;
    let row: Value = serde_json::from_str(&out)?;
    let keys: Vec<&str> = row.as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
    ensure!(keys == ["ID", "Image", "Mode", "Name", "Ports", "Replicas"], "{row}");
    let id = text(&exam.service("c16")?["ID"]);
    for (key, wanted) in [
        ("ID", &id[..12]),
        ("Name", "c16"),
        ("Mode", "replicated"),
        ("Replicas", "2/2"),
        ("Image", "sem:1"),
        ("Ports", ""),
    ] {
        ensure!(row[key] == wanted, "{key}: {row}");
    }
    Ok(())
}

fn tasks(exam: &Exam<'_>) -> Result<()> {
    exam.create("c17", "--replicas 2", "sem:1")?;
    exam.until_running("c17", 2)?;
    let mut rows = exam.rows("c17")?;
    rows.sort();
    ensure!(rows == ["c17.1|sem:1|Running|Running|", "c17.2|sem:1|Running|Running|"], "{rows:?}");
    let ids = exam.docker("service ps -q --no-trunc c17")?.fine()?;
    ensure!(ids.lines().count() == 2 && ids.lines().all(is_id), "{ids}");
    let running = exam.docker("service ps -q --no-trunc --filter desired-state=running c17")?;
    ensure!(running.out == ids, "{running:?}");
    let stopped = exam.docker("service ps -q --filter desired-state=shutdown c17")?;
    ensure!(stopped.out.is_empty() && stopped.code == 0, "{stopped:?}");
    let missing = exam.docker("service ps nosuch")?;
    ensure!(missing.code == 1 && missing.err.contains("no such service: nosuch"), "{missing:?}");
    let both = exam.docker("service ps c17 nosuch")?;
    ensure!(both.code == 1 && both.out.contains("c17.1"), "{both:?}");
    Ok(())
}

fn inspect(exam: &Exam<'_>) -> Result<()> {
    exam.create("c18", "--replicas 2 --update-delay 1s", "sem:1")?;
    let out = exam.docker("service inspect --pretty c18")?.fine()?;
    for line in [
        "Service Mode:\tReplicated",
        " Replicas:\t2",
        "UpdateConfig:",
        " Update order:      stop-first",
        "Endpoint Mode:\tvip",
    ] {
        ensure!(out.lines().any(|l| l.trim_end() == line), "{line:?} is missing: {out}");
    }
    let missing = exam.docker("service inspect nosuch")?;
    ensure!(missing.code == 1 && missing.out.trim() == "[]", "{missing:?}");
    ensure!(missing.err.contains("no such service: nosuch"), "{missing:?}");
    Ok(())
}

fn containers(exam: &Exam<'_>) -> Result<()> {
    exam.create("c19", "--replicas 2", "sem:1")?;
    exam.until_running("c19", 2)?;
    let ids = exam.containers("c19")?;
    ensure!(ids.len() == 2, "{ids:?}");
    let (task, service) = (exam.tasks("c19")?.remove(0), text(&exam.service("c19")?["ID"]));
    let id = text(&task["ID"]);
    let name = format!("c19.{}.{id}", task["Slot"]);
    let listed = exam.client(
        &["ps", "--filter", &format!("name=c19.{}", task["Slot"]), "--format", "{{.Names}}"],
        "",
        PATIENCE,
    )?;
    ensure!(listed.out.trim() == name, "{listed:?}");
    let known = text(&task["Status"]["ContainerStatus"]["ContainerID"]);
    ensure!(ids.contains(&known), "{ids:?} of {known}");
    let seen = exam.docker(&format!("inspect {known}"))?.fine()?;
    let seen: Value = serde_json::from_str(&seen)?;
    let seen = &seen[0];
    ensure!(seen["Id"] == known && seen["Name"] == format!("/{name}"), "{}", seen["Name"]);
    let labels = &seen["Config"]["Labels"];
    let node = text(&task["NodeID"]);
    for (key, wanted) in [
        ("task", ""),
        ("task.id", &id),
        ("task.name", &name),
        ("node.id", &node),
        ("service.id", &service),
        ("service.name", "c19"),
    ] {
        ensure!(labels[format!("com.docker.swarm.{key}")] == wanted, "{key}: {labels}");
    }
    Ok(())
}

fn remove(exam: &Exam<'_>) -> Result<()> {
    exam.create("c20", "", "sem:1")?;
    exam.create("c20b", "", "sem:1")?;
    exam.until_running("c20", 1)?;
    let id = text(&exam.service("c20")?["ID"]);
    let removed = exam.docker("service rm c20 nosuch")?;
    ensure!(removed.code == 1 && removed.out.trim() == "c20", "{removed:?}");
    exam.refuses(("GET", "/v1.41/services/c20", ""), (404, "service c20 not found"))?;
    let (status, _, body) = exam.api("DELETE", "/v1.41/services/c20b", "")?;
    ensure!(status == 200 && body.is_empty(), "{status} {body}");
    let started = Instant::now();
    exam.until("its tasks and containers are gone", || {
        let all = exam.get("/v1.41/tasks")?;
        let left =
            all.as_array().into_iter().flatten().any(|task| task["ServiceID"] == id.as_str());
        let label = "label=com.docker.swarm.service.name=c20";
        let there = exam.docker(&format!("ps -aq --filter {label}"))?.fine()?;
        Ok((!left && there.is_empty()).then_some(()))
    })?;
    // Its grace period is 3 s.
    ensure!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    Ok(())
}

fn scale_up(exam: &Exam<'_>) -> Result<()> {
    exam.create("c21", "", "sem:1")?;
    exam.until_running("c21", 1)?;
    let before = exam.tasks("c21")?.remove(0);
    let out = exam.docker("service scale --detach c21=3")?.fine()?;
    ensure!(out.contains("c21 scaled to 3"), "{out}");
    exam.until_running("c21", 3)?;
    let after = exam.tasks("c21")?;
    let slots: Vec<_> = after.iter().filter_map(|task| task["Slot"].as_u64()).collect();
    ensure!(slots.len() == 3 && (1..=3).all(|slot| slots.contains(&slot)), "{slots:?}");
    let first = &after[0];
    let is_same = first["ID"] == before["ID"] && first["Status"] == before["Status"];
    ensure!(is_same, "slot 1 was touched: {first} {before}");
    let status = exam.service("c21")?["UpdateStatus"].clone();
    ensure!(status.is_null(), "{status}");
    Ok(())
}

fn scale_down(exam: &Exam<'_>) -> Result<()> {
    exam.create("c22", "--replicas 3 -e TERM_DELAY=1000", "sem:1")?;
    let before = exam.until_running("c22", 3)?;
    exam.docker("service scale --detach c22=1")?.fine()?;
    let shots = exam.film("c22", "one task in all", |shot| shot.tasks.len() == 1)?;
    for task in shots.iter().flat_map(|shot| &shot.tasks) {
        let is_right = task.desired == "running" || task.slot != 1 && task.desired == "remove";
        ensure!(is_right, "{task:?}");
    }
    for slot in [2, 3] {
        let is_going = |shot: &crate::film::Shot| {
            shot.tasks.iter().any(|task| task.slot == slot && task.desired == "remove")
        };
        ensure!(shots.iter().any(is_going), "nobody saw slot {slot} go");
    }
    let left = &shots[shots.len() - 1].tasks[0];
    ensure!(left.slot == 1 && before.contains(&left.id), "{left:?}");
    ensure!(exam.rows("c22")? == ["c22.1|sem:1|Running|Running|"], "no history");
    Ok(())
}

fn scale_to_nothing(exam: &Exam<'_>) -> Result<()> {
    exam.create("c23", "", "sem:1")?;
    exam.until_running("c23", 1)?;
    exam.docker("service scale --detach c23=0")?.fine()?;
    exam.until("no task", || Ok(exam.rows("c23")?.is_empty().then_some(())))?;
    let table = exam.docker("service ps c23")?.fine()?;
    ensure!(table.lines().count() == 1 && table.starts_with("ID "), "{table}");
    let out = exam.docker("service ls --filter name=c23 --format {{.Replicas}}")?.fine()?;
    ensure!(out.trim() == "0/0", "{out}");
    Ok(())
}

fn scale_global(exam: &Exam<'_>) -> Result<()> {
    exam.create("c24", "--mode global", "sem:1")?;
    let refused = exam.docker("service scale c24=2")?;
    ensure!(refused.code == 1, "{refused:?}");
    refused.refused("c24: scale can only be used with replicated or replicated-job mode")
}

fn global(exam: &Exam<'_>) -> Result<()> {
    exam.create("c67", "--mode global", "sem:1")?;
    let first = exam.until_running("c67", 1)?;
    let node = text(&exam.tasks("c67")?[0]["NodeID"]);
    let rows = exam.rows("c67")?;
    ensure!(rows == [format!("c67.{node}|sem:1|Running|Running|")], "{rows:?}");
    let listed = exam.docker("service ls --filter name=c67 --format {{.Mode}}={{.Replicas}}")?;
    ensure!(listed.out.trim() == "global=1/1", "{listed:?}");
    exam.update("c67", "--image sem:2")?;
    exam.until("another task", || Ok(exam.running("c67")?.into_iter().find(|id| *id != first[0])))?;
    let rows = exam.rows("c67")?;
    ensure!(rows.contains(&format!("c67.{node}|sem:2|Running|Running|")), "{rows:?}");
    Ok(())
}
