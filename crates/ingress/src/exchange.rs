//! One request: pick an endpoint, send it, pass the answer on. Sent again only where that cannot
//! make it happen twice.
//!
//! ```text
//! nothing was written            any request may go to another endpoint
//! written, no byte came back     one that is idempotent and has no body may; others are lost: the
//!                                client gets a 502 that names the task
//! the answer had begun           it ends short, and the client sees that
//! ```

use std::{
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    time::timeout,
};

use crate::{
    buffer::Buffer,
    client::{After, Client},
    endpoint::{Endpoint, InFlight, State},
    message::request::Asked,
    page::Page,
    pool::{Check, Key},
    reach,
    relay::{self, Broken, Passed},
    stats::Failure,
    table::{self, Route},
    worker::Worker,
};

/// How long a request waits for an endpoint when none is ready, and how many may wait.
const HOLD: Duration = Duration::from_secs(5);
const HOLDING: usize = 2000;
/// Endpoints that are tried for one request.
const ATTEMPTS: usize = 4;
/// A body that came with its head goes on with it, up to this size.
const WITH_HEAD: usize = 16 * 1024;

/// A request that nobody answered.
struct Lost {
    why: Failure,
    status: StatusCode,
    endpoint: Option<Arc<Endpoint>>,
}

impl Lost {
    fn new(why: Failure, endpoint: Option<Arc<Endpoint>>) -> Self {
        let status = match why {
            Failure::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Connect | Failure::Cut => StatusCode::BAD_GATEWAY,
            Failure::Client => StatusCode::BAD_REQUEST,
        };
        Self { why, status, endpoint }
    }
}

/// Answers one request of a client. `head` is what the endpoint gets.
pub(crate) async fn answer(
    worker: &Rc<Worker>,
    port: u16,
    client: &mut Client,
    mut asked: Asked,
    head: &mut Vec<u8>,
) -> After {
    let id = asked.id.clone();
    let Some(route) = worker.table.route(port) else {
        let lost = Lost::new(Failure::NoEndpoint, None);
        return no_answer(client, &asked, &head[id], &lost).await;
    };
    let pool = worker.table.pool(&route.service);
    let started = Instant::now();
    let outcome = send(worker, &route, &pool, client, &mut asked, head, started).await;
    match outcome {
        Ok(after) => after,
        Err(lost) => {
            match &lost.endpoint {
                Some(endpoint) => endpoint.counters.failed(lost.why),
                None => pool.counters.failed(lost.why),
            }
            no_answer(client, &asked, &head[id], &lost).await
        }
    }
}

/// A request that could not be read is counted where its port leads.
pub(crate) fn count_refused(worker: &Worker, port: u16) {
    if let Some(route) = worker.table.route(port) {
        worker.table.pool(&route.service).counters.failed(Failure::Client);
    }
}

