//! The head of a response: read from the endpoint, and written anew for the client.

use std::mem::MaybeUninit;

use http::StatusCode;
use httparse::{Header, Status};

use super::{
    framing::{Chunks, Framing, Malformed},
    name::{HEADERS_LIMIT, Kind, is_named, tokens},
    request::Asked,
};

/// What the exchange needs to know of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Bytes of the head as it was read.
    pub head_len: usize,
    pub framing: Framing,
    pub coding: Coding,
    /// The endpoint's connection may be used again once the body is over.
    pub endpoint_keeps: bool,
    /// So may the client's.
    pub client_keeps: bool,
}

/// How the body goes on to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    AsItIs,
    /// Its end is only known by the close: chunks tell the client where it is.
    Chunk,
    /// An HTTP/1.0 client does not know chunks: the close tells it.
    Unchunk,
}

/// Reads a head from the front of `bytes` and appends what the client gets to `out`; nothing for an
/// interim response (1xx other than 101). `None` when the head is not there as a whole.
pub fn read(
    bytes: &[u8],
    asked: &Asked,
    may_keep: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Answer>, Malformed> {
    let mut space = [const { MaybeUninit::<Header>::uninit() }; HEADERS_LIMIT];
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut head, bytes, &mut space);
    let Status::Complete(head_len) = parsed.map_err(|_| Malformed)? else { return Ok(None) };
    let (Some(status), Some(version)) = (head.code, head.version) else { return Err(Malformed) };
    let seen = Seen::of(head.headers)?;
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
    if is_switch && !asked.upgrades {
        return Err(Malformed);
    }
    let framing = seen.framing(status, asked);
    let is_interim = status < 200 && !is_switch;
    let coding = match &framing {
        Framing::UntilClose if !asked.is_old => Coding::Chunk,
        Framing::Chunked(_) if asked.is_old => Coding::Unchunk,
        _ => Coding::AsItIs,
    };
    let ends_with_close = coding == Coding::Unchunk
        || (framing == Framing::UntilClose && coding == Coding::AsItIs)
        || is_switch;
    let endpoint_keeps = framing != Framing::UntilClose
        && !is_switch
        && if version == 0 { seen.keeps } else { !seen.closes };
    let client_keeps = may_keep && asked.keeps_alive && !ends_with_close;
    if !is_interim {
        start(status, head.reason.unwrap_or_default(), out);
        pass_on(head.headers, &seen, is_switch, &framing, out);
        finish(asked, &framing, coding, client_keeps, is_switch, out);
    }
    let answer = Answer { status, head_len, framing, coding, endpoint_keeps, client_keeps };
    Ok(Some(answer))
}

#[derive(Default)]
struct Seen<'a> {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    names_others: bool,
    all: &'a [Header<'a>],
}

impl<'a> Seen<'a> {
    fn of(headers: &'a [Header<'a>]) -> Result<Self, Malformed> {
        let mut seen = Self { all: headers, ..Self::default() };
        for header in headers {
            match Kind::of(header.name) {
                Kind::ContentLength => {
                    let length = super::length(header.value).ok_or(Malformed)?;
                    if seen.length.replace(length).is_some_and(|earlier| earlier != length) {
                        return Err(Malformed);
                    }
                }
                Kind::TransferEncoding => {
                    if seen.is_chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed);
                    }
                    seen.is_chunked = true;
                }
                Kind::Connection => {
                    for token in tokens(header.value) {
                        match () {
                            () if token.eq_ignore_ascii_case(b"close") => seen.closes = true,
                            () if token.eq_ignore_ascii_case(b"keep-alive") => seen.keeps = true,
                            () if token.eq_ignore_ascii_case(b"upgrade") => {}
                            () => seen.names_others = true,
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    /// RFC 9112, section 6.3.
    fn framing(&self, status: u16, asked: &Asked) -> Framing {
        match (self.is_chunked, self.length) {
            _ if asked.is_head || status < 200 || matches!(status, 204 | 304) => Framing::NONE,
            (true, _) => Framing::Chunked(Chunks::default()),
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        }
    }
}

fn start(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digits = [status / 100, status / 10 % 10, status % 10];
    out.extend(digits.map(|digit| b'0' + u8::try_from(digit % 10).unwrap_or(0)));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn pass_on(
    headers: &[Header<'_>],
    seen: &Seen<'_>,
    is_switch: bool,
    framing: &Framing,
    out: &mut Vec<u8>,
) {
    let connections = || seen.all.iter().filter(|h| Kind::of(h.name) == Kind::Connection);
    let mut has_length = false;
    for header in headers {
        let is_kept = match Kind::of(header.name) {
            Kind::Connection | Kind::TransferEncoding | Kind::OtherHop => false,
            Kind::Upgrade => is_switch,
            // With chunks a length would be a second opinion; the same one twice is said once.
            Kind::ContentLength => {
                let is_first = !std::mem::replace(&mut has_length, true);
                is_first && !matches!(framing, Framing::Chunked(_))
            }
            _ => !(seen.names_others && connections().any(|c| is_named(c.value, header.name))),
        };
        if is_kept {
            out.extend_from_slice(header.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Headers of the client's hop, and the end of the head.
fn finish(
    asked: &Asked,
    framing: &Framing,
    coding: Coding,
    client_keeps: bool,
    is_switch: bool,
    out: &mut Vec<u8>,
) {
    let is_chunked = coding == Coding::Chunk
        || (coding == Coding::AsItIs && matches!(framing, Framing::Chunked(_)));
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    let connection: &[u8] = match (is_switch, client_keeps) {
        (true, _) => b"connection: upgrade\r\n",
        (false, false) => b"connection: close\r\n",
        (false, true) if asked.is_old => b"connection: keep-alive\r\n",
        (false, true) => b"",
    };
    out.extend_from_slice(connection);
    out.extend_from_slice(b"\r\n");
}
