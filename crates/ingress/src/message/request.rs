//! The head of a request: read strictly, and written anew for the endpoint. Headers of one hop end
//! here, and the endpoint is told who asked.

use std::{mem::MaybeUninit, net::IpAddr, ops::Range};

use http::StatusCode;
use httparse::{Header, Status};

use super::{
    framing::{Chunks, Framing},
    name::{HEADERS_LIMIT, Kind, is_named, tokens},
};

/// A request id, in hexadecimal digits.
pub type Id = [u8; 24];

/// What the exchange needs to know of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Bytes of the head as it was read.
    pub head_len: usize,
    pub framing: Framing,
    pub is_head: bool,
    /// Asking twice has the effect of asking once (RFC 9110, section 9.2.2).
    pub is_idempotent: bool,
    /// HTTP/1.0: the answer cannot be chunked.
    pub is_old: bool,
    pub keeps_alive: bool,
    pub expects_continue: bool,
    pub upgrades: bool,
    pub wants_json: bool,
    /// Where the request's id stands in the head that was written.
    pub id: Range<usize>,
}

/// A request that nobody behind the ingress gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub why: &'static str,
}

impl Refusal {
    pub const TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        why: "The headers are too large.",
    };

    const fn bad(why: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why }
    }
}

/// Who asks, in the words of the headers that say so; made once per connection.
#[derive(Clone, Debug)]
pub struct Caller {
    address: String,
    element: String,
}

impl Caller {
    pub fn new(client: IpAddr) -> Self {
        let client = client.to_canonical();
        let element = match client {
            IpAddr::V4(v4) => format!("for={v4};proto=http"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto=http"),
        };
        Self { address: client.to_string(), element }
    }
}

/// Reads a head from the front of `bytes` and appends what the endpoint gets to `out`. `None` when
/// the head is not there as a whole.
pub fn read(
    bytes: &[u8],
    caller: &Caller,
    next_id: impl FnOnce() -> Id,
    out: &mut Vec<u8>,
) -> Result<Option<Asked>, Refusal> {
    let mut space = [const { MaybeUninit::<Header>::uninit() }; HEADERS_LIMIT];
    let mut head = httparse::Request::new(&mut []);
    let head_len = match head.parse_with_uninit_headers(bytes, &mut space) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TOO_LARGE),
        Err(httparse::Error::Version) => {
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            return Err(Refusal { status, why: "Only HTTP/1.1 is spoken here." });
        }
        Err(_) => return Err(Refusal::bad("The request cannot be read.")),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Ok(None);
    };
    if method == "CONNECT" {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal { status, why: "There is no tunnel here." });
    }
    let seen = Seen::of(head.headers)?;
    let is_old = version == 0;
    let framing = seen.framing(is_old)?;
    if seen.host.is_none() && !is_old {
        return Err(Refusal::bad("The Host header is missing."));
    }
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    pass_on(head.headers, &seen, out);
    if seen.host.is_none() {
        // HTTP/1.0 may leave it out, what goes on is HTTP/1.1 (RFC 9112, section 3.2).
        put(out, "host", b"");
    }
    let id = tell_on(&seen, caller, next_id, out);
    if seen.upgrades() {
        put(out, "connection", b"upgrade");
        put(out, "upgrade", seen.upgrade.unwrap_or_default());
    }
    if matches!(framing, Framing::Chunked(_)) {
        put(out, "transfer-encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Asked {
        head_len,
        framing,
        is_head: method == "HEAD",
        is_idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE"),
        is_old,
        keeps_alive: if is_old { seen.keeps } else { !seen.closes },
        expects_continue: seen.expects_continue && !is_old,
        upgrades: seen.upgrades(),
        wants_json: seen.wants_json,
        id,
    }))
}

/// What the headers say, the few that matter here.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    wants_upgrade: bool,
    upgrade: Option<&'a [u8]>,
    expects_continue: bool,
    wants_json: bool,
    /// `Connection` names headers that end here.
    names_others: bool,
    has_forwarded: bool,
    has_forwarded_for: bool,
    has_forwarded_host: bool,
    has_forwarded_proto: bool,
    id: Option<&'a [u8]>,
    all: &'a [Header<'a>],
}

