//! Docker's restart policies of containers: whether one that ended starts again, and when.

use std::time::Duration;

use serde_json::Value;

/// The first wait, doubled with every restart, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// After a run of so long the waits begin anew.
const PROVEN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    No,
    Always,
    UnlessStopped,
    /// `most` restarts; 0 is any number.
    OnFailure {
        most: u32,
    },
}

impl Policy {
    /// Of a posted `HostConfig`; the error is in Docker's words.
    pub fn of(asked: &Value) -> Result<Self, String> {
        let policy = &asked["HostConfig"]["RestartPolicy"];
        let name = policy["Name"].as_str().unwrap_or("");
        let most = policy["MaximumRetryCount"].as_i64().unwrap_or(0);
        let most = u32::try_from(most).map_err(|_| "maximum retry count cannot be negative")?;
        let known = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => return Ok(Self::OnFailure { most }),
            other => return Err(format!("invalid restart policy '{other}'")),
        };
        match most {
            0 => Ok(known),
            _ => Err(format!("maximum retry count cannot be used with restart policy '{name}'")),
        }
    }

    /// Of one that ended by itself.
    pub(super) fn restarts(self, code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { most } => code != 0 && (most == 0 || restarts < most),
        }
    }

    /// Of one that did not run when the engine started.
    pub(super) fn starts_with_the_engine(self, is_stopped_by_hand: bool, code: i32) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !is_stopped_by_hand,
            Self::OnFailure { .. } => !is_stopped_by_hand && code != 0,
        }
    }
}

/// The next wait, after the one before and a run of `lasted`.
pub(super) fn back_off(before: Duration, lasted: Duration) -> Duration {
    match before {
        Duration::ZERO => FIRST,
        _ if lasted >= PROVEN => FIRST,
        before => (before * 2).min(LONGEST),
    }
}
