//! Heads, as bytes in and bytes out.

use super::{
    framing::{Chunks, Framing},
    request::{self, Asked, Caller, Refusal},
    response::{self, Answer, Coding},
};

const ID: &[u8; 24] = b"0123456789abcdef01234567";

fn ask(text: &str) -> Result<Option<(Asked, String)>, Refusal> {
    let caller = Caller::new([192, 0, 2, 7].into());
    let mut out = Vec::new();
    let read = request::read(text.as_bytes(), &caller, || *ID, &mut out)?;
    Ok(read.map(|asked| (asked, String::from_utf8(out).expect("text"))))
}

fn asked(text: &str) -> (Asked, String) {
    ask(text).expect("understood").expect("whole")
}

fn answered(text: &str, to: &str) -> Option<(Answer, String)> {
    let mut out = Vec::new();
    let (asked, _) = asked(to);
    let answer = response::read(text.as_bytes(), &asked, true, &mut out).ok()??;
    Some((answer, String::from_utf8(out).expect("text")))
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn the_endpoint_is_told_who_asked_and_hop_headers_end_here() {
    let (asked, out) = asked(
        "GET /a?b HTTP/1.1\r\nHost: ala.example\r\nX-Forwarded-For: 10.0.0.1\r\nTE: trailers\r\n\
         Connection: keep-alive, x-private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n\
         Forwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nCookie: a=b\r\n\r\nrest",
    );
    assert_eq!(
        out,
        "GET /a?b HTTP/1.1\r\nHost: ala.example\r\nCookie: a=b\r\n\
         x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.7\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: ala.example\r\n\
         forwarded: for=10.0.0.1, for=192.0.2.7;proto=http;host=\"ala.example\"\r\n\
         x-request-id: 0123456789abcdef01234567\r\n\r\n"
    );
    assert_eq!(&out[asked.id.clone()], "0123456789abcdef01234567");
    assert!(asked.keeps_alive && asked.is_idempotent && asked.framing == Framing::NONE);
}

#[test]
fn a_usable_request_id_is_kept_and_another_is_replaced() {
    let with =
        |id: &str| asked(&format!("GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n\r\n"));
    let (seen, out) = with("from-the-client-1");
    assert_eq!(&out[seen.id], "from-the-client-1");
    for id in ["short", "with a space in it", &"x".repeat(129)] {
        let (seen, out) = with(id);
        assert_eq!(&out[seen.id], "0123456789abcdef01234567");
    }
}

#[test]
fn bodies_are_delimited_as_the_head_says() {
    let post = |headers: &str| asked(&format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
    assert_eq!(post("Content-Length: 12\r\n").0.framing, Framing::Length(12));
    let (asked, out) = post("Transfer-Encoding: Chunked\r\nExpect: 100-continue\r\n");
    assert_eq!(asked.framing, Framing::Chunked(Chunks::default()));
    assert!(asked.expects_continue && !asked.is_idempotent);
    assert!(out.contains("transfer-encoding: chunked\r\n") && !out.contains("xpect"), "{out}");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let cases = [
        (400, "Content-Length: 4\r\nContent-Length: 4\r\n"),
        (400, "Content-Length: 4, 4\r\n"),
        (400, "Content-Length: +4\r\n"),
        (400, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Content-Length: 99999999999999999999\r\n"),
        (400, "Content-Length : 4\r\n"),
        (400, "Host: y\r\n"),
        (400, "X: a\r\n folded\r\n"),
        (400, "X\0: a\r\n"),
        (501, "Transfer-Encoding: xchunked\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (501, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ];
    for (status, headers) in cases {
        let refusal = ask(&format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\nbody"));
        assert_eq!(refusal.map_err(|r| r.status.as_u16()), Err(status), "{headers:?}");
    }
    let cases = [
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, "\x16\x03\x01\x02\0\x01\0"),
        (400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (405, "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (505, "PRI * HTTP/2.0\r\n\r\n"),
    ];
    for (status, text) in cases {
        assert_eq!(ask(text).map_err(|r| r.status.as_u16()), Err(status), "{text:?}");
    }
    let many = "X: a\r\n".repeat(200);
    let refusal = ask(&format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"));
    assert_eq!(refusal, Err(Refusal::TOO_LARGE));
}

#[test]
fn only_another_protocol_than_http_is_switched_to() {
    let with = |to: &str| {
        let text =
            format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
        asked(&text)
    };
    let (asked, out) = with("websocket");
    assert!(asked.upgrades && out.contains("connection: upgrade\r\nupgrade: websocket\r\n"));
    let (asked, out) = with("h2c");
    assert!(!asked.upgrades && !out.contains("pgrade"), "{out}");
}

#[test]
fn the_client_s_wish_for_the_connection_is_heard() {
    let keeps = |text: &str| asked(text).0.keeps_alive;
    assert!(keeps(GET) && !keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"));
}

#[test]
fn an_answer_goes_on_without_the_headers_of_its_hop() {
    let (answer, out) = answered(
        "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
         Server: app\r\n\r\nok",
        GET,
    )
    .expect("whole");
    assert_eq!(out, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nServer: app\r\n\r\n");
    assert_eq!((answer.status, answer.framing), (201, Framing::Length(2)));
    assert!(!answer.endpoint_keeps && answer.client_keeps);
}

#[test]
fn the_end_of_an_answer_is_known_in_every_way_there_is() {
    let head = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n";
    let open = "HTTP/1.0 200 OK\r\n\r\n";
    let chunks = Framing::Chunked(Chunks::default());
    for (text, to, framing, coding, client_keeps) in [
        (chunked, GET, chunks.clone(), Coding::AsItIs, true),
        (chunked, old, chunks, Coding::Unchunk, false),
        (chunked, head, Framing::NONE, Coding::AsItIs, true),
        (open, GET, Framing::UntilClose, Coding::Chunk, true),
        (open, old, Framing::UntilClose, Coding::AsItIs, false),
        ("HTTP/1.1 204 No Content\r\n\r\n", GET, Framing::NONE, Coding::AsItIs, true),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", old, Framing::NONE, Coding::AsItIs, true),
    ] {
        let (answer, out) = answered(text, to).expect("whole");
        assert_eq!(
            (answer.framing, answer.coding),
            (framing.clone(), coding),
            "{text:?} to {to:?}"
        );
        assert_eq!(answer.client_keeps, client_keeps, "{text:?} to {to:?}");
        let has_length = out.contains("ontent-Length");
        assert!(!(has_length && matches!(framing, Framing::Chunked(_))), "{out}");
        assert_eq!(out.contains("connection: close"), !client_keeps, "{out}");
    }
}

#[test]
fn an_answer_that_is_none_is_not_passed_on() {
    for text in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        let (asked, _) = asked(GET);
        assert!(response::read(text.as_bytes(), &asked, true, &mut Vec::new()).is_err(), "{text}");
    }
    let (answer, out) = answered("HTTP/1.1 103 Early Hints\r\n\r\n", GET).expect("whole");
    assert_eq!((answer.status, out.as_str()), (103, ""));
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, a head is read as one message or refused; and what goes on reads the
        /// same again.
        #[test]
        fn a_head_reads_the_same_behind_the_ingress(
            lines in prop::collection::vec(
                prop::sample::select(vec![
                    "Content-Length: 3", "content-length: 0", "Transfer-Encoding: chunked",
                    "Connection: close", "Connection: x-a, upgrade", "X-A: 1", "Upgrade: ws",
                    "Expect: 100-continue", "X-Forwarded-For: ::1", "Accept: text/json", "Bad",
                    "Forwarded: for=_a", "Keep-Alive: 1", "Cookie: a\tb", "Host: b",
                ]),
                0..6,
            ),
            method in prop::sample::select(vec!["GET", "POST", "HEAD", "PUT", "G=T"]),
            end in prop::sample::select(vec!["\r\n", "\n"]),
        ) {
            let mut text = format!("{method} / HTTP/1.1{end}Host: x{end}");
            for line in lines {
                text.push_str(line);
                text.push_str(end);
            }
            text.push_str(end);
            if let Ok(Some((first, out))) = ask(&text) {
                let (second, _) = ask(&out).expect("understood again").expect("whole");
                prop_assert_eq!(second.head_len, out.len());
                prop_assert_eq!(first.framing, second.framing);
                prop_assert_eq!(first.upgrades, second.upgrades);
                prop_assert_eq!(first.is_idempotent, second.is_idempotent);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let caller = Caller::new([192, 0, 2, 7].into());
            let _ = request::read(&bytes, &caller, || *ID, &mut Vec::new());
            let (asked, _) = asked(GET);
            let _ = response::read(&bytes, &asked, true, &mut Vec::new());
        }
    }
}