/// Sends the request to one endpoint after the other, as long as none had it in its hands.
async fn send(
    worker: &Rc<Worker>,
    route: &Route,
    pool: &table::Pool,
    client: &mut Client,
    asked: &mut Asked,
    head: &mut Vec<u8>,
    started: Instant,
) -> Result<After, Lost> {
    let may_repeat = asked.is_idempotent && asked.framing.is_over() && !asked.upgrades;
    add_body(client, asked, head)?;
    let mut tried: Vec<u64> = Vec::new();
    let mut why = Failure::NoEndpoint;
    for attempt in 0..ATTEMPTS {
        let Some(in_flight) = enter(pool, &tried, !may_repeat, attempt == 0).await else { break };
        let endpoint = Arc::clone(in_flight.endpoint());
        if endpoint.address(route.target_port).is_none() {
            break;
        }
        if attempt > 0 {
            endpoint.counters.retried();
        }
        let check = if may_repeat { Check::Cheap } else { Check::Now };
        let key = Key::new(&endpoint, route.target_port);
        let mut connection = match worker.pool.kept(key, check, worker.now()) {
            Some(kept) => kept,
            None => match reach::connect(&worker.peers, &endpoint, route.target_port).await {
                Ok(new) => new,
                Err(_) => {
                    worker.suspect(&endpoint);
                    tried.push(endpoint.number);
                    why = Failure::Connect;
                    continue;
                }
            },
        };
        client.visitor.talks_with(endpoint.number);
        let mut buffer = Buffer::new(&worker.spare);
        let mut out = worker.spare.text();
        let stream = &mut connection.stream;
        let mut between = Between { stream, buffer: &mut buffer, out: &mut out };
        let passed = talk(client, asked, head, &mut between, &endpoint, started).await;
        worker.spare.put_text(out);
        match passed {
            Ok(passed) if passed.is_switch => {
                switch(client, &mut connection.stream, &buffer, in_flight).await;
                return Ok(After::Close);
            }
            Ok(passed) => {
                if passed.endpoint_keeps && endpoint.state() < State::Draining {
                    worker.pool.put(key, connection, worker.now());
                } else if asked.framing.is_over() {
                    connection.done();
                }
                return Ok(match (asked.framing.is_over(), passed.client_keeps) {
                    (true, true) => After::Again,
                    (true, false) => After::Close,
                    (false, _) => After::Linger,
                });
            }
            // Other kept connections are no better than this one.
            Err(Broken::Unsent) => worker.pool.flush(endpoint.number),
            Err(Broken::NoAnswer) if may_repeat => worker.pool.flush(endpoint.number),
            Err(Broken::NoAnswer | Broken::Garbled) => {
                return Err(Lost::new(Failure::Cut, Some(endpoint)));
            }
            Err(Broken::BadBody) => return Err(Lost::new(Failure::Client, Some(endpoint))),
            Err(Broken::CutShort { is_hidden }) => {
                endpoint.counters.broke(Failure::Cut);
                if is_hidden {
                    // Only a reset tells this client that there should have been more.
                    let _ = client.stream.set_zero_linger();
                }
                return Ok(After::Close);
            }
            Err(Broken::ClientGone) => {
                endpoint.counters.broke(Failure::Client);
                return Ok(After::Close);
            }
        }
        why = Failure::Connect;
    }
    Err(Lost::new(why, None))
}

/// What of the body came with the head goes on with it.
fn add_body(client: &mut Client, asked: &mut Asked, head: &mut Vec<u8>) -> Result<(), Lost> {
    if asked.framing.is_over() {
        return Ok(());
    }
    let came = client.buffer.filled();
    let came = &came[..came.len().min(WITH_HEAD)];
    let bad = |_| Lost::new(Failure::Client, None);
    let count = asked.framing.take(came).map_err(bad)?;
    head.extend_from_slice(&came[..count]);
    client.buffer.consume(count);
    Ok(())
}

/// The endpoint's side of an exchange, and what goes to the client.
struct Between<'a> {
    stream: &'a mut TcpStream,
    buffer: &'a mut Buffer,
    out: &'a mut Vec<u8>,
}

