//! Docker's service templates: the part of Go's `text/template` that says something about a
//! service, its node and its task. Pure.
//!
//! ```text
//! {{.Service.ID}} {{.Service.Name}} {{.Service.Labels.x}} {{index .Service.Labels "a.b"}}
//! {{.Node.ID}} {{.Node.Hostname}} {{.Node.Platform.OS}} {{.Node.Platform.Architecture}}
//! {{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}
//! {{if A}} {{else if B}} {{else}} {{end}}   pipelines, `{{-` and `-}}`, comments, literals
//! index join print eq ne and or not          in configs and secrets also: env secret config
//! ```
//!
//! Environment values, the host name and mounts are expanded (`swarmkit/template`
//! `ExpandContainerSpec`), and configs and secrets made with the template driver `golang`.

mod evaluate;
mod parse;

use std::collections::BTreeMap;

use dockerapi::spec::{ContainerSpec, Reference, ServiceSpec};
use serde_json::Value;

use evaluate::Budget;
use parse::Piece;

/// The one template driver there is, by Docker's name for it.
const DRIVER: &str = "golang";
/// What may be made for a config or secret, or for all of a task's spec: a template can name one
/// secret many times.
const LIMIT_BYTES: usize = 8 << 20;

/// What a template can say.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    pub service_id: &'a str,
    pub service_name: &'a str,
    pub service_labels: BTreeMap<String, String>,
    pub node_id: &'a str,
    pub node_hostname: &'a str,
    pub task_id: &'a str,
    pub task_name: &'a str,
    /// A number, or the node's id for a global service.
    pub task_slot: String,
}

/// What the template of a config or secret can ask for besides.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    pub spec: &'a ContainerSpec,
    /// Bytes of secrets and configs by id.
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

/// Why a template cannot be expanded, with the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    line: usize,
    what: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "template: expansion:{}: {}", self.line, self.what)
    }
}

/// A text that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

impl Template {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        parse::parse(text).map(Self)
    }

    pub fn expand(
        &self,
        context: &Context<'_>,
        payload: Option<&Payload<'_>>,
    ) -> Result<String, Wrong> {
        evaluate::evaluate(&self.0, context, payload, &Budget::new())
    }
}

fn text(text: &str, context: &Context<'_>, budget: &Budget) -> Result<String, Wrong> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    evaluate::evaluate(&Template::parse(text)?.0, context, None, budget)
}

/// A task's spec with its templates expanded. The error is for people.
pub fn spec(spec: &ContainerSpec, context: &Context<'_>) -> Result<ContainerSpec, String> {
    let mut spec = spec.clone();
    let budget = Budget::new();
    let text = |given: &str| text(given, context, &budget);
    for entry in &mut spec.env {
        let name = entry.split('=').next().unwrap_or("").to_owned();
        // The value may be a secret: only its name is told.
        *entry = text(entry).map_err(|wrong| format!("expanding env failed: {name}: {wrong}"))?;
    }
    spec.hostname =
        text(&spec.hostname).map_err(|wrong| format!("expanding hostname failed: {wrong}"))?;
    for mount in &mut spec.mounts {
        for part in [&mut mount.source, &mut mount.target] {
            *part = text(part).map_err(|wrong| format!("expanding mounts failed: {wrong}"))?;
        }
    }
    Ok(spec)
}

/// A config's or secret's content, expanded for one task. The error is for people.
pub fn payload(
    reference: &Reference,
    bytes: &[u8],
    context: &Context<'_>,
    payload: &Payload<'_>,
) -> Result<Vec<u8>, String> {
    let name = reference.name();
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("the template {name} is not text in UTF-8"))?;
    Template::parse(text)
        .and_then(|template| template.expand(context, Some(payload)))
        .map(String::into_bytes)
        .map_err(|wrong| format!("expanding {name} failed: {wrong}"))
}

/// Whether a config or secret is one, by its spec.
pub fn is_template(spec: &Value) -> bool {
    driver(spec) == DRIVER
}

fn driver(spec: &Value) -> &str {
    spec.pointer("/Templating/Name").and_then(Value::as_str).unwrap_or("")
}

/// What is wrong with a config or secret that is to be made, as a template.
pub fn check_object(spec: &Value, bytes: &[u8]) -> Result<(), String> {
    match driver(spec) {
        "" => Ok(()),
        DRIVER => {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not text in UTF-8")?;
            Template::parse(text).map(|_| ()).map_err(|wrong| wrong.to_string())
        }
        other => Err(format!("unrecognized template driver {other:?}; there is {DRIVER:?}")),
    }
}

/// What is wrong with the templates of a service's spec, before there is a task of it.
pub fn check_service(wire: &ServiceSpec) -> Result<(), String> {
    let context = Context {
        service_id: "serviceid",
        service_name: &wire.name,
        service_labels: wire.labels.clone(),
        node_id: "nodeid",
        node_hostname: "hostname",
        task_id: "taskid",
        task_name: "taskname",
        task_slot: "1".to_owned(),
    };
    match &wire.task_template.container_spec {
        Some(container) => spec(container, &context).map(|_| ()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
