//! One service.

use super::Reader;
use crate::model::Service;
use crate::sink::Span;
use crate::tree::Node;

impl Reader<'_> {
    /// The service under `key`; what is wrong with it is reported and left out.
    pub fn read_service(&mut self, key: &str, key_span: Span, node: &Node) -> Service {
        let mut service = Service { name: key.to_string(), ..Service::default() };
        let Some(map) = self.map(node, key) else { return service };
        service.image = self.field(map, "image", Reader::word);
        service.build = self.field(map, "build", Reader::build);
        service.entrypoint = self.field(map, "entrypoint", Reader::command);
        service.command = self.field(map, "command", Reader::command);
        service.environment = self.field(map, "env_file", Reader::env_files).unwrap_or_default();
        let own = self.field(map, "environment", Reader::environment).unwrap_or_default();
        service.environment.extend(own);
        service.labels = self.field(map, "labels", Reader::dictionary).unwrap_or_default();
        service.ports = self.field(map, "ports", Reader::ports).unwrap_or_default();
        service.mounts = self.field(map, "volumes", Reader::mounts).unwrap_or_default();
        service.mounts.extend(self.field(map, "tmpfs", Reader::tmpfs).unwrap_or_default());
        service.configs = self.field(map, "configs", Reader::grants).unwrap_or_default();
        service.secrets = self.field(map, "secrets", Reader::grants).unwrap_or_default();
        service.networks = self.field(map, "networks", Reader::attachments).unwrap_or_default();
        service.healthcheck = self.field(map, "healthcheck", Reader::healthcheck);
        service.deploy = self.field(map, "deploy", Reader::deploy).unwrap_or_default();
        let restart = self.field(map, "restart", Reader::restart);
        if service.deploy.restart_policy.is_none() {
            service.deploy.restart_policy = restart;
        }
        if let Some(entry) = map.entry("depends_on") {
            self.depends_on.insert(key.to_string(), entry.key_span);
        }
        service.depends_on =
            self.field(map, "depends_on", Reader::dependencies).unwrap_or_default();
        service.logging = self.field(map, "logging", Reader::logging);
        service.process = self.process(map);
        if let Some(own) = map.get("x-evenkeel").and_then(|n| self.map(n, "x-evenkeel")) {
            self.extension(&mut service, own);
        }
        self.check_image(map, &service, key_span);
        service
    }

    /// `x-evenkeel` of a service.
    fn extension(&mut self, service: &mut Service, map: &Node) {
        service.artifact = self.field(map, "artifact", Reader::artifact);
        if let Some(health) = map.get("health").and_then(|n| self.map(n, "health")) {
            service.health_http = self.field(health, "http", Reader::http_path);
        }
        service.progress_deadline = self.field(map, "progress_deadline", Reader::duration);
        if let Some(drain) = map.get("drain").and_then(|n| self.map(n, "drain")) {
            service.drain_upgraded = self.field(drain, "upgraded", Reader::duration);
        }
        service.stays_on_mesh = self.field(map, "ingress", Reader::flag) == Some(false);
    }

    fn http_path(&mut self, node: &Node, name: &str) -> Option<String> {
        self.quantity(node, name, "a path such as `/health`", |text| {
            let fits = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic());
            fits.then(|| text.to_string()).ok_or_else(|| "expected a path such as `/health`".into())
        })
    }

    fn check_image(&mut self, map: &Node, service: &Service, key_span: Span) {
        let own = map.get("x-evenkeel").and_then(|own| own.get("artifact"));
        if let (Some(_), Some(build)) = (own, map.entry("build")) {
            let message = format!("`{}` has both `build` and `x-evenkeel.artifact`", service.name);
            let hint = "keep the one that makes the image";
            self.sink.error_with_hint(build.key_span, "conflict", message, hint);
        }
        if map.get("image").is_none() && map.get("build").is_none() && own.is_none() {
            let message = format!("the service `{}` has no image", service.name);
            let hint = "write `image: name:tag`, or let `x-evenkeel.artifact` or `build` make one";
            self.sink.error_with_hint(key_span, "missing-image", message, hint);
        }
    }
}
