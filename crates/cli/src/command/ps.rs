//! `keel ps`: tasks, with the history of those that failed, why, and what they said last.

use dockerapi::stamp;
use orchestrator::Time;
use serde_json::json;

use crate::{
    args,
    command::Context,
    failure::Outcome,
    human, table,
    view::task::{self, Task},
};

pub async fn run(context: &Context, ps: &args::Ps) -> Outcome {
    let client = context.client().await?;
    let mut tasks = task::list(&client, ps.service.as_deref()).await?;
    if ps.running {
        tasks.retain(|task| task.state == "running");
    }
    let output = context.output;
    if output.json {
        output.json(&json!(tasks))?;
    } else if output.quiet {
        for task in &tasks {
            output.line(&task.id)?;
        }
    } else if tasks.is_empty() {
        output.note("no tasks");
    } else {
        output.line(&render(&tasks, stamp::now()))?;
    }
    Ok(())
}

/// A table with the last log lines under each failed task.
fn render(tasks: &[Task], now: Time) -> String {
    let header = ["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR"];
    let mut above = None;
    let rows = tasks.iter().map(|task| {
        let is_older = above.replace(&task.name) == Some(&task.name);
        [
            task.id.chars().take(12).collect(),
            format!("{}{}", if is_older { " \\_ " } else { "" }, task.name),
            task.image.clone(),
            task.node.clone(),
            capital(&task.desired_state),
            state(task, now),
            error(task),
        ]
    });
    let table = table::render(header, rows.collect::<Vec<_>>());
    let mut lines = table.lines();
    let mut shown: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (task, line) in tasks.iter().zip(lines) {
        shown.push(line.to_owned());
        shown.extend(task.log.iter().map(|said| format!("               | {said}")));
    }
    shown.join("\n")
}

fn state(task: &Task, now: Time) -> String {
    let traffic = match task.traffic.as_deref() {
        Some("draining") => " (draining)",
        Some("publishing") => " (joining traffic)",
        _ => "",
    };
    format!("{} {}{traffic}", capital(&task.state), human::ago(now, &task.since))
}

fn error(task: &Task) -> String {
    let parked = task.parked.as_ref().map(|why| format!("not started again: {why}"));
    let told = task.error.clone().into_iter().chain(task.waiting.clone());
    let parts: Vec<String> = told.chain(parked).collect();
    parts.join("; ").replace('\n', " ")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
