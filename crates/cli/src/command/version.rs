//! `keel version`: of keel, and of the engine it talks to.

use serde_json::json;

use crate::{command::Context, failure::Outcome, target::Engine, view};

pub async fn run(context: &Context) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let output = context.output;
    if output.quiet && !output.json {
        output.line(own)?;
        return Ok(());
    }
    let target = context.target().await?;
    let (host, why) = (&target.host, &target.why);
    let answered = match target.connect().await {
        Ok(client) => {
            let told = client.version().await.map_err(|error| target.failure(error));
            told.map(|told| (client, told))
        }
        Err(failure) => Err(failure),
    };
    if output.json {
        let mut shown = json!({ "keel": own, "host": host, "why": why, "engine": null });
        if let Ok((client, told)) = answered {
            shown["kind"] = json!(Engine::of(&client).await.kind());
            shown["api"] = json!(client.api_version());
            shown["engine"] = told;
        }
        output.json(&shown)?;
        return Ok(());
    }
    output.line(&format!("keel    {own}"))?;
    match answered {
        Ok((client, told)) => {
            let mut engine = Engine::of(&client).await;
            if engine == Engine::Other(None) {
                engine = Engine::Other(view::text(&told, "Version").map(|v| format!("engine {v}")));
            }
            let api = client.api_version();
            output.line(&format!("engine  {engine} (API {api}) at {host} ({why})"))?;
        }
        Err(failure) => output.line(&format!("engine  none: {}", failure.message))?,
    }
    Ok(())
}
