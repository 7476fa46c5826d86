//! HTTP/1.1 through a running ingress, in all the ways in which bodies come and connections end.
//! The backend plays a script; the client speaks bytes.

#[path = "traffic/stage.rs"]
#[expect(dead_code, reason = "the other half is used by `traffic`")]
mod stage;

use std::{future::Future, time::Duration};

use ingress::{
    control::{Command, Drain, Event},
    endpoint::Description,
};
use stage::Stage;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes a backend that treats each of its connections with `script`.
async fn behind<S, F>(stage: &mut Stage, script: S)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    let endpoint = Description {
        task: "t".to_owned(),
        task_name: "s.1.t".to_owned(),
        service: "s".to_owned(),
        release: String::new(),
        addresses: vec![(80, address)],
        probation_ms: 0,
        peer: None,
        probe: None,
    };
    stage.tell(Command::Publish { endpoint }).await;
    assert_eq!(stage.next().await, Event::Published { task: "t".to_owned() });
}

async fn connect(stage: &Stage) -> TcpStream {
    TcpStream::connect(("127.0.0.1", stage.port)).await.expect("connected")
}

/// Reads until `end` has come; what came after it is kept for nobody.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(end) {
            let byte = stream.read_u8().await.expect("more comes");
            bytes.push(byte);
        }
    };
    if timeout(PATIENCE, reading).await.is_err() {
        panic!("still waiting after {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).expect("text")
}

async fn read_to_end(mut stream: TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("in time")?;
    Ok(text)
}

/// Reads a head, and answers with these bytes.
async fn answers(mut stream: TcpStream, bytes: &[u8]) {
    read_until(&mut stream, b"\r\n\r\n").await;
    stream.write_all(bytes).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_order_over_one_connection() {
    let mut stage = Stage::new().await;
    behind(&mut stage, async |mut stream| {
        loop {
            let head = read_until(&mut stream, b"\r\n\r\n").await;
            let path = head.split(' ').nth(1).expect("a target").to_owned();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            stream.write_all(text.as_bytes()).await.expect("written");
        }
    })
    .await;
    let mut client = connect(&stage).await;
    let all: String =
        (1..=20).map(|number| format!("GET /{number:03} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.write_all(all.as_bytes()).await.expect("written");
    for number in 1..=20 {
        let wanted = format!("\r\n\r\n/{number:03}");
        read_until(&mut client, wanted.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_goes_through_whole_in_both_codings() {
    let mut stage = Stage::new().await;
    behind(&mut stage, async |mut stream| {
        // Sends back what comes after the head, in the coding that it came in.
        let head = read_until(&mut stream, b"\r\n\r\n").await.to_lowercase();
        let header = head.lines().find(|line| {
            line.starts_with("content-length") || line.starts_with("transfer-encoding")
        });
        let header = header.expect("a body");
        let start = format!("HTTP/1.1 200 OK\r\n{header}\r\nConnection: close\r\n\r\n");
        stream.write_all(start.as_bytes()).await.expect("written");
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let content: String = (0..300_000).map(|number| format!("{number:>10}")).collect();
    let length = content.len();
    let chunked: String = content.as_bytes().chunks(70_001).fold(String::new(), |text, chunk| {
        let chunk = std::str::from_utf8(chunk).expect("text");
        text + &format!("{:x};ext=1\r\n{chunk}\r\n", chunk.len())
    }) + "0\r\nTrailer: kept\r\n\r\n";
    for (header, body) in [
        (format!("Content-Length: {length}"), &content),
        ("Transfer-Encoding: chunked".to_owned(), &chunked),
    ] {
        let client = connect(&stage).await;
        let (mut from, mut to) = client.into_split();
        let text = format!("POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n{body}");
        let writing = tokio::spawn(async move {
            to.write_all(text.as_bytes()).await.expect("written");
            to
        });
        let mut back = vec![0; body.len()];
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(from.read_u8().await.expect("a head"));
            }
            from.read_exact(&mut back).await.expect("the whole body");
        };
        timeout(PATIENCE, reading).await.expect("in time");
        assert!(back == body.as_bytes(), "{header}: the body came back as it was sent");
        drop(writing.await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_the_close_is_chunked_and_the_client_stays() {
    let mut stage = Stage::new().await;
    behind(&mut stage, |stream| answers(stream, b"HTTP/1.0 200 OK\r\n\r\nall of it")).await;
    let mut client = connect(&stage).await;
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let answer = read_until(&mut client, b"0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_no_chunks() {
    let mut stage = Stage::new().await;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n";
    behind(&mut stage, |stream| answers(stream, chunked)).await;
    let mut client = connect(&stage).await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
    let answer = read_to_end(client).await.expect("ended in order");
    assert!(answer.ends_with("connection: close\r\n\r\nall"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_short_never_looks_whole() {
    let mut stage = Stage::new().await;
    let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";
    behind(&mut stage, |stream| answers(stream, begun)).await;
    let mut client = connect(&stage).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    let answer = read_to_end(client).await.expect("closed");
    assert!(answer.contains("begun") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let mut old = connect(&stage).await;
    old.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("written");
    let ended = read_to_end(old).await.map_err(|error| error.kind());
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_told_is_told_to_send_its_body() {
    let mut stage = Stage::new().await;
    behind(&mut stage, async |mut stream| {
        let head = read_until(&mut stream, b"\r\n\r\n").await;
        assert!(!head.to_lowercase().contains("expect"), "{head}");
        let body = read_until(&mut stream, b"end").await;
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.expect("written");
    })
    .await;
    let mut client = connect(&stage).await;
    let head = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n";
    client.write_all(head).await.expect("written");
    let told = read_until(&mut client, b"\r\n\r\n").await;
    assert_eq!(told, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"the end").await.expect("written");
    read_until(&mut client, b"\r\n\r\nthe end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_body_was_read_reaches_the_client() {
    let mut stage = Stage::new().await;
    let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno.";
    behind(&mut stage, |stream| answers(stream, refusal)).await;
    let mut client = connect(&stage).await;
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n";
    client.write_all(head).await.expect("written");
    client.write_all(&[b'x'; 100_000]).await.expect("written");
    let answer = read_until(&mut client, b"no.").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\r\n\r\nno."), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_lies_is_refused_before_it_is_anybody_s_request() {
    let mut stage = Stage::new().await;
    behind(&mut stage, |stream| answers(stream, b"HTTP/1.1 200 OK\r\n\r\n")).await;
    let mut client = connect(&stage).await;
    let text = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nabGET /admin HTTP/1.1\r\n\r\n";
    client.write_all(text).await.expect("written");
    let answer = read_to_end(client).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_pass_through_until_a_drain_cuts_them() {
    let mut stage = Stage::new().await;
    behind(&mut stage, async |mut stream| {
        let head = read_until(&mut stream, b"\r\n\r\n").await;
        assert!(head.contains("upgrade: echo\r\n"), "{head}");
        let start = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\
                      Connection: Upgrade\r\n\r\nhello ";
        stream.write_all(start).await.expect("written");
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let mut client = connect(&stage).await;
    let text = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ";
    client.write_all(text).await.expect("written");
    let answer = read_until(&mut client, b"hello early ").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.write_all(b"late").await.expect("written");
    read_until(&mut client, b"late").await;
    let drain = Drain { task: "t".to_owned(), requests_ms: 5000, upgraded_ms: 100 };
    stage.tell(Command::Drain { drain }).await;
    assert_eq!(stage.next().await, Event::Drained { task: "t".to_owned(), cut: 1 });
    assert_eq!(read_to_end(client).await.expect("closed"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_refused_at_its_limit() {
    let stage = Stage::new().await;
    let mut client = connect(&stage).await;
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(70_000));
    client.write_all(text.as_bytes()).await.expect("written");
    let answer = read_until(&mut client, b"</html>\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_byte_by_byte_is_one_request() {
    let mut stage = Stage::new().await;
    let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    behind(&mut stage, |stream| answers(stream, fine)).await;
    let mut client = connect(&stage).await;
    client.set_nodelay(true).expect("set");
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n" {
        client.write_all(&[*byte]).await.expect("written");
        tokio::task::yield_now().await;
    }
    read_until(&mut client, b"\r\n\r\nok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_given_up_lets_its_clients_finish() {
    let mut stage = Stage::new().await;
    let (release, released) = tokio::sync::watch::channel(false);
    let (arrived, mut arrives) = tokio::sync::mpsc::channel(1);
    behind(&mut stage, move |mut stream| {
        let (mut released, arrived) = (released.clone(), arrived.clone());
        async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            arrived.send(()).await.expect("the test waits");
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.expect("written");
            drop(released.wait_for(|released| *released).await);
            stream.write_all(b"Content-Length: 4\r\n\r\ndone").await.expect("written");
        }
    })
    .await;
    let idle = connect(&stage).await;
    let mut busy = connect(&stage).await;
    busy.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
    arrives.recv().await.expect("the backend has it");
    stage.routes(&[]).await;
    assert_eq!(read_to_end(idle).await.expect("closed in order"), "");
    release.send(true).expect("the backend waits");
    let answer = read_to_end(busy).await.expect("answered");
    // Its worker may hear of the port's end only after the head; that it closes is what counts.
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
}
