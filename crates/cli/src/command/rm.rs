//! `keel rm`: a stack taken away, once somebody agreed to it.

use ops::remove;
use serde_json::json;

use super::change::Interrupts;
use crate::{
    args,
    command::Context,
    failure::{Failure, Outcome},
    output::ask,
    progress::Shown,
};

pub async fn run(context: &Context, rm: &args::Rm) -> Outcome {
    let output = context.output;
    let client = context.announced().await?;
    let removal = remove::plan(&client, &rm.stack).await?;
    if !rm.yes {
        for line in plan_lines(&removal) {
            output.note(&line);
        }
        let stack = &rm.stack;
        match ask(&format!("Remove stack {stack} from {}?", client.host())) {
            Some(true) => {}
            Some(false) => return Err(Failure::refused("nothing was removed").into()),
            None => {
                let text = format!("removing stack {stack} needs somebody to agree to it");
                return Err(Failure::refused(text)
                    .hint(format!("to do it without being asked: `keel rm {stack} --yes`"))
                    .into());
            }
        }
    }
    let interrupts = Interrupts::listen(output)?;
    let progress = Shown::new(output);
    let heard = interrupts.heard.clone();
    let removed = remove::run(&client, &removal, rm.timeout, &progress, heard).await;
    progress.end();
    removed?;
    if output.json {
        output.json(&json!({ "verdict": "removed", "removed": removal }))?;
    } else {
        let stack = &rm.stack;
        output.line(&format!(
            "stack {stack} is removed; its releases are kept: `keel rollback --stack {stack}` \
             brings it back"
        ))?;
    }
    Ok(())
}

fn plan_lines(removal: &remove::Removal) -> Vec<String> {
    [
        ("service", &removal.services),
        ("secret", &removal.secrets),
        ("config", &removal.configs),
        ("network", &removal.networks),
    ]
    .into_iter()
    .flat_map(|(kind, names)| names.iter().map(move |name| format!("  - {kind} {name}")))
    .collect()
}
