//! A run from login to report.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep_until, timeout};

use crate::client::Client;
use crate::outcome::{Cause, Outcome, Record};
use crate::plan::Plan;
use crate::proof;
use crate::report::{Report, WebSocketCut, WriteReport};
use crate::schedule::{Connection, Schedule, Shot};
use crate::shot::{Range, uuid};
use crate::tally::Tally;
use crate::websocket;

/// Requests waiting at the same time; past that they count as failed without being sent.
const MOST_IN_FLIGHT: u32 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no address to send to; name one with --api")]
    NoAddress,
    #[error("log in at {target} as `{username}`: {}", cause.detail())]
    Login { target: String, username: String, cause: Cause },
}

/// A run under way.
struct Run {
    plan: Plan,
    range: Range,
    tally: Tally,
    started: Instant,
    started_unix_ms: u64,
    /// Shots due so far.
    due: AtomicU64,
    in_flight: Arc<Semaphore>,
}

/// Sends until the plan's duration is over or `stop` completes, waits for what is in flight, and
/// asks the database.
pub async fn run(plan: Plan, stop: impl Future<Output = ()>) -> Result<Report, Error> {
    let name = format!("load-{}", &uuid()[..8]);
    let token = log_in(&plan).await?;
    let run = Arc::new(Run {
        range: Range::new(&plan, token, name),
        tally: Tally::default(),
        started: Instant::now(),
        started_unix_ms: unix_ms(),
        due: AtomicU64::new(0),
        in_flight: Arc::new(Semaphore::new(MOST_IN_FLIGHT as usize)),
        plan,
    });
    let (stopping, stopped) = watch::channel(false);
    let mut websockets = JoinSet::new();
    for slot in 0..run.plan.websockets {
        websockets.spawn(run.clone().keep_websocket(slot, stopped.clone()));
    }
    let observer = tokio::spawn(run.clone().observe());

    let duration = run.plan.duration.unwrap_or(Duration::MAX);
    tokio::select! {
        () = run.clone().dispatch(duration) => {}
        () = stop => {}
    }
    let sending = run.started.elapsed();
    stopping.send_replace(true);
    run.settle(&mut websockets).await;
    observer.abort();

    let mut report = run.report(sending);
    report.complete = true;
    if let Some(database) = &run.plan.database {
        let verdict = proof::ask(database, &run.range.ledger.writes()).await;
        report.writes.prove(verdict.map_err(|error| error.to_string()));
    }
    Ok(report)
}

impl Run {
    /// Fires every shot when it is due. When this process itself was held up, shots are late, and
    /// their latency says so.
    async fn dispatch(self: Arc<Run>, duration: Duration) {
        let plan = &self.plan;
        let schedule = Schedule::new(plan.rate, plan.slow_rate, !plan.frontend.is_empty());
        for shot in schedule.take_while(|shot| shot.due < duration) {
            sleep_until((self.started + shot.due).into()).await;
            self.due.fetch_add(1, Ordering::Relaxed);
            match self.in_flight.clone().try_acquire_owned() {
                Ok(permit) => {
                    let run = self.clone();
                    tokio::spawn(async move {
                        run.fire(shot).await;
                        drop(permit);
                    });
                }
                Err(_) => self.skip(shot),
            }
        }
    }

    async fn fire(&self, shot: Shot) {
        let hit = self.range.fire(shot).await;
        self.tally.record(Record {
            kind: hit.kind,
            connection: shot.connection,
            outcome: hit.outcome,
            request_id: hit.request_id,
            entry: hit.entry,
            instance: hit.instance,
            version: hit.version,
            unix_ms: self.unix_ms_of(shot),
            latency: self.started.elapsed().saturating_sub(shot.due),
        });
    }

    fn skip(&self, shot: Shot) {
        self.tally.record(Record {
            kind: shot.kind,
            connection: shot.connection,
            outcome: Outcome::Failed(Cause::Unsent),
            request_id: format!("{}-{}", self.range.run, shot.number),
            entry: String::new(),
            instance: None,
            version: None,
            unix_ms: self.unix_ms_of(shot),
            latency: Duration::ZERO,
        });
    }

    fn unix_ms_of(&self, shot: Shot) -> u64 {
        self.started_unix_ms + shot.due.as_millis() as u64
    }

