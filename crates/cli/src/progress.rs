//! What a release does, as it does it: live on a terminal, plain lines in a pipe.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ops::{
    Progress, Said,
    judge::Slot,
    plan::{Change, Kind, Plan},
};

use crate::{human, output::Output};

/// Shows what `ops` says, on standard error.
#[derive(Debug)]
pub struct Shown {
    output: Output,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The step that goes on, on a terminal.
    bar: Option<ProgressBar>,
    step: String,
    /// Task → what was said of it last.
    said: BTreeMap<String, String>,
}

impl Shown {
    pub fn new(output: Output) -> Self {
        Self { output, state: Mutex::default() }
    }

    /// Nothing moves any more.
    pub fn end(&self) {
        if let Some(bar) = self.state().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that stays.
    fn line(&self, state: &State, text: &str) {
        match &state.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }
}

impl Progress for Shown {
    fn say(&self, said: Said) {
        let mut state = self.state();
        match said {
            Said::Step { name } => {
                state.step.clone_from(&name);
                if self.output.quiet {
                    return;
                }
                if std::io::stderr().is_terminal() {
                    let bar = state.bar.get_or_insert_with(new_bar);
                    bar.set_message(name);
                } else {
                    self.output.note(&format!("{name} …"));
                }
            }
            Said::Done { name, milliseconds } => {
                let took = human::took(Duration::from_millis(milliseconds));
                self.line(&state, &format!("{name}: done in {took}"));
                if let Some(bar) = state.bar.take() {
                    bar.finish_and_clear();
                }
            }
            Said::Output { line } => self.line(&state, &format!("  {line}")),
            Said::Plan { plan } => {
                for line in plan_lines(&plan) {
                    self.line(&state, &line);
                }
            }
            Said::Slots { service, ready, wanted, slots } => {
                self.slots(&mut state, &service, ready, wanted, &slots);
            }
            Said::Warning { text } => self.line(&state, &format!("warning: {text}")),
        }
    }
}

impl Shown {
    fn slots(&self, state: &mut State, service: &str, ready: u64, wanted: u64, slots: &[Slot]) {
        if let Some(bar) = &state.bar {
            let mut text = format!("{}: {ready} of {wanted} ready", state.step);
            for slot in slots {
                text.push_str(&format!("\n    {}", slot_text(service, slot)));
            }
            bar.set_message(text);
            return;
        }
        for slot in slots.iter().filter(|slot| slot.is_new) {
            let text = slot_text(service, slot);
            let known = state.said.insert(slot.task.clone(), text.clone());
            if known.as_ref() != Some(&text) {
                self.output.note(&format!("  {text}"));
            }
        }
    }
}

fn slot_text(service: &str, slot: &Slot) -> String {
    let age = if slot.is_new { "new" } else { "old" };
    let error = slot.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
    format!("{service}.{} {age}: {}{error}", slot.slot, slot.state)
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The plan with `+` what comes, `~` what changes, `=` what stays, `!` what is not in the file.
pub fn plan_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for change in &plan.changes {
        let Change { service, kind, restarts, fields } = change;
        match kind {
            Kind::Create => {
                lines.push(format!("  + service {service}"));
                lines.extend(fields.iter().filter_map(|field| {
                    Some(format!("      {}: {}", field.path, field.after.as_ref()?))
                }));
            }
            Kind::Update => {
                let effect = if *restarts { "its tasks are replaced" } else { "no task restarts" };
                lines.push(format!("  ~ service {service} ({effect})"));
                for field in fields {
                    let text = |value: &Option<String>| {
                        value.clone().unwrap_or_else(|| "(nothing)".to_owned())
                    };
                    let path = field.path.trim_start_matches("TaskTemplate.");
                    let (before, after) = (text(&field.before), text(&field.after));
                    lines.push(format!("      {path}: {before} -> {after}"));
                }
            }
            Kind::Unchanged => lines.push(format!("  = service {service}")),
            Kind::Leave => {
                lines.push(format!("  ! service {service} is not in the stack file; it stays"));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use ops::plan::Field;

    use super::*;

    #[test]
    fn a_plan_says_what_comes_what_changes_and_what_restarts() {
        let change = |service: &str, kind, restarts, fields| Change {
            service: service.to_owned(),
            kind,
            restarts,
            fields,
        };
        let image = Field {
            path: "TaskTemplate.ContainerSpec.Image".to_owned(),
            before: Some("api:1".to_owned()),
            after: Some("api:2".to_owned()),
        };
        let new = Field { path: "Image".to_owned(), before: None, after: Some("web:1".to_owned()) };
        let plan = Plan {
            changes: vec![
                change("web", Kind::Create, false, vec![new]),
                change("api", Kind::Update, true, vec![image]),
                change("db", Kind::Unchanged, false, Vec::new()),
                change("old", Kind::Leave, false, Vec::new()),
            ],
        };
        let expected = "  + service web\n      Image: web:1\n  ~ service api (its tasks are replaced)\n      \
                        ContainerSpec.Image: api:1 -> api:2\n  = service db\n  ! service old is not in \
                        the stack file; it stays";
        assert_eq!(plan_lines(&plan).join("\n"), expected);
    }
}
