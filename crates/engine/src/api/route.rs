//! Which method and path is which answer.

use dockerapi::{ApiError, version};
use http::Method;
use hyper::{Request, body::Incoming, upgrade::OnUpgrade};
use serde_json::json;

use super::{Answer, Api, Call, json as respond, objects, query, swarm, system, unescape};

impl Api {
    pub(super) async fn route(self, request: Request<Incoming>) -> Answer {
        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.filter(|_| head.headers.contains_key(http::header::UPGRADE));
        let path = version::strip(head.uri.path())?.to_owned();
        let query = head.uri.query().map(query).unwrap_or_default();
        let call = Call { query, headers: head.headers.clone(), body, upgrade };
        let parts: Vec<String> =
            path.split('/').filter(|part| !part.is_empty()).map(unescape).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let method = head.method.as_str();
        if swarm::needs_swarm(method, &parts) && !self.control.is_in_swarm() {
            return Err(swarm::no_manager());
        }
        match parts.as_slice() {
            ["swarm", ..] => self.swarm_route(method, &parts, call).await,
            ["services" | "tasks", ..] => self.service_route(method, &parts, call).await,
            ["configs" | "secrets" | "networks" | "volumes", ..] => {
                self.object_route(method, &parts, call).await
            }
            ["images" | "distribution", ..] => self.image_route(method, &parts, call).await,
            ["containers" | "exec", ..] => self.container_route(method, &parts, call).await,
            ["evenkeel", "v1", ..] => self.own_route(method, &parts[2..]).await,
            _ => self.system_route(&head.method, &parts, call).await,
        }
    }