    /// One WebSocket after the other until told to stop; the first ones start spread over a life.
    async fn keep_websocket(self: Arc<Run>, slot: usize, mut stopped: watch::Receiver<bool>) {
        let life = self.plan.websocket_life;
        let most = u32::try_from(self.plan.websockets.max(1)).unwrap_or(u32::MAX);
        let spread = life / most * u32::try_from(slot).unwrap_or(0);
        let mut pause = spread;
        for generation in 0_u64.. {
            let is_over = async { stopped.wait_for(|stopped| *stopped).await.is_ok() };
            if timeout(pause, is_over).await.is_ok() {
                return;
            }
            let id = format!("{}-ws{slot}-{generation}", self.range.run);
            self.tally.websocket(|w| w.open += 1);
            let began = Instant::now();
            // Sockets with neighbouring numbers go to different addresses, and move on with each.
            let number = slot as u64 + generation;
            let target = self.plan.left.choose(&self.plan.api, number, |t| t.address.ip());
            let Some(target) = target else { return };
            let end = websocket::live(target, &id, life).await;
            // A server that cuts at once is not asked a thousand times a second.
            pause = if end.cut.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
            self.tally.websocket(|w| {
                w.open -= 1;
                w.ended += 1;
                w.messages += end.messages;
                match end.cut {
                    None => w.ok += 1,
                    Some(detail) => w.add_cut(WebSocketCut {
                        id,
                        detail,
                        entry: target.authority.clone(),
                        unix_ms: unix_ms(),
                        after_ms: began.elapsed().as_secs_f64() * 1000.0,
                        instance: end.instance,
                    }),
                }
            });
        }
    }

    /// Waits for every request and WebSocket; each has a deadline of its own, so this ends.
    async fn settle(&self, websockets: &mut JoinSet<()>) {
        let longest = self.plan.timeout + self.plan.websocket_life + Duration::from_secs(20);
        let _ = timeout(longest, async {
            let _ = self.in_flight.acquire_many(MOST_IN_FLIGHT).await;
            while websockets.join_next().await.is_some() {}
        })
        .await;
    }

    /// Once a second: the progress line and the snapshot.
    async fn observe(self: Arc<Run>) {
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            every_second.tick().await;
            if self.plan.progress {
                eprintln!("{}", self.progress());
            }
            if let Some(path) = &self.plan.snapshot
                && let Err(error) = self.report(self.started.elapsed()).write(path)
            {
                eprintln!("write the snapshot `{}`: {error}", path.display());
            }
        }
    }

    fn progress(&self) -> String {
        let brief = self.tally.brief();
        let seconds = self.started.elapsed().as_secs_f64();
        format!(
            "{seconds:6.1} s  {} requests  {} ok  {} failed  {} cut  {} in flight  \
             p99 {:.1} ms  {} websockets open  {} cut",
            brief.requests,
            brief.ok,
            brief.failed,
            brief.cut,
            self.due.load(Ordering::Relaxed).saturating_sub(brief.requests),
            brief.latency.p99_ms,
            brief.websockets_open,
            brief.websockets_cut,
        )
    }

    fn report(&self, sending: Duration) -> Report {
        let counts = self.tally.counts();
        let writes = self.range.ledger.counts();
        let due = self.due.load(Ordering::Relaxed);
        Report {
            complete: false,
            started_unix_ms: self.started_unix_ms,
            unix_ms: unix_ms(),
            seconds: self.started.elapsed().as_secs_f64(),
            requests: counts.requests,
            ok: counts.ok,
            failed: counts.failed,
            cut_requests: counts.cut,
            in_flight: due.saturating_sub(counts.requests),
            writes: WriteReport {
                acknowledged_writes: writes.acknowledged,
                unacknowledged_writes: writes.unacknowledged,
                refused_writes: writes.refused,
                ..WriteReport::default()
            },
            websockets: counts.websockets.ended,
            websockets_open: counts.websockets.open,
            websockets_cut: counts.websockets.cut,
            websocket_messages: counts.websockets.messages,
            latency: counts.latency(),
            rate_wanted: self.plan.rate,
            rate_achieved: due as f64 / sending.as_secs_f64().max(0.001),
            by_kind: counts.by_kind(),
            versions: counts.versions,
            cut: counts.cuts,
            failures: counts.failures,
            failed_by_cause: counts.failed_by_cause,
            websocket_cuts: counts.websockets.cuts,
        }
    }
}

/// The token every request of the run carries; the login is not counted as a request.
async fn log_in(plan: &Plan) -> Result<String, Error> {
    let target = plan.api.first().ok_or(Error::NoAddress)?;
    let failed =
        |cause| Error::Login { target: target.to_string(), username: plan.username.clone(), cause };
    let body = serde_json::json!({ "username": plan.username, "password": plan.password });
    let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/api/login");
    if let Ok(host) = target.authority.parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    let client = Client::new(target.clone(), 0);
    let answer = timeout(plan.timeout, client.send(request, Connection::Fresh)).await;
    let answer = answer.unwrap_or(Err(Cause::Timeout)).map_err(failed)?;
    if answer.status != 200 {
        return Err(failed(Cause::Status(answer.status.as_u16())));
    }
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let token = json["token"].as_str().map(str::to_owned);
    token.ok_or_else(|| failed(Cause::Content("the answer has no token".to_owned())))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
