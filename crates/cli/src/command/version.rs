//! `keel version`: of keel, and of the engine it talks to.

use dockerapi::object::VersionAnswer;
use serde_json::{Value, json};

use crate::{command::Context, failure::Outcome, place, view};

pub async fn run(context: &Context) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let host = place::host(&context.globals)?;
    let engine = match context.client().await {
        Ok(client) => client.version().await.map_err(Into::into),
        Err(failure) => Err(failure),
    };
    let output = context.output;
    if output.json {
        let engine = engine.unwrap_or(Value::Null);
        output.json(&json!({ "keel": own, "host": host, "engine": engine }))?;
        return Ok(());
    }
    if output.quiet {
        output.line(own)?;
        return Ok(());
    }
    output.line(&format!("keel    {own}"))?;
    match engine {
        Ok(raw) => {
            let answer: VersionAnswer = view::one(raw)?;
            let (version, api) = (answer.version, answer.api_version);
            output.line(&format!("engine  {version} (API {api}) at {host}"))?;
        }
        Err(failure) => output.line(&format!("engine  none: {}", failure.message))?,
    }
    Ok(())
}