    async fn system_route(&self, method: &Method, parts: &[&str], call: Call) -> Answer {
        match (method.as_str(), parts) {
            ("GET" | "HEAD", ["_ping"]) => Ok(system::ping(method, self.control.is_in_swarm())),
            ("GET", ["version"]) => Ok(respond(&system::version())),
            ("GET", ["info"]) => self.info().await,
            ("GET", ["events"]) => self.events(&call).await,
            ("GET", ["system", "df"]) => self.disk_usage().await,
            // There is no cache of builds.
            ("POST", ["build", "prune"]) => {
                Ok(respond(&json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })))
            }
            ("POST", ["nodes", id, "update"]) => self.update_node(id, call).await,
            ("GET", ["nodes"]) => self.nodes(&call).await,
            ("GET", ["nodes", id]) => self.node(id).await,
            ("GET", ["plugins"]) => Ok(respond(&json!([]))),
            ("POST", ["auth"]) => self.log_in(call).await,
            ("POST", ["plugins", ..]) => {
                Err(ApiError::not_supported("the embedded engine has no plugins"))
            }
            ("POST", ["commit"]) => Err(ApiError::not_supported(
                "the embedded engine makes no image of what a task left behind; describe it under \
                 `x-evenkeel: artifact` and use `keel build`",
            )),
            ("POST", ["build" | "session" | "grpc", ..]) => Err(ApiError::not_supported(
                "the embedded engine does not build Dockerfiles; use `keel build` with \
                     `x-evenkeel: artifact`, or build elsewhere and `docker load`",
            )),
            _ => Err(unknown()),
        }
    }

    async fn service_route(&self, method: &str, parts: &[&str], call: Call) -> Answer {
        match (method, parts) {
            ("GET", ["services"]) => self.services(&call).await,
            ("POST", ["services", "create"]) => self.create_service(call).await,
            ("GET", ["services", id]) => self.service(id, &call).await,
            ("DELETE", ["services", id]) => self.remove_service(id).await,
            ("POST", ["services", id, "update"]) => self.update_service(id, call).await,
            ("GET", ["services", id, "logs"]) => self.service_logs(id, &call).await,
            ("GET", ["tasks"]) => self.tasks(&call).await,
            ("GET", ["tasks", id]) => self.task(id).await,
            ("GET", ["tasks", id, "logs"]) => {
                self.task_logs(id, &call, http::StatusCode::INTERNAL_SERVER_ERROR).await
            }
            _ => Err(unknown()),
        }
    }

    async fn object_route(&self, method: &str, parts: &[&str], call: Call) -> Answer {
        let kind = objects::kind(parts[0]);
        let is_data = matches!(kind, "config" | "secret");
        match (method, &parts[1..]) {
            ("GET", []) => self.objects(kind, &call).await,
            ("POST", ["create"]) => self.create_object(kind, call).await,
            ("POST", ["prune"]) if kind == "volume" => self.prune_volumes(&call).await,
            ("POST", ["prune"]) if kind == "network" => self.prune_networks(&call).await,
            ("POST", [id, "connect"]) if kind == "network" => {
                self.connect_network(id, call, true).await
            }
            ("POST", [id, "disconnect"]) if kind == "network" => {
                self.connect_network(id, call, false).await
            }
            ("GET", [id]) => self.object(kind, id).await,
            ("POST", [id, "update"]) if is_data => self.update_object(kind, id, call).await,
            ("DELETE", [id]) => self.delete_object(kind, id).await,
            _ => Err(unknown()),
        }
    }

    async fn image_route(&self, method: &str, parts: &[&str], call: Call) -> Answer {
        match (method, parts) {
            ("GET", ["images", "json"]) => self.images(&call),
            ("GET", ["images", "get"]) => {
                let names = call.query.iter().filter(|(key, _)| key == "names");
                self.save_images(names.map(|(_, name)| name.clone()).collect()).await
            }
            ("POST", ["images", "load"]) => self.load_image(call).await,
            ("POST", ["images", "prune"]) => self.prune_images(&call).await,
            ("POST", ["images", "create"]) if call.get("fromSrc").is_some() => {
                self.import_image(call).await
            }
            ("POST", ["images", "create"]) => self.pull_image(call).await,
            ("POST", ["images", name @ .., "push"]) => self.push_image(&name.join("/"), call).await,
            ("GET", ["images", name @ .., "get"]) => self.save_images(vec![name.join("/")]).await,
            ("GET", ["images", name @ .., "json"]) => self.image(&name.join("/")),
            ("GET", ["images", name @ .., "history"]) => self.image_history(&name.join("/")),
            ("POST", ["images", name @ .., "tag"]) => self.tag_image(&name.join("/"), &call).await,
            ("DELETE", ["images", name @ ..]) => self.remove_image(&name.join("/"), &call).await,
            ("GET", ["distribution", name @ .., "json"]) => {
                self.look_up_image(&name.join("/"), &call).await
            }
            _ => Err(unknown()),
        }
    }

    async fn container_route(&self, method: &str, parts: &[&str], call: Call) -> Answer {
        match (method, parts) {
            ("GET", ["containers", "json"]) => self.containers(&call).await,
            ("POST", ["containers", "create"]) => self.create_container(call).await,
            ("POST", ["containers", "prune"]) => self.prune_containers(&call).await,
            ("POST", ["containers", id, "start"]) => self.start_container(id).await,
            ("POST", ["containers", id, "restart"]) => self.restart_container(id, &call).await,
            ("POST", ["containers", id, "rename"]) => self.rename_container(id, &call).await,
            ("POST", ["containers", id, "update"]) => self.update_container(id, call).await,
            ("POST", ["containers", id, "attach"]) => self.attach(id, call).await,
            ("POST", ["containers", id, "resize"]) => self.resize_container(id, &call).await,
            ("GET", ["containers", id, "top"]) => self.top(id).await,
            ("GET", ["containers", id, "json"]) => self.container(id).await,
            ("GET", ["containers", id, "logs"]) => self.container_logs(id, &call).await,
            ("GET", ["containers", id, "stats"]) => self.container_stats(id, &call).await,
            ("POST", ["containers", id, "kill"]) => self.kill(id, &call).await,
            ("POST", ["containers", id, "stop"]) => self.stop(id, &call).await,
            ("POST", ["containers", id, "wait"]) => self.wait(id, &call).await,
            ("DELETE", ["containers", id]) => self.remove_container(id, &call).await,
            ("HEAD", ["containers", id, "archive"]) => self.stat_path(id, &call).await,
            ("GET", ["containers", id, "archive"]) => self.copy_out(id, &call).await,
            ("PUT", ["containers", id, "archive"]) => self.copy_in(id, call).await,
            ("POST", ["containers", id, "exec"]) => self.create_exec(id, call).await,
            ("POST", ["exec", id, "start"]) => self.start_exec(id, call).await,
            ("POST", ["exec", id, "resize"]) => self.resize_exec(id, &call),
            ("GET", ["exec", id, "json"]) => self.exec(id),
            (_, ["containers", id, "pause" | "unpause" | "export" | "changes" | "checkpoints"]) => {
                let id = self.found(id).await?.name;
                Err(ApiError::not_supported(format!(
                    "the embedded engine cannot do that with {id}: what it runs are processes of \
                     this machine, with files but no file system of their own; use a Docker engine \
                     for it"
                )))
            }
            _ => Err(unknown()),
        }
    }

    async fn own_route(&self, method: &str, parts: &[&str]) -> Answer {
        match (method, parts) {
            ("GET", ["ready"]) => self.ready().await,
            ("GET", ["stats"]) => self.own_stats().await,
            ("GET", ["tasks"]) => self.own_tasks().await,
            ("GET", ["ports"]) => self.own_ports().await,
            ("POST", ["stop-all"]) => self.stop_all().await,
            _ => Err(unknown()),
        }
    }
}

/// Docker's words.
pub(super) fn unknown() -> ApiError {
    ApiError::not_found("page not found")
}
