//! What a person is told when something did not work: a stable code, the reason, the next command,
//! and a class that decides the exit code.

use dockerapi::ClientError;

/// How it ended; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Failed, nothing changed.
    Failed,
    Usage,
    /// Failed, and everything is as it was before.
    RolledBack,
    /// Another deploy holds the lock.
    Locked,
    VerifyFailed,
    /// Refused by a safety check.
    Refused,
    Deadline,
    Interrupted,
}

impl Class {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::Locked => 4,
            Self::VerifyFailed => 5,
            Self::Refused => 6,
            Self::Deadline => 124,
            Self::Interrupted => 130,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    pub class: Class,
}

impl Error {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, class: Class::Failed }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { code: error.code(), message: error.to_string(), hint, class: Class::Failed }
    }
}
