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

use parse::Piece;

/// The one template driver there is, by Docker's name for it.
const DRIVER: &str = "golang";
/// What an expanded text may have; a template can name one secret many times.
const LIMIT_BYTES: usize = 8 << 20;

/// What a template can say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context<'a> {
    pub(crate) service_id: &'a str,
    pub(crate) service_name: &'a str,
    pub(crate) service_labels: BTreeMap<String, String>,
    pub(crate) node_id: &'a str,
    pub(crate) node_hostname: &'a str,
    pub(crate) task_id: &'a str,
    pub(crate) task_name: &'a str,
    /// A number, or the node's id for a global service.
    pub(crate) task_slot: String,
}

/// What the template of a config or secret can ask for besides.
#[derive(Clone, Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) spec: &'a ContainerSpec,
    /// Bytes of secrets and configs by id.
    pub(crate) files: &'a BTreeMap<String, Vec<u8>>,
}

/// Why a template cannot be expanded, with the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
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
pub(crate) struct Template(Vec<Piece>);

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        parse::parse(text).map(Self)
    }

    pub(crate) fn expand(
        &self,
        context: &Context<'_>,
        payload: Option<&Payload<'_>>,
    ) -> Result<String, Wrong> {
        evaluate::evaluate(&self.0, context, payload)
    }
}

fn text(text: &str, context: &Context<'_>) -> Result<String, Wrong> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    Template::parse(text)?.expand(context, None)
}

/// A task's spec with its templates expanded. The error is for people.
pub(crate) fn spec(spec: &ContainerSpec, context: &Context<'_>) -> Result<ContainerSpec, String> {
    let mut spec = spec.clone();
    for entry in &mut spec.env {
        let name = entry.split('=').next().unwrap_or("").to_owned();
        // The value may be a secret: only its name is told.
        *entry = text(entry, context)
            .map_err(|wrong| format!("expanding env failed: {name}: {wrong}"))?;
    }
    spec.hostname = text(&spec.hostname, context)
        .map_err(|wrong| format!("expanding hostname failed: {wrong}"))?;
    for mount in &mut spec.mounts {
        for part in [&mut mount.source, &mut mount.target] {
            *part =
                text(part, context).map_err(|wrong| format!("expanding mounts failed: {wrong}"))?;
        }
    }
    Ok(spec)
}

/// A config's or secret's content, expanded for one task. The error is for people.
pub(crate) fn payload(
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
pub(crate) fn is_template(spec: &Value) -> bool {
    driver(spec) == DRIVER
}

fn driver(spec: &Value) -> &str {
    spec.pointer("/Templating/Name").and_then(Value::as_str).unwrap_or("")
}

/// What is wrong with a config or secret that is to be made, as a template.
pub(crate) fn check_object(spec: &Value, bytes: &[u8]) -> Result<(), String> {
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
pub(crate) fn check_service(wire: &ServiceSpec) -> Result<(), String> {
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
