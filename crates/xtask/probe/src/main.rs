//! The smallest service: answers every request, is ready 50 ms after its start, and misbehaves
//! on demand. Used by the benchmarks and the end-to-end tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

fn main() {
    let number = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(8080);
    if std::env::args().nth(1).as_deref() == Some("health") {
        std::process::exit(i32::from(!is_healthy(port)));
    }
    println!("probe: starting, generation {}", std::env::var("GENERATION").unwrap_or_default());
    thread::sleep(Duration::from_millis(number("READY_AFTER_MS").unwrap_or(50)));
    if let Some(code) = number("FAIL_WITH") {
        eprintln!("probe: failing on purpose");
        std::process::exit(i32::try_from(code).unwrap_or(1));
    }
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("probe: listen on port {port}: {error}");
            std::process::exit(1);
        }
    };
    println!("probe: listening on port {port}");
    if let Some(count) = number("LOG_LINES") {
        for line in 1..=count {
            println!("line {line}");
        }
    }
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

fn serve(stream: TcpStream) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream);
    let generation = std::env::var("GENERATION").unwrap_or_default();
    let is_sick = std::env::var("SICK").is_ok_and(|v| !v.is_empty());
    loop {
        let mut is_first = true;
        loop {
            let mut line = String::new();
            match lines.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() && !is_first => break,
                Ok(_) => is_first = false,
            }
        }
        let status = if is_sick { "503 Service Unavailable" } else { "200 OK" };
        let length = generation.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{generation}");
        if out.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = [0_u8; 12];
    stream.write_all(b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b"200")
}
