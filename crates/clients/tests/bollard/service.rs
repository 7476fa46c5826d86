//! Services, their tasks and their logs.

use anyhow::{Context, Result, ensure};
use bollard::{
    Docker,
    container::LogOutput,
    models::{ServiceUpdateStatusStateEnum as State, TaskState},
    query_parameters::{
        InspectServiceOptionsBuilder, ListServicesOptionsBuilder, LogsOptionsBuilder,
        UpdateServiceOptionsBuilder,
    },
};
use futures_util::StreamExt;
use serde_json::json;

use super::{Case, json_of, of_service, refused, serve, until, until_running};

pub const ALL: &[Case] = &[
    ("a service with every setting comes back as it went", |docker| Box::pin(every(docker))),
    ("services are listed, filtered and counted", |docker| Box::pin(listed(docker))),
    ("a service is scaled, updated and rolled back", |docker| Box::pin(updated(docker))),
    ("an update that fails says so", |docker| Box::pin(fails(docker))),
    ("tasks in every state can be read", |docker| Box::pin(tasks(docker))),
    ("logs of a service and of a task", |docker| Box::pin(logs(docker))),
    ("what is refused has a status and a message", |docker| Box::pin(refusals(docker))),
];

async fn every(docker: &Docker) -> Result<()> {
    let second = 1_000_000_000_u64;
    let spec = json!({
        "Name": "every", "Labels": { "a": "b" },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "sem:1", "Labels": { "c": "d" }, "Env": ["A=B"], "Hostname": "h",
                "Dir": "/", "StopSignal": "SIGTERM", "StopGracePeriod": 3 * second,
            },
            "Resources": {
                "Limits": { "MemoryBytes": 1 << 28 }, "Reservations": { "MemoryBytes": 1 << 20 },
            },
            "RestartPolicy": {
                "Condition": "on-failure", "Delay": second, "MaxAttempts": 2, "Window": 0,
            },
            "Placement": { "Constraints": ["node.role==manager"] },
        },
        "Mode": { "Replicated": { "Replicas": 1 } },
        "UpdateConfig": {
            "Parallelism": 2, "Delay": second, "FailureAction": "rollback", "Monitor": second,
            "MaxFailureRatio": 0.5, "Order": "start-first",
        },
        "RollbackConfig": {
            "Parallelism": 1, "FailureAction": "pause", "Monitor": second, "Order": "stop-first",
        },
        "EndpointSpec": { "Mode": "vip", "Ports": [
            { "Protocol": "tcp", "TargetPort": 8080, "PublishedPort": 18201, "PublishMode": "ingress" },
        ] },
    });
    let spec: bollard::models::ServiceSpec = serde_json::from_value(spec)?;
    docker.create_service(spec.clone(), None).await?;
    until_running(docker, "every", 1).await?;
    let seen = docker.inspect_service("every", None).await?;
    let full = InspectServiceOptionsBuilder::new().insert_defaults(true).build();
    let full = docker.inspect_service("every", Some(full)).await?;
    docker.delete_service("every").await?;
    let (sent, back) = (json_of(&spec)?, json_of(&seen.spec)?);
    ensure!(sent == back, "{sent}\n{back}");
    ensure!(full.id == seen.id && full.spec.is_some(), "{full:?}");
    let ports = seen.endpoint.and_then(|endpoint| endpoint.ports).context("ports")?;
    ensure!(ports[0].published_port == Some(18201), "{ports:?}");
    for stamp in [&seen.created_at, &seen.updated_at] {
        ensure!(stamp.as_ref().is_some_and(|at| at.starts_with("20")), "{stamp:?}");
    }
    Ok(())
}

async fn listed(docker: &Docker) -> Result<()> {
    serve(docker, "listed", 2, &[]).await?;
    let filters = [("label".to_owned(), vec!["of=listed".to_owned()])].into();
    let options = ListServicesOptionsBuilder::new().filters(&filters).status(true).build();
    let found = docker.list_services(Some(options)).await?;
    ensure!(found.len() == 1, "{found:?}");
    let status = found[0].service_status.clone().context("a status")?;
    ensure!(status.running_tasks == Some(2) && status.desired_tasks == Some(2), "{status:?}");
    let all = docker.list_services(None).await?;
    ensure!(all.iter().any(|service| service.id == found[0].id), "{all:?}");
    docker.delete_service("listed").await?;
    refused(docker.inspect_service("listed", None).await, 404)
}

