//! `keel deploy` and `swarm-deploy`: a release from stack file to verdict.

use ops::{deploy, source::Source};

use super::change::{Interrupts, ended, unusable};
use crate::{
    args,
    command::Context,
    failure::{Outcome, Stop},
    progress::Shown,
};

/// The stack of the operations guide, which its script deploys.
const SCRIPT_STACK: &str = "ala";

pub async fn run(context: &Context, deploy: &args::Deploy) -> Outcome {
    let output = context.output;
    // Read first: a mistake in the file is told even when no engine runs.
    let stack = stack_name(deploy).map_err(|error| unusable(error, output))?;
    let client = context.announced().await?;
    let interrupts = Interrupts::listen(output)?;
    let request = deploy::Request {
        files: deploy.source.files.clone(),
        stack,
        version: deploy.source.version.clone(),
        skip_build: deploy.skip_build,
        no_push: deploy.no_push,
        dry_run: deploy.dry_run,
        timeout: deploy.timeout,
    };
    let progress = Shown::new(output);
    let outcome = deploy::run(&client, &request, &progress, interrupts.heard.clone()).await;
    progress.end();
    let outcome = outcome.map_err(|error| unusable(error, output))?;
    ended(&outcome, output, "undo with `keel rollback`")
}

/// As it was typed; for the script also the file's `name:`, `STACK`, or the guide's stack.
fn stack_name(deploy: &args::Deploy) -> Result<Option<String>, ops::source::LoadError> {
    let version = deploy.source.version.as_deref().unwrap_or("latest");
    let loaded = Source::find(&deploy.source.files)?.load(version)?;
    if deploy.source.stack.is_some() || !deploy.as_script || loaded.stack.name.is_some() {
        return Ok(deploy.source.stack.clone());
    }
    let named = std::env::var("STACK").ok().filter(|name| !name.is_empty());
    Ok(Some(named.unwrap_or_else(|| SCRIPT_STACK.to_owned())))
}

/// Builds without releasing.
pub async fn build(context: &Context, build: &args::Build) -> Outcome {
    let output = context.output;
    let client = context.announced().await?;
    let interrupts = Interrupts::listen(output)?;
    let request = deploy::Request {
        files: build.source.files.clone(),
        stack: build.source.stack.clone(),
        version: build.source.version.clone(),
        skip_build: false,
        no_push: true,
        dry_run: false,
        timeout: std::time::Duration::from_secs(3600),
    };
    let progress = Shown::new(output);
    let wanted = deploy::understand(&client, &request, &progress)
        .await
        .map_err(|error| unusable(error, output))?;
    let is_embedded = deploy::is_embedded(&client).await?;
    let interrupts = interrupts.heard.clone();
    let built = ops::build::all(&client, &wanted, is_embedded, &progress, interrupts).await;
    progress.end();
    let built = built.map_err(Stop::from)?;
    if output.json {
        let images = built
            .iter()
            .map(|(image, digest)| serde_json::json!({ "image": image, "digest": digest }));
        let images: Vec<_> = images.collect();
        output.json(&serde_json::json!({ "version": wanted.version, "images": images }))?;
        return Ok(());
    }
    for (image, digest) in &built {
        output.line(&if output.quiet { image.clone() } else { format!("{image} {digest}") })?;
    }
    if built.is_empty() {
        output.note("nothing to build: no service has a `build` or an `x-evenkeel: {artifact: …}`");
    } else {
        let (stack, version) = (&wanted.stack, &wanted.version);
        output.success(&format!(
            "built; release it with `keel deploy {stack} --version {version} --skip-build`"
        ));
    }
    Ok(())
}
