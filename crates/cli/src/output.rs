//! Where things are said: data on standard output, everything else on standard error.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::failure::Failure;

const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();

/// How a command is to say things.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// A line of data.
    pub fn line(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// A JSON document, for people who read it too.
    pub fn json(self, value: &Value) -> io::Result<()> {
        self.line(&format!("{value:#}"))
    }

    /// A remark, for people only.
    pub fn note(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// How it ended.
    pub fn success(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{GREEN}done{GREEN:#}: {text}");
        }
    }

    /// The last line after a failure: what state was left.
    pub fn failure_line(self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{RED}failed{RED:#}: {text}");
    }

    pub fn failure(self, failure: &Failure) {
        if self.json {
            // In one line, as what came before it may be.
            let _ = self.line(&failure.json().to_string());
        }
        let mut err = anstream::stderr();
        let (code, message) = (&failure.code, &failure.message);
        let _ = writeln!(err, "{RED}error[{code}]{RED:#}: {message}");
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, "{CYAN}hint{CYAN:#}: {hint}");
        }
    }
}

/// Asks a yes-or-no question. `None` without a terminal.
pub fn ask(question: &str) -> Option<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return None;
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim(), "y" | "Y" | "yes"))
}
