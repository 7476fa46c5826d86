//! Bodies that are too large, cut off or not what they say, and commands whose client does not
//! read: each is refused or ends, and leaves nothing behind.

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::{await_state, site::Site};

fn connect(site: &Site) -> UnixStream {
    let socket = UnixStream::connect(site.path("state/run/engine.sock")).expect("open");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    socket
}

/// What is answered until the connection ends.
fn rest(mut socket: UnixStream) -> String {
    let mut bytes = Vec::new();
    // One that is reset has said what it had to say.
    let _ = socket.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_well(site: &Site) {
    assert_eq!(site.json("/configs"), json!([]));
    assert_eq!(site.json("/images/json"), json!([]));
}

#[test]
fn bodies_that_are_too_large_or_lie_about_their_length_change_nothing() {
    let site = Site::start();
    let create = |heads: &str| format!("POST /configs/create HTTP/1.1\r\nHost: a\r\n{heads}\r\n");
    let mut large = connect(&site);
    large.write_all(create("Content-Length: 99999999\r\n").as_bytes()).expect("written");
    let block = vec![b' '; 1 << 20];
    while large.write_all(&block).is_ok() {}
    assert!(rest(large).starts_with("HTTP/1.1 413"));

    let mut endless = connect(&site);
    endless.write_all(create("Transfer-Encoding: chunked\r\n").as_bytes()).expect("written");
    let chunk = [b"100000\r\n".as_slice(), &block, b"\r\n"].concat();
    while endless.write_all(&chunk).is_ok() {}
    assert!(rest(endless).starts_with("HTTP/1.1 413"));

    let body = r#"{"Name":"x","Data":"aGk="}"#;
    for (heads, status) in [
        (format!("Content-Length: {}\r\n", body.len() + 5), "HTTP/1.1 400"),
        (format!("Content-Length: {}\r\n", body.len() - 5), "HTTP/1.1 400"),
        ("Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(), "HTTP/1.1 400"),
        ("Content-Length: nine\r\n".to_owned(), "HTTP/1.1 400"),
        ("Transfer-Encoding: chunked\r\n".to_owned(), "HTTP/1.1 400"),
    ] {
        let mut socket = connect(&site);
        socket.write_all((create(&heads) + body).as_bytes()).expect("written");
        socket.shutdown(Shutdown::Write).expect("closed");
        let text = rest(socket);
        assert!(text.starts_with(status), "{heads:?}: {text}");
    }
    is_well(&site);
}

#[test]
fn what_is_no_object_is_refused_and_the_engine_goes_on() {
    let site = Site::start();
    for path in [
        "/services/create",
        "/services/none/update?version=1",
        "/configs/create",
        "/secrets/create",
        "/networks/create",
        "/volumes/create",
        "/containers/none/exec",
    ] {
        for body in ["[]", "7", "\"x\"", "null", "{\"Name\":7}", "{", ""] {
            let mut socket = connect(&site);
            let length = body.len();
            let text = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
            socket.write_all(text.as_bytes()).expect("written");
            let answer = rest(socket);
            let status: u16 = answer.split(' ').nth(1).expect("a status").parse().expect("one");
            let is_made = path == "/volumes/create" && body.starts_with("{\"");
            assert!(is_made || (400..500).contains(&status), "{path} {body}: {answer}");
        }
    }
    is_well(&site);
}

#[test]
fn an_image_that_is_cut_off_on_its_way_leaves_nothing_behind() {
    let site = Site::start();
    // The head of a file of a mebibyte, and half of that.
    let mut header = vec![0_u8; 512];
    header[..13].copy_from_slice(b"manifest.json");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00004000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let half = [header, vec![b'x'; 1 << 19]].concat();
    for heads in ["Content-Length: 1100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut socket = connect(&site);
        let head = format!("POST /images/load HTTP/1.1\r\nHost: a\r\n{heads}\r\n");
        socket.write_all(head.as_bytes()).expect("written");
        if heads.starts_with('T') {
            socket.write_all(format!("{:x}\r\n", half.len()).as_bytes()).expect("written");
        }
        socket.write_all(&half).expect("written");
        let incoming = site.path("state/images/incoming");
        let count = |folder: &Path| fs::read_dir(folder).expect("there").count();
        await_state("the beginning of it", || count(&incoming) > 0);
        drop(socket);
        await_state("nothing of it", || count(&incoming) == 0);
    }
    assert_eq!(fs::read_dir(site.path("state/images/blobs/sha256")).expect("there").count(), 0);
    is_well(&site);
}

/// A command beside the first task; its connection, after the answer's head.
fn exec(site: &Site, script: &str) -> UnixStream {
    let post = |path: &str, body: &Value, heads: &str| {
        let (mut socket, body) = (connect(site), body.to_string());
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{heads}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        socket.write_all(text.as_bytes()).expect("written");
        socket
    };
    let id = site.json("/containers/json")[0]["Id"].as_str().expect("an id").to_owned();
    let asked = json!({
        "Cmd": ["/bin/sh", "-c", script], "AttachStdin": true, "AttachStdout": true,
        "AttachStderr": true,
    });
    let made = post(&format!("/containers/{id}/exec"), &asked, "Connection: close\r\n");
    let made = rest(made);
    let (_, body) = made.split_once("\r\n\r\n").expect("a body");
    let made: Value = serde_json::from_str(body.trim()).expect("is JSON");
    let exec = made["Id"].as_str().expect("an id");
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let mut socket = post(&format!("/exec/{exec}/start"), &json!({}), upgrade);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    socket
}

#[test]
fn a_command_goes_on_when_its_client_has_said_all_and_when_it_leaves() {
    let site = Site::start();
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let mut half = exec(&site, "cat; echo and after");
    half.write_all(b"said, ").expect("written");
    half.shutdown(Shutdown::Write).expect("closed");
    let heard = rest(half);
    assert!(heard.contains("said, ") && heard.contains("and after"), "{heard}");

    let done = site.path("done");
    let unread = exec(&site, &format!("head -c 5000000 /dev/zero && touch {}", done.display()));
    assert!(!done.exists(), "more than fits on the way");
    drop(unread);
    await_state("the command's end", || done.exists());
}
