//! `keel rollback`: back to a release that was live.

use ops::rollback;

use super::change::{Interrupts, ended};
use crate::{args, command::Context, failure::Outcome, progress::Shown};

pub async fn run(context: &Context, rollback: &args::Rollback) -> Outcome {
    let output = context.output;
    let client = context.announced().await?;
    let interrupts = Interrupts::listen(output)?;
    let request = rollback::Request {
        stack: rollback.stack.clone(),
        service: rollback.service.clone(),
        version: rollback.version.clone(),
        timeout: rollback.timeout,
    };
    let progress = Shown::new(output);
    let outcome = rollback::run(&client, &request, &progress, interrupts.heard.clone()).await;
    progress.end();
    ended(&outcome?, output, "`keel releases` lists where else to go")
}
