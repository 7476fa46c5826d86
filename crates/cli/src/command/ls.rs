//! `keel ls`: services and how many of their replicas run.

use serde_json::json;

use crate::{args, command::Context, failure::Outcome, table, view::service};

pub async fn run(context: &Context, ls: &args::Ls) -> Outcome {
    let client = context.client().await?;
    let services = service::list(&client, ls.stack.as_deref()).await?;
    let output = context.output;
    if output.json {
        output.json(&json!(services))?;
    } else if output.quiet {
        for service in &services {
            output.line(&service.name)?;
        }
    } else if services.is_empty() {
        output.note("no services yet; release a stack with `keel deploy -c docker-stack.yml NAME`");
    } else {
        let header = ["NAME", "MODE", "REPLICAS", "IMAGE", "RELEASE", "LAST ROLLOUT", "PORTS"];
        let rows = services.iter().map(|service| {
            [
                service.name.clone(),
                service.mode.to_owned(),
                service.replicas(),
                service.image.clone(),
                service.release.clone().unwrap_or_else(|| "-".to_owned()),
                service.rollout(),
                service.ports.join(", "),
            ]
        });
        output.line(&table::render(header, rows))?;
    }
    Ok(())
}
