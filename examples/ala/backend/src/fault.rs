//! Misbehaviour on demand, switched by environment variables, to rehearse bad releases.

use std::time::{Duration, Instant};

use crate::log;
use crate::settings::{Error, parsed, seconds, variable};

#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// `SLOW_START_MS`: wait this long before listening.
    pub slow_start: Duration,
    /// `CRASH_AFTER_SECONDS`: exit with 1 this long after listening began.
    pub crash_after: Option<Duration>,
    /// `UNHEALTHY_AFTER_SECONDS`: the health check fails from then on.
    pub unhealthy_after: Option<Duration>,
    /// `NEVER_HEALTHY=1`: the health check always fails.
    pub never_healthy: bool,
    /// `RUDE=1`: SIGTERM ends the process at once, requests in flight or not.
    pub rude: bool,
}

impl Faults {
    pub fn from_environment() -> Result<Faults, Error> {
        let slow_start = parsed("SLOW_START_MS", "a number of milliseconds")?.unwrap_or(0);
        Ok(Faults {
            slow_start: Duration::from_millis(slow_start),
            crash_after: seconds("CRASH_AFTER_SECONDS")?,
            unhealthy_after: seconds("UNHEALTHY_AFTER_SECONDS")?,
            never_healthy: is_on("NEVER_HEALTHY"),
            rude: is_on("RUDE"),
        })
    }

    pub fn is_unhealthy(&self, listening_since: Instant) -> bool {
        self.never_healthy
            || self.unhealthy_after.is_some_and(|after| listening_since.elapsed() >= after)
    }

    /// Ends the process when its time has come.
    pub fn arm_crash(&self) {
        let Some(after) = self.crash_after else { return };
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            log::error("crash", "out of cheese: crashing as CRASH_AFTER_SECONDS asks");
            std::process::exit(1);
        });
    }
}

fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| value != "0" && value != "false")
}
