//! `GET /api/health`: can this replica serve?

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;

use crate::api::{App, Reply};
use crate::log;

const TIMEOUT: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_secs(1);

/// The answer; monitors rely on these keys.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    timestamp: String,
    database: &'static str,
    priority: &'static str,
}

/// The database's last answer, so that many health checks make few queries.
#[derive(Default)]
pub struct LastCheck(Mutex<Option<(Instant, bool)>>);

/// 200 when the database is connected; an unreachable ERP is told but does not fail the check.
pub async fn show(app: &App) -> Reply {
    let (connected, reachable) =
        tokio::join!(is_database_connected(app), app.priority.is_reachable());
    let healthy = connected && !app.settings.faults.is_unhealthy(app.listening_since);
    let health = Health {
        status: if healthy { "ok" } else { "error" },
        timestamp: log::now(),
        database: if connected { "connected" } else { "disconnected" },
        priority: if reachable { "reachable" } else { "unreachable" },
    };
    Reply::json(if healthy { 200 } else { 503 }, &health)
}

async fn is_database_connected(app: &App) -> bool {
    if !app.is_migrated() {
        return false;
    }
    let mut last = app.last_check.0.lock().await;
    match *last {
        Some((at, connected)) if at.elapsed() < REMEMBERED => connected,
        _ => {
            let answer = tokio::time::timeout(TIMEOUT, app.database.query("SELECT 1", &[])).await;
            let connected = matches!(answer, Ok(Ok(_)));
            *last = Some((Instant::now(), connected));
            connected
        }
    }
}
