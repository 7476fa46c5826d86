//! `/evenkeel/v1`: what Docker's API has no words for.

use http::StatusCode;
use orchestrator::{Event, Traffic};
use serde_json::{Value, json};

use super::{Answer, Api, empty, json as respond};
use crate::control::{label, ports, task_name};

fn traffic(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Off => "off",
        Traffic::Publishing => "publishing",
        Traffic::Published => "published",
        Traffic::Draining => "draining",
        Traffic::Drained => "drained",
    }
}

impl Api {
    pub(super) async fn ready(&self) -> Answer {
        let ready = self.control.read(|state| {
            json!({
                "control": true,
                "ingress": state.is_ingress_connected,
                "listen_failures": state.listen_failures,
                "pid": std::process::id(),
                "version": env!("CARGO_PKG_VERSION"),
            })
        });
        Ok(respond(&ready.await?))
    }

    /// Where the traffic of each task stands, and which slots are no longer restarted.
    pub(super) async fn own_tasks(&self) -> Answer {
        let driver = self.control.driver.clone();
        let tasks = self.control.read(move |state| {
            let list = state.world.tasks().map(|task| {
                let service = state.world.service(&task.service);
                let parked = service.and_then(|service| {
                    service.parked().find(|(slot, _)| **slot == task.slot).map(|(_, why)| why)
                });
                json!({
                    "ID": task.id.0,
                    "Name": task_name(&state.world, task),
                    "Traffic": traffic(task.traffic),
                    "IsServing": task.is_serving(),
                    "Address": task.address,
                    "PID": driver.pid(&task.id),
                    "WasReady": task.running_at.is_some(),
                    "Parked": parked,
                    "Detail": task.detail,
                    "Waiting": task.unplaced.as_ref().filter(|_| task.is_live()).map(|u| &u.detail),
                    "ReleaseVersion": service.and_then(|s| label(&s.spec, "evenkeel.release")),
                })
            });
            Value::Array(list.collect())
        });
        Ok(respond(&tasks.await?))
    }

    /// Published ports, the services behind them, and whether the ingress could open them.
    pub(super) async fn own_ports(&self) -> Answer {
        let ports = self.control.read(|state| {
            let mut list = Vec::new();
            for service in state.world.services().filter(|service| !service.is_removed) {
                for port in ports(&service.spec) {
                    let error = state.listen_failures.get(&port.published_port);
                    let code = error.map(|_| "port-in-use");
                    list.push(json!({
                        "PublishedPort": port.published_port, "TargetPort": port.target_port,
                        "Service": service.spec.name, "ServiceID": service.id.0,
                        "Listening": state.is_ingress_connected
                            && error.is_none()
                            && state.has_port(service, &port),
                        "Error": error, "Code": code,
                    }));
                }
            }
            Value::Array(list)
        });
        Ok(respond(&ports.await?))
    }

    pub(super) async fn own_stats(&self) -> Answer {
        let ingress = (self.stats)().await;
        let driver = self.control.driver.clone();
        let known = self.control.read(|state| {
            let running = state.world.tasks().filter(|t| t.is_started && !t.observed.is_end());
            let tasks = running.map(|task| {
                let service = state.world.service(&task.service);
                let service = service.map(|s| s.spec.name.clone()).unwrap_or_default();
                (task.id.clone(), task_name(&state.world, task), service, traffic(task.traffic))
            });
            (tasks.collect::<Vec<_>>(), json!(state.listen_failures))
        });
        let (tasks, failures) = known.await?;
        let measure = move || -> Vec<Value> {
            let tasks = tasks.into_iter().map(|(id, name, service, traffic)| {
                let usage = driver.usage(&id).unwrap_or_default();
                json!({
                    "id": id.0, "name": name, "service": service, "traffic": traffic,
                    "cpu_nanos": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX),
                    "memory_bytes": usage.memory_bytes.saturating_sub(usage.cache_bytes),
                    "memory_limit_bytes": usage.memory_limit_bytes,
                    "throttled_nanos": u64::try_from(usage.throttling.throttled.as_nanos())
                        .unwrap_or(u64::MAX),
                    "processes": usage.processes,
                })
            });
            tasks.collect()
        };
        let tasks = tokio::task::spawn_blocking(measure).await.unwrap_or_default();
        Ok(respond(&json!({
            "services": ingress.get("services").cloned().unwrap_or(json!([])),
            "tasks": tasks, "listen_failures": failures,
        })))
    }

    /// Removes every service and ends every container, for `keel daemon --stop --all`. Containers
    /// stay, and their restart policies say whether they start with the next engine.
    pub(super) async fn stop_all(&self) -> Answer {
        let stop = self.control.write(|state| {
            let ids: Vec<_> = state.world.services().map(|service| service.id.clone()).collect();
            for id in ids {
                state.step(Event::ServiceRemoved { id: id.clone() });
                state.put_service(&id);
            }
            state.step_containers(&crate::container::Event::EngineEnds);
            Ok(())
        });
        stop.await?;
        Ok(empty(StatusCode::OK))
    }
}