/// Writes the request and passes the answer on, while the rest of a body still goes out.
async fn talk(
    client: &mut Client,
    asked: &mut Asked,
    head: &[u8],
    between: &mut Between<'_>,
    endpoint: &Endpoint,
    started: Instant,
) -> Result<Passed, Broken> {
    let Between { stream, buffer, out } = between;
    relay::write_head(stream, head).await?;
    let (mut from_endpoint, mut to_endpoint) = stream.split();
    let (mut from_client, mut to_client) = client.stream.split();
    let mut framing = asked.framing.clone();
    if framing.is_over() {
        let answer = relay::Answering { asked, visitor: &client.visitor, endpoint, started };
        return answer.pass(&mut from_endpoint, buffer, &mut to_client, out).await;
    }
    if std::mem::take(&mut asked.expects_continue) && client.buffer.is_empty() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\n";
        to_client.write_all(text).await.map_err(|_| Broken::ClientGone)?;
    }
    let mut is_sent = false;
    let passed = {
        let answer = relay::Answering { asked, visitor: &client.visitor, endpoint, started };
        let mut passing = pin!(answer.pass(&mut from_endpoint, buffer, &mut to_client, out));
        let body =
            relay::body(&mut from_client, &mut client.buffer, &mut framing, &mut to_endpoint);
        let mut sending = pin!(body);
        let mut is_sending = true;
        loop {
            tokio::select! {
                biased;
                passed = &mut passing => break passed,
                sent = &mut sending, if is_sending => match sent {
                    Ok(()) => (is_sending, is_sent) = (false, true),
                    // It may have answered all the same.
                    Err(Broken::NoAnswer) => is_sending = false,
                    Err(broken) => break Err(broken),
                },
            }
        }
    };
    asked.framing = framing;
    // An answer before the end of the request leaves a connection that is of no more use.
    passed.map(|passed| Passed { endpoint_keeps: passed.endpoint_keeps && is_sent, ..passed })
}

/// An endpoint that takes the request now; waits a little when there is none.
async fn enter(
    pool: &table::Pool,
    tried: &[u64],
    needs_proof: bool,
    may_wait: bool,
) -> Option<InFlight> {
    if let Some(in_flight) = pool.pick(tried, needs_proof).and_then(|endpoint| endpoint.enter()) {
        return Some(in_flight);
    }
    if !may_wait || pool.holding.fetch_add(1, Ordering::SeqCst) >= HOLDING {
        if may_wait {
            pool.holding.fetch_sub(1, Ordering::SeqCst);
        }
        return pool.pick(&[], needs_proof).and_then(|endpoint| endpoint.enter());
    }
    let found = timeout(HOLD, async {
        loop {
            let changed = pool.changed.notified();
            if let Some(in_flight) =
                pool.pick(tried, needs_proof).and_then(|endpoint| endpoint.enter())
            {
                return in_flight;
            }
            // A state may change without the list changing: look again soon.
            let _ = timeout(Duration::from_millis(20), changed).await;
        }
    })
    .await;
    pool.holding.fetch_sub(1, Ordering::SeqCst);
    found.ok()
}

/// Both sides agreed on another protocol: bytes go both ways until one ends, or a drain cuts it.
async fn switch(
    client: &mut Client,
    stream: &mut TcpStream,
    from_endpoint: &Buffer,
    in_flight: InFlight,
) {
    let in_flight = in_flight.upgrade();
    let both = async {
        client.stream.write_all(from_endpoint.filled()).await?;
        stream.write_all(client.buffer.filled()).await?;
        client.buffer.consume(usize::MAX);
        client.buffer.rest();
        copy_bidirectional(&mut client.stream, stream).await
    };
    tokio::select! {
        both = both => {
            if both.is_err() {
                // What broke off must not look like the end.
                let _ = client.stream.set_zero_linger();
            }
        }
        () = in_flight.endpoint().is_cut() => {}
    }
}

async fn no_answer(client: &mut Client, asked: &Asked, id: &[u8], lost: &Lost) -> After {
    let is_read = asked.framing.is_over();
    let keeps = is_read && asked.keeps_alive && !asked.is_old && !client.visitor.ends();
    let cut_with = lost.endpoint.as_ref().filter(|_| lost.why == Failure::Cut);
    let page = Page {
        status: lost.status,
        why: "",
        is_json: asked.wants_json,
        is_head: asked.is_head,
        keeps,
        id: std::str::from_utf8(id).unwrap_or_default(),
        cut_with: cut_with.map_or("", |endpoint| &endpoint.about.task),
    };
    match client.stream.write_all(&page.render()).await {
        Ok(()) if keeps => After::Again,
        Ok(()) if is_read => After::Close,
        Ok(()) => After::Linger,
        Err(_) => After::Close,
    }
}
