//! A service's task as a container.

use dockerapi::stamp;
use orchestrator::Task;
use serde_json::{Value, json};

use super::{Container, Seen, moment};
use crate::control::container_id;

pub(super) fn labels(container: &Container, task: &Task, service: &str) -> Value {
    let mut labels = json!(container.spec().labels);
    for (key, value) in [
        ("com.docker.swarm.task", ""),
        ("com.docker.swarm.task.id", &task.id.0),
        ("com.docker.swarm.task.name", &container.name),
        ("com.docker.swarm.node.id", &task.node),
        ("com.docker.swarm.service.id", &task.service.0),
        ("com.docker.swarm.service.name", service),
    ] {
        labels[key] = json!(value);
    }
    labels
}

pub(super) fn inspected(container: &Container, task: &Task, seen: &Seen) -> Value {
    let spec = container.spec();
    let is_running = !task.observed.is_end();
    let argv: Vec<&String> = spec.command.iter().chain(&spec.args).collect();
    json!({
        "Id": container_id(&task.id), "Created": stamp::text(task.created_at),
        "Path": argv.first(), "Args": argv.get(1..).unwrap_or_default(),
        "State": {
            "Status": container.state(), "Running": is_running, "Paused": false,
            "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": seen.pid.unwrap_or(0),
            "ExitCode": task.exit_code.unwrap_or(0), "Error": task.error.as_deref().unwrap_or(""),
            "StartedAt": moment(task.running_at),
            "FinishedAt": moment((!is_running).then_some(task.observed_at)),
        },
        "Image": seen.image_id, "Name": format!("/{}", container.name),
        "RestartCount": 0, "Driver": "process", "Platform": "linux", "Mounts": seen.mounts,
        "HostConfig": { "NetworkMode": "host" },
        "Config": {
            "Hostname": spec.hostname, "Tty": false, "OpenStdin": false, "Env": spec.env,
            "Entrypoint": spec.command, "Cmd": spec.args, "Image": spec.image,
            "Labels": container.labels(), "WorkingDir": spec.dir,
        },
        "NetworkSettings": { "Ports": {}, "Networks": {} },
    })
}
