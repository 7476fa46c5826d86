//! Names used in one place and defined in another: networks, volumes, configs, secrets, services,
//! published ports. Collected while reading, checked at the end.

use std::collections::BTreeMap;

use super::Reader;
use crate::keys::nearest;
use crate::model::Stack;
use crate::order;
use crate::sink::Span;

/// Kinds of things a service refers to by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referent {
    Network,
    Volume,
    Config,
    Secret,
    Service,
}

/// A use of a name.
pub(crate) struct Reference {
    pub to: Referent,
    pub name: String,
    pub span: Span,
}

/// A port a service publishes.
pub(crate) struct Published {
    pub port: u16,
    pub protocol: String,
    pub mode: String,
    pub service: String,
    pub span: Span,
}

impl Reader<'_> {
    pub fn refer(&mut self, to: Referent, name: &str, span: Span) {
        self.references.push(Reference { to, name: name.to_string(), span });
    }

    /// Reports names nothing defines, dependencies in a circle, and ports published twice.
    pub fn check_references(&mut self, stack: &Stack) {
        for reference in std::mem::take(&mut self.references) {
            self.check_reference(stack, &reference);
        }
        self.check_cycle(stack);
        self.check_ports();
    }

    fn check_reference(&mut self, stack: &Stack, reference: &Reference) {
        let name = &reference.name;
        let (code, noun, section, known): (_, _, _, Vec<&String>) = match reference.to {
            Referent::Network if name == "default" => return,
            Referent::Network => {
                ("undefined-network", "network", "networks", stack.networks.keys().collect())
            }
            Referent::Volume => {
                ("undefined-volume", "volume", "volumes", stack.volumes.keys().collect())
            }
            Referent::Config => {
                ("undefined-config", "config", "configs", stack.configs.keys().collect())
            }
            Referent::Secret => {
                ("undefined-secret", "secret", "secrets", stack.secrets.keys().collect())
            }
            Referent::Service => {
                ("undefined-service", "service", "services", stack.services.keys().collect())
            }
        };
        if known.contains(&name) {
            return;
        }
        let message = format!("the {noun} `{name}` is not defined");
        let hint = match nearest(name, known.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("define it under the top-level `{section}`"),
        };
        self.sink.error_with_hint(reference.span, code, message, hint);
    }

    fn check_cycle(&mut self, stack: &Stack) {
        let Some(cycle) = order::cycle(&stack.services) else { return };
        let span = self.depends_on.get(&cycle[0]).copied().unwrap_or_default();
        let message = format!("services depend on each other in a circle: {}", cycle.join(" → "));
        self.sink.error(span, "dependency-cycle", message);
    }

    /// Two services may publish one port only on different nodes, which needs host mode in both.
    fn check_ports(&mut self) {
        let published = std::mem::take(&mut self.published);
        let mut first: BTreeMap<(u16, &str), &Published> = BTreeMap::new();
        for port in &published {
            let Some(earlier) = first.get(&(port.port, port.protocol.as_str())) else {
                first.insert((port.port, &port.protocol), port);
                continue;
            };
            let apart = earlier.service != port.service;
            if apart && earlier.mode == "host" && port.mode == "host" {
                continue;
            }
            let message = format!("the port {}/{} is published twice", port.port, port.protocol);
            let place = self.sink.place(earlier.span);
            let hint = format!("`{}` publishes it at {place}", earlier.service);
            self.sink.error_with_hint(port.span, "duplicate-port", message, hint);
        }
    }
}
