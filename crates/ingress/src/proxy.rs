//! One request: pick an endpoint, send it, pass the answer on. Retried only where that cannot make
//! it happen twice.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, time::timeout};

use crate::{
    endpoint::{Endpoint, InFlight, State},
    header::{CUT, REQUEST_ID, strip_hop, tell_on, upgrade_of},
    page::page,
    pool::{Connection, Pool},
    stats::Failure,
    table::{self, Route},
    worker::Worker,
};

/// How long a request waits for an endpoint when none is ready, and how many may wait.
const HOLD: Duration = Duration::from_secs(5);
const HOLDING: usize = 2000;
/// Endpoints that are tried for one request.
const ATTEMPTS: usize = 4;

/// The body on its way to an endpoint.
#[derive(Debug)]
pub enum RequestBody {
    Client(Incoming),
    Empty,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Client(body) => Pin::new(body).poll_frame(context),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

/// The answer's body on its way to the client. While it lives the request is in flight.
pub(crate) enum ResponseBody {
    Endpoint(Box<Relay>),
    Page(Option<Bytes>),
}

pub(crate) struct Relay {
    body: Incoming,
    connection: Option<Connection>,
    pool: Pool,
    address: SocketAddr,
    in_flight: InFlight,
}

impl Relay {
    /// The whole answer was read: the connection may be used again.
    fn is_over(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.in_flight.endpoint().state() < State::Draining
        {
            self.pool.put(self.address, connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Endpoint(relay) => {
                let polled = Pin::new(&mut relay.body).poll_frame(context);
                match &polled {
                    Poll::Ready(None) => relay.is_over(),
                    Poll::Ready(Some(Err(_))) => {
                        relay.in_flight.endpoint().counters.failed(Failure::Cut);
                        relay.connection = None;
                    }
                    Poll::Ready(Some(Ok(_))) if relay.body.is_end_stream() => relay.is_over(),
                    _ => {}
                }
                polled
            }
            Self::Page(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Endpoint(relay) => relay.body.is_end_stream(),
            Self::Page(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Endpoint(relay) => relay.body.size_hint(),
            Self::Page(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// Answers one request of a client.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    port: u16,
    client: IpAddr,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    let Some(route) = worker.table.route(port) else {
        return no_answer(StatusCode::SERVICE_UNAVAILABLE, &request, None);
    };
    let pool = worker.table.pool(&route.service);
    let upgrade = upgrade_of(request.headers());
    strip_hop(request.headers_mut());
    tell_on(&mut request, client, || worker.next_id());
    *request.version_mut() = Version::HTTP_11;
    let from_client = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    if let Some(protocol) = &upgrade {
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let outcome = send(&worker, &route, &pool, request, upgrade.is_some()).await;
    match outcome {
        Ok(sent) => {
            let status = sent.response.status();
            sent.in_flight.endpoint().counters.answered(status.as_u16(), started.elapsed());
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return switch(sent, from_client);
            }
            pass_on(&worker, sent)
        }
        Err(lost) => {
            let status = match lost.why {
                Failure::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
                Failure::Connect | Failure::Cut | Failure::Client => StatusCode::BAD_GATEWAY,
            };
            match &lost.endpoint {
                Some(endpoint) => endpoint.counters.failed(lost.why),
                None => pool.counters.failed(lost.why),
            }
            let task = lost.endpoint.filter(|_| lost.why == Failure::Cut);
            let asked = Request::from_parts(lost.head, ());
            no_answer(status, &asked, task.as_deref())
        }
    }
}

/// A request that an endpoint answered.
struct Sent {
    response: Response<Incoming>,
    connection: Connection,
    address: SocketAddr,
    in_flight: InFlight,
}

/// A request that nobody answered.
struct Lost {
    why: Failure,
    endpoint: Option<Arc<Endpoint>>,
    head: request::Parts,
}

/// Sends the request to one endpoint after the other, as long as none had it in its hands.
async fn send(
    worker: &Worker,
    route: &Route,
    pool: &table::Pool,
    request: Request<Incoming>,
    is_upgrade: bool,
) -> Result<Sent, Lost> {
    let (head, body) = request.into_parts();
    let may_repeat = is_idempotent(&head.method) && body.is_end_stream() && !is_upgrade;
    let spare = head.clone();
    let body = if body.is_end_stream() { RequestBody::Empty } else { RequestBody::Client(body) };
    let mut request = Request::from_parts(head, body);
    let mut tried: Vec<String> = Vec::new();
    let mut why = Failure::NoEndpoint;
    for attempt in 0..ATTEMPTS {
        let Some(in_flight) = enter(pool, &tried, !may_repeat, attempt == 0).await else { break };
        let endpoint = Arc::clone(in_flight.endpoint());
        let Some(address) = endpoint.address(route.target_port) else { break };
        if attempt > 0 {
            endpoint.counters.retried();
        }
        let mut connection = match worker.pool.get(address).await {
            Ok((connection, _)) => connection,
            Err(_) => {
                worker.suspect(&endpoint);
                tried.push(endpoint.about.task.clone());
                why = Failure::Connect;
                continue;
            }
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok(Sent { response, connection, address, in_flight }),
            Err(mut error) => {
                let unsent = error.take_message();
                let is_client = unsent.is_none() && error.error().is_user();
                if is_client {
                    return Err(Lost { why: Failure::Client, endpoint: None, head: spare });
                }
                match unsent {
                    // Nothing of it was written.
                    Some(same) => request = same,
                    None if may_repeat => {
                        request = Request::from_parts(spare.clone(), RequestBody::Empty);
                    }
                    None => {
                        let endpoint = Some(endpoint);
                        return Err(Lost { why: Failure::Cut, endpoint, head: spare });
                    }
                }
                why = Failure::Connect;
            }
        }
    }
    Err(Lost { why, endpoint: None, head: spare })
}

/// An endpoint that takes the request now; waits a little when there is none.
async fn enter(
    pool: &table::Pool,
    tried: &[String],
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

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

fn pass_on(worker: &Worker, sent: Sent) -> Response<ResponseBody> {
    let (mut head, body) = sent.response.into_parts();
    strip_hop(&mut head.headers);
    let mut relay = Box::new(Relay {
        body,
        connection: Some(sent.connection),
        pool: worker.pool.clone(),
        address: sent.address,
        in_flight: sent.in_flight,
    });
    if relay.body.is_end_stream() {
        relay.is_over();
    }
    Response::from_parts(head, ResponseBody::Endpoint(relay))
}

/// Both sides agreed on another protocol: bytes go both ways until one ends, or a drain cuts it.
fn switch(sent: Sent, from_client: Option<hyper::upgrade::OnUpgrade>) -> Response<ResponseBody> {
    let mut response = sent.response;
    let in_flight = sent.in_flight.upgrade();
    let from_endpoint = hyper::upgrade::on(&mut response);
    let connection = sent.connection;
    if let Some(from_client) = from_client {
        tokio::task::spawn_local(async move {
            let Ok((client, endpoint)) =
                futures_util::future::try_join(from_client, from_endpoint).await
            else {
                return;
            };
            let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
            let mut cut = in_flight.endpoint().cut.subscribe();
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut endpoint) => {}
                () = async { drop(cut.wait_for(|is_cut| *is_cut).await) } => {}
            }
            drop(connection);
            drop(in_flight);
        });
    }
    let (head, _) = response.into_parts();
    Response::from_parts(head, ResponseBody::Page(None))
}

fn no_answer<B>(
    status: StatusCode,
    request: &Request<B>,
    cut_with: Option<&Endpoint>,
) -> Response<ResponseBody> {
    let mut response = page(status, request.headers()).map(|body| ResponseBody::Page(Some(body)));
    let headers = response.headers_mut();
    if let Some(id) = request.headers().get(&REQUEST_ID) {
        headers.insert(REQUEST_ID, id.clone());
    }
    if let Some(value) = cut_with.and_then(|e| HeaderValue::from_str(&e.about.task).ok()) {
        headers.insert(CUT, value);
    }
    response
}