impl<'a> Seen<'a> {
    fn of(headers: &'a [Header<'a>]) -> Result<Self, Refusal> {
        let mut seen = Self { all: headers, ..Self::default() };
        for header in headers {
            seen.note(header)?;
        }
        Ok(seen)
    }

    fn note(&mut self, header: &Header<'a>) -> Result<(), Refusal> {
        let value = header.value;
        match Kind::of(header.name) {
            Kind::Host if self.host.replace(value).is_some() => {
                return Err(Refusal::bad("There are two Host headers."));
            }
            Kind::ContentLength => {
                let length = super::length(value)
                    .ok_or(Refusal::bad("The Content-Length header is not a number."))?;
                if self.length.replace(length).is_some() {
                    return Err(Refusal::bad("There are two Content-Length headers."));
                }
            }
            Kind::TransferEncoding => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    let why = "Only the transfer coding \"chunked\" is understood.";
                    return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, why });
                }
                self.is_chunked = true;
            }
            Kind::Connection => {
                for token in tokens(value) {
                    match () {
                        () if token.eq_ignore_ascii_case(b"close") => self.closes = true,
                        () if token.eq_ignore_ascii_case(b"keep-alive") => self.keeps = true,
                        () if token.eq_ignore_ascii_case(b"upgrade") => self.wants_upgrade = true,
                        () => self.names_others = true,
                    }
                }
            }
            Kind::Upgrade => self.upgrade = Some(value),
            Kind::Expect => {
                self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            Kind::Accept => {
                self.wants_json |= value.windows(4).any(|part| part.eq_ignore_ascii_case(b"json"));
            }
            Kind::Forwarded => self.has_forwarded = true,
            Kind::ForwardedFor => self.has_forwarded_for = true,
            Kind::ForwardedHost => self.has_forwarded_host = true,
            Kind::ForwardedProto => self.has_forwarded_proto = true,
            Kind::RequestId => {
                self.id = Some(value).filter(|id| {
                    (8..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
                });
            }
            Kind::Host | Kind::OtherHop | Kind::Other => {}
        }
        Ok(())
    }

    fn framing(&self, is_old: bool) -> Result<Framing, Refusal> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => {
                Err(Refusal::bad("There are both Content-Length and Transfer-Encoding."))
            }
            (true, None) if is_old => Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding.")),
            (true, None) => Ok(Framing::Chunked(Chunks::default())),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }

    /// Another protocol is asked for. HTTP/2 without TLS would go past everything that is checked
    /// here, so that request is served as it is.
    fn upgrades(&self) -> bool {
        let is_h2c = |value: &[u8]| tokens(value).any(|token| token.eq_ignore_ascii_case(b"h2c"));
        self.wants_upgrade && self.upgrade.is_some_and(|value| !is_h2c(value))
    }

    fn values(&self, kind: Kind) -> impl Iterator<Item = &'a [u8]> {
        self.all.iter().filter(move |h| Kind::of(h.name) == kind).map(|header| header.value)
    }
}

/// Copies the headers that are meant for the endpoint.
fn pass_on(headers: &[Header<'_>], seen: &Seen<'_>, out: &mut Vec<u8>) {
    for header in headers {
        let is_ours = match Kind::of(header.name) {
            Kind::Connection
            | Kind::TransferEncoding
            | Kind::Upgrade
            | Kind::Expect
            | Kind::Forwarded
            | Kind::ForwardedFor
            | Kind::RequestId
            | Kind::OtherHop => true,
            Kind::Host
            | Kind::ContentLength
            | Kind::Accept
            | Kind::ForwardedHost
            | Kind::ForwardedProto => false,
            Kind::Other => {
                seen.names_others
                    && seen.values(Kind::Connection).any(|list| is_named(list, header.name))
            }
        };
        if !is_ours {
            put(out, header.name, header.value);
        }
    }
}

/// Tells the endpoint who asked, and gives the request an id unless it has a usable one.
fn tell_on(
    seen: &Seen<'_>,
    caller: &Caller,
    next_id: impl FnOnce() -> Id,
    out: &mut Vec<u8>,
) -> Range<usize> {
    out.extend_from_slice(b"x-forwarded-for: ");
    if seen.has_forwarded_for {
        chain(seen.values(Kind::ForwardedFor), out);
    }
    out.extend_from_slice(caller.address.as_bytes());
    if !seen.has_forwarded_proto {
        out.extend_from_slice(b"\r\nx-forwarded-proto: http");
    }
    if let (Some(host), false) = (seen.host, seen.has_forwarded_host) {
        out.extend_from_slice(b"\r\nx-forwarded-host: ");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(b"\r\nforwarded: ");
    if seen.has_forwarded {
        chain(seen.values(Kind::Forwarded), out);
    }
    out.extend_from_slice(caller.element.as_bytes());
    if let Some(host) = seen.host {
        out.extend_from_slice(b";host=\"");
        out.extend(host.iter().filter(|byte| !matches!(byte, b'"' | b'\\')));
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\nx-request-id: ");
    let start = out.len();
    match seen.id {
        Some(id) => out.extend_from_slice(id),
        None => out.extend_from_slice(&next_id()),
    }
    let id = start..out.len();
    out.extend_from_slice(b"\r\n");
    id
}

/// Earlier values of a list, each with the comma that follows it.
fn chain<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for value in values.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