/// The spec is changed as JSON: this client's own types lose the health check.
async fn updated(docker: &Docker) -> Result<()> {
    serve(docker, "updated", 1, &[]).await?;
    let update = async |change: fn(&mut serde_json::Value), rollback: bool| -> Result<()> {
        let seen = docker.inspect_service("updated", None).await?;
        let index = seen.version.and_then(|version| version.index).context("an index")?;
        let mut spec = json_of(&seen.spec)?;
        change(&mut spec);
        let mut options = UpdateServiceOptionsBuilder::new().version(i32::try_from(index)?);
        if rollback {
            options = options.rollback("previous");
        }
        let spec = serde_json::from_value(spec)?;
        let answer = docker.update_service("updated", spec, options.build(), None).await?;
        ensure!(answer.warnings.is_none_or(|warnings| warnings.is_empty()), "warnings");
        Ok(())
    };
    update(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(2), false).await?;
    until_running(docker, "updated", 2).await?;
    update(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("sem:2"), false).await?;
    until_state(docker, "updated", State::COMPLETED).await?;
    update(|_| {}, true).await?;
    let service = until_state(docker, "updated", State::ROLLBACK_COMPLETED).await?;
    let image = json_of(&service.spec)?["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    docker.delete_service("updated").await?;
    ensure!(image == "sem:1", "{image}");
    Ok(())
}

async fn until_state(
    docker: &Docker,
    name: &str,
    state: State,
) -> Result<bollard::models::Service> {
    until(&format!("{name} is {state}"), async || {
        let service = docker.inspect_service(name, None).await?;
        let now = service.update_status.as_ref().and_then(|status| status.state);
        Ok((now == Some(state)).then_some(service))
    })
    .await
}

async fn fails(docker: &Docker) -> Result<()> {
    serve(docker, "fails", 1, &[]).await?;
    let seen = docker.inspect_service("fails", None).await?;
    let index = seen.version.and_then(|version| version.index).context("an index")?;
    let mut spec = json_of(&seen.spec)?;
    spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["FAIL_NOW=3"]);
    let options = UpdateServiceOptionsBuilder::new().version(i32::try_from(index)?).build();
    docker.update_service("fails", serde_json::from_value(spec)?, options, None).await?;
    let service = until_state(docker, "fails", State::PAUSED).await?;
    docker.delete_service("fails").await?;
    let message = service.update_status.and_then(|status| status.message).unwrap_or_default();
    ensure!(message.starts_with("update paused due to failure"), "{message}");
    Ok(())
}

async fn tasks(docker: &Docker) -> Result<()> {
    let spec = json!({
        "Name": "tasks",
        "TaskTemplate": {
            "ContainerSpec": { "Image": "sem:1", "Env": ["FAIL_NOW=3"] },
            "RestartPolicy": { "Condition": "any", "Delay": 300_000_000_u64, "MaxAttempts": 1 },
        },
    });
    docker.create_service(serde_json::from_value(spec)?, None).await?;
    // Every look on the way has to be readable, not only the last.
    let failed = until("two failures", async || {
        let tasks = docker.list_tasks(Some(of_service("tasks"))).await?;
        let state = |task: &bollard::models::Task| task.status.as_ref().and_then(|s| s.state);
        let failed = tasks.iter().filter(|task| state(task) == Some(TaskState::FAILED));
        Ok((failed.count() == 2).then_some(tasks))
    })
    .await?;
    let id = failed[0].id.clone().context("an id")?;
    let task = docker.inspect_task(&id).await?;
    docker.delete_service("tasks").await?;
    let status = task.status.context("a status")?;
    ensure!(status.err.as_deref() == Some("task: non-zero exit (3)"), "{status:?}");
    let code = status.container_status.and_then(|container| container.exit_code);
    ensure!(code == Some(3) && task.slot == Some(1), "{code:?}");
    refused(docker.inspect_task("nosuch").await, 404)
}

async fn logs(docker: &Docker) -> Result<()> {
    let tasks = serve(docker, "logs", 2, &["LOG_EVERY=50"]).await?;
    let options = || LogsOptionsBuilder::new().stdout(true).stderr(true);
    until("lines of both", async || {
        let lines: Vec<_> =
            docker.service_logs("logs", Some(options().build())).collect::<Vec<_>>().await;
        let said = |line: &Result<LogOutput, _>| {
            line.as_ref().is_ok_and(|line| line.to_string() == "out 3\n")
        };
        Ok((lines.iter().filter(|line| said(line)).count() == 2).then_some(()))
    })
    .await?;
    let tail = docker.service_logs("logs", Some(options().tail("2").build()));
    let tail: Vec<_> = tail.collect().await;
    ensure!(tail.len() == 4, "two lines of each task: {tail:?}");
    for line in tail {
        let line = line?;
        let is_known = match &line {
            LogOutput::StdOut { message } => message.starts_with(b"out "),
            LogOutput::StdErr { message } => message.starts_with(b"err "),
            LogOutput::StdIn { .. } | LogOutput::Console { .. } => false,
        };
        ensure!(is_known, "{line:?}");
    }
    let one = docker.task_logs(&tasks[0], Some(options().tail("1").timestamps(true).build()));
    let one: Vec<_> = one.collect().await;
    ensure!(one.len() == 1, "{one:?}");
    // Followed lines come until nobody listens any more.
    let follow = options().follow(true).tail("0").build();
    let mut followed = Box::pin(docker.service_logs("logs", Some(follow)));
    for _ in 0..6 {
        followed.next().await.context("a line")??;
    }
    drop(followed);
    docker.delete_service("logs").await?;
    Ok(())
}

async fn refusals(docker: &Docker) -> Result<()> {
    serve(docker, "refusals", 1, &[]).await?;
    let again = json!({
        "Name": "refusals", "TaskTemplate": { "ContainerSpec": { "Image": "sem:1" } },
    });
    refused(docker.create_service(serde_json::from_value(again.clone())?, None).await, 409)?;
    let bad = json!({ "Name": "bad name!", "TaskTemplate": again["TaskTemplate"] });
    refused(docker.create_service(serde_json::from_value(bad)?, None).await, 400)?;
    let absurd = json!({
        "Name": "absurd", "TaskTemplate": again["TaskTemplate"],
        "Mode": { "Replicated": { "Replicas": 1_000_000 } },
    });
    refused(docker.create_service(serde_json::from_value(absurd)?, None).await, 400)?;
    let options = UpdateServiceOptionsBuilder::new().version(1).build();
    let spec = serde_json::from_value(again)?;
    refused(docker.update_service("refusals", spec, options, None).await, 500)?;
    docker.delete_service("refusals").await?;
    refused(docker.delete_service("refusals").await, 404)
}
