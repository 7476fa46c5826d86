//! `keel adopt` and `keel release-control`: a stack taken over as it runs, and given back.

use ops::adopt;
use serde_json::json;

use super::change::Interrupts;
use crate::{
    args,
    command::Context,
    failure::{Failure, Outcome},
    output::ask,
    progress::{Shown, plan_lines},
};

pub async fn run(context: &Context, stack: &str) -> Outcome {
    let output = context.output;
    let client = context.client().await?;
    let adopted = adopt::adopt(&client, stack).await?;
    if output.json {
        output.json(&json!(adopted))?;
        return Ok(());
    }
    if !adopted.on_mesh.is_empty() {
        output.note(&format!(
            "Docker's routing mesh still carries the requests of {}; the next `keel deploy` moves \
             them to keel's ingress",
            adopted.on_mesh.join(", ")
        ));
    }
    let version = &adopted.version;
    output.line(&format!("{stack} is taken over as release {version}; no task was touched"))?;
    Ok(())
}

pub async fn give_back(context: &Context, back: &args::ReleaseControl) -> Outcome {
    let output = context.output;
    let client = context.client().await?;
    let wanted = adopt::plan_return(&client, &back.stack).await?;
    let stack = &back.stack;
    if !back.yes {
        for line in plan_lines(&wanted.plan) {
            output.note(&line);
        }
        if wanted.plan.changes.iter().any(|change| change.restarts) {
            output.note(
                "  requests may fail for a moment while a port goes from keel's ingress to Docker's \
                 routing mesh; what is in flight there is not drained any more",
            );
        }
        output.note(&format!("  - all records of releases of {stack}"));
        match ask(&format!("Give stack {stack} of {} back to Docker?", client.host())) {
            Some(true) => {}
            Some(false) => return Err(Failure::refused("nothing was changed").into()),
            None => {
                let text = format!("giving stack {stack} back needs somebody to agree to it");
                return Err(Failure::refused(text)
                    .hint(format!(
                        "to do it without being asked: `keel release-control {stack} --yes`"
                    ))
                    .into());
            }
        }
    }
    let interrupts = Interrupts::listen(output)?;
    let progress = Shown::new(output);
    let heard = interrupts.heard.clone();
    let given = adopt::give_back(&client, &wanted, back.timeout, &progress, heard).await;
    progress.end();
    given?;
    if output.json {
        output.json(&json!({ "verdict": "given back", "stack": stack }))?;
        return Ok(());
    }
    output.line(&format!("{stack} is Docker's again; take it over with `keel adopt {stack}`"))?;
    Ok(())
}
