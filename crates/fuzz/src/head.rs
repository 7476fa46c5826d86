//! HTTP/1.1 in the ingress: heads of requests and answers, chunked bodies. The first byte says
//! which, the second where the bytes are cut.
//!
//! What goes on to the endpoint is also read by an implementation that is not ours: the two must
//! not disagree on where a request ends.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ingress::message::{
    framing::{Chunks, Framing, Malformed},
    request::{self, Asked, Caller, Refusal},
    response,
};
use tokio::{io::AsyncWriteExt, runtime::Runtime};

const ID: &[u8; 24] = b"0123456789abcdef01234567";

pub fn run(data: &[u8]) {
    let [kind, cut, rest @ ..] = data else { return };
    match kind {
        b'q' => asked(rest, usize::from(*cut)),
        b'r' => answered(rest, usize::from(*cut)),
        b'c' => chunks(rest, usize::from(*cut).max(1)),
        _ => {}
    }
}

fn read(bytes: &[u8]) -> Result<Option<(Asked, Vec<u8>)>, Refusal> {
    let mut out = Vec::new();
    let caller = Caller::new([192, 0, 2, 7].into());
    let asked = request::read(bytes, &caller, || *ID, &mut out)?;
    Ok(asked.map(|asked| (asked, out)))
}

fn asked(bytes: &[u8], cut: usize) {
    let Ok(Some((asked, out))) = read(bytes) else { return };
    let cut = cut.min(asked.head_len - 1);
    assert_eq!(read(&bytes[..cut]), Ok(None), "a part of a head is no head");
    assert!(out.get(asked.id.clone()).is_some(), "the id is elsewhere");
    let again = match read(&out) {
        // With the headers of our own hop it has more than a client may send.
        Err(refusal) if refusal.status == 431 => return one_length(&out),
        again => again.expect("our own head").expect("whole").0,
    };
    assert_eq!(again.head_len, out.len(), "a second request in the head");
    assert_eq!(again.framing, asked.framing);
    assert_eq!(again.upgrades, asked.upgrades);
    one_length(&out);
    let body = &bytes[asked.head_len..];
    let Some((content, taken)) = content(asked.framing.clone(), body, body.len().max(1)) else {
        return;
    };
    let message = [&out, &body[..taken], b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
    let seen = elsewhere(message);
    if let Some((_, first)) = seen.first() {
        assert_eq!(*first, content, "the endpoint reads another body");
        let rest: Vec<&str> = seen[1..].iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(rest, ["/second"], "the endpoint reads other requests");
    }
}

/// The body's content and how many bytes it is, if it comes to its end.
fn content(mut framing: Framing, bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut taken) = (Vec::new(), 0);
    for mut part in bytes.chunks(step) {
        while let Ok(Some(piece)) = framing.next(part) {
            assert!(piece.len > 0 && piece.len <= part.len(), "no progress");
            if piece.is_content {
                content.extend_from_slice(&part[..piece.len]);
            }
            taken += piece.len;
            part = &part[piece.len..];
        }
    }
    framing.is_over().then_some((content, taken))
}

/// One opinion of where the body ends, not two.
fn one_length(head: &[u8]) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let count = |name: &str| text.split("\r\n").filter(|line| line.starts_with(name)).count();
    let (lengths, codings) = (count("content-length:"), count("transfer-encoding:"));
    assert!(lengths + codings <= 1, "{text}");
}

/// The requests that hyper reads from these bytes: path and body.
fn elsewhere(message: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME
        .get_or_init(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    runtime.block_on(async move {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        near.write_all(&message).await.expect("fits");
        near.shutdown().await.expect("ends");
        let service = service_fn(move |request: Request<Incoming>| {
            let noted = Arc::clone(&noted);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await;
                let body = body.map(|body| body.to_bytes().to_vec());
                if let Ok(body) = body {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
                }
                Ok::<_, Infallible>(Response::new(Full::<hyper::body::Bytes>::default()))
            }
        });
        let mut http = http1::Builder::new();
        http.half_close(true);
        let _ = http.serve_connection(TokioIo::new(far), service).await;
    });
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *seen)
}

fn answered(bytes: &[u8], cut: usize) {
    const TO: [&str; 4] = [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    let (asked, _) = read(TO[cut % 4].as_bytes()).expect("fine").expect("whole");
    let read = |bytes: &[u8]| {
        let mut out = Vec::new();
        response::read(bytes, &asked, true, &mut out).map(|answer| Some((answer?, out)))
    };
    let Ok(Some((answer, out))) = read(bytes) else { return };
    let cut = cut.min(answer.head_len - 1);
    assert_eq!(read(&bytes[..cut]), Ok(None), "a part of a head is no head");
    if out.is_empty() {
        assert!(answer.status < 200, "nothing to pass on");
        return;
    }
    one_length(&out);
    let head = read(&out).expect("our own head").expect("whole").0;
    assert_eq!((head.status, head.head_len), (answer.status, out.len()));
    if answer.client_keeps && !asked.is_head && answer.status >= 200 {
        assert_ne!(head.framing, Framing::UntilClose, "kept, and without an end");
    }
}

fn chunks(bytes: &[u8], step: usize) {
    let read = |step: usize| -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut framing = Framing::Chunked(Chunks::default());
        let (mut content, mut taken) = (Vec::new(), 0);
        for mut part in bytes.chunks(step) {
            while let Some(piece) = framing.next(part)? {
                if piece.is_content {
                    content.extend_from_slice(&part[..piece.len]);
                }
                taken += piece.len;
                part = &part[piece.len..];
            }
        }
        Ok((content, taken, framing.is_over()))
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(step), "in pieces of {step}");
    if let Ok((content, taken, true)) = whole {
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let seen = elsewhere([head, &bytes[..taken]].concat());
        if let Some((_, body)) = seen.first() {
            assert_eq!(*body, content, "the endpoint reads another body");
        }
    }
}
