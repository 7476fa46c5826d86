//! What went wrong, for people and for scripts: a stable code, a message, the next step, and the
//! class that decides the exit code.

use std::{borrow::Cow, io, process::ExitCode};

use dockerapi::ClientError;
use serde_json::{Value, json};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    RolledBack = 3,
    Locked = 4,
    NotVerified = 5,
    Refused = 6,
    Deadline = 124,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub code: Cow<'static, str>,
    pub message: String,
    pub hint: Option<String>,
    /// More for scripts.
    pub about: Option<Value>,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let code = Cow::Borrowed(code);
        Self { exit: Exit::Failed, code, message: message.into(), hint: None, about: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new("usage", message) }
    }

    /// A destructive command without a person who could agree to it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, ..Self::new("not-confirmed", message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn about(mut self, about: Value) -> Self {
        self.about = Some(about);
        self
    }

    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// A failure that another process of ours wrote into its log.
    pub fn heard(lines: &[String]) -> Option<Self> {
        let rest = lines.iter().find_map(|line| line.strip_prefix("error["))?;
        let (code, message) = rest.split_once("]: ")?;
        let hint = lines.iter().find_map(|line| line.strip_prefix("hint: "));
        let code = Cow::Owned(code.to_owned());
        let hint = hint.map(str::to_owned);
        Some(Self { exit: Exit::Failed, code, message: message.to_owned(), hint, about: None })
    }

    /// As `--json` shows it.
    pub fn json(&self) -> Value {
        json!({ "error": {
            "code": self.code, "message": self.message, "hint": self.hint,
            "exit_code": self.exit as u8, "about": self.about,
        } })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::TimedOut { .. } => Exit::Deadline,
            ClientError::BadHost { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self {
            exit,
            code: Cow::Borrowed(error.code()),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
            about: None,
        }
    }
}

/// Why a command ended before its end.
#[derive(Debug)]
pub enum Stop {
    Failure(Failure),
    /// Nobody reads the output any more.
    NobodyListens,
    /// The outcome was shown already; only the exit code is left.
    Shown(Exit),
    /// The exit code of a command that was run on somebody's behalf.
    Code(u8),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Failure(error.into())
    }
}

/// Standard output could not be written.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyListens,
            io::ErrorKind::StorageFull => Self::Failure(
                Failure::new("output-full", "write the output: no space left on the device")
                    .hint("free space where the output goes; the engine was not touched"),
            ),
            _ => Self::Failure(Failure::new("output-write", format!("write the output: {error}"))),
        }
    }
}

/// The outcome of a command.
pub type Outcome = Result<(), Stop>;
