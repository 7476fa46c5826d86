//! The service of the scenarios: its health, its end and its words are set by environment.

use std::{
    env,
    io::{self, BufRead, Read, Write},
    net::{TcpListener, TcpStream},
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

fn text(key: &str) -> Option<String> {
    env::var(key).ok()
}

fn number(key: &str) -> Option<u64> {
    text(key)?.parse().ok()
}

fn code(key: &str, otherwise: i32) -> i32 {
    number(key).and_then(|code| i32::try_from(code).ok()).unwrap_or(otherwise)
}

fn port() -> u16 {
    text("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080)
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        None => serve(),
        Some("health") => exit(i32::from(!is_healthy())),
        Some("echo") => {
            println!("{}", rest.join(" "));
            eprintln!("err:{}", rest.join(" "));
        }
        Some("cat") => {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                println!("{line}");
            }
        }
        Some("exit") => exit(rest.first().and_then(|code| code.parse().ok()).unwrap_or(0)),
        Some("env") => env::vars().for_each(|(key, value)| println!("{key}={value}")),
        Some("readfile") => {
            let path = rest.first().cloned().unwrap_or_default();
            print!("{}", std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string()));
        }
        Some("lines") => lines(rest.first().and_then(|count| count.parse().ok()).unwrap_or(0)),
        Some(other) => {
            eprintln!("semapp: {other} is not known");
            exit(2);
        }
    }
}

/// So many numbered lines, as fast as they are taken.
fn lines(count: u64) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in 1..=count {
        let _ = writeln!(out, "line {number}");
    }
}

fn is_healthy() -> bool {
    let asked = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port()))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap_or_else(|error| error.to_string());
    println!("{}", answer.lines().next().unwrap_or_default());
    answer.contains(" 200 ")
}

fn serve() {
    let caught = Arc::new(AtomicUsize::new(0));
    for signal in text("TRAP").unwrap_or("15".into()).split(',').filter_map(|s| s.parse().ok()) {
        let number = usize::try_from(signal).unwrap_or(0);
        let _ = signal_hook::flag::register_usize(signal, Arc::clone(&caught), number);
    }
    thread::sleep(Duration::from_millis(number("START_DELAY").unwrap_or(0)));
    if number("FAIL_NOW").is_some() {
        eprintln!("failing now");
        exit(code("FAIL_NOW", 1));
    }
    let started = Instant::now();
    let version = text("V").unwrap_or("?".into());
    println!("starting v={version} port={}", port());
    let listener = TcpListener::bind(("0.0.0.0", port())).unwrap_or_else(|error| {
        eprintln!("listen: {error}");
        exit(1)
    });
    println!("listening {version}");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let version = version.clone();
            thread::spawn(move || answer(stream, &version, started.elapsed()));
        }
    });
    live(&caught, started);
}

fn answer(mut stream: TcpStream, version: &str, age: Duration) {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap_or(0);
    let asked = String::from_utf8_lossy(&bytes[..count]).into_owned();
    if asked.starts_with("GET /crash") {
        exit(7);
    }
    let after = |key: &str| number(key).map(Duration::from_millis);
    let is_well = age >= after("HEALTHY_AFTER").unwrap_or_default()
        && after("UNHEALTHY_AFTER").is_none_or(|until| age < until);
    let (status, body) = match asked.starts_with("GET /health") {
        true if is_well => ("200 OK", "ok\n".to_owned()),
        true => ("503 Service Unavailable", "not well\n".to_owned()),
        false if asked.starts_with("GET /from") => ("200 OK", format!("{}\n", client(&asked))),
        false => ("200 OK", format!("v={version}\n")),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// Whom the proxy before us says it serves.
fn client(asked: &str) -> &str {
    let header = |line: &&str| line.to_ascii_lowercase().starts_with("x-forwarded-for:");
    let line = asked.lines().find(header).unwrap_or_default();
    line.split_once(':').map_or("", |(_, address)| address.trim())
}

/// Until a signal or the time set ends it.
fn live(caught: &AtomicUsize, started: Instant) {
    let (mut said, mut next) = (0, started);
    loop {
        thread::sleep(Duration::from_millis(20));
        let signal = caught.swap(0, Ordering::SeqCst);
        if signal != 0 {
            println!("got signal {signal}");
            thread::sleep(Duration::from_millis(number("TERM_DELAY").unwrap_or(0)));
            if text("TERM_IGNORE").is_none() {
                exit(code("TERM_CODE", 0));
            }
        }
        if number("EXIT_AFTER").is_some_and(|ms| started.elapsed() >= Duration::from_millis(ms)) {
            exit(code("EXIT_CODE", 1));
        }
        if let Some(every) = number("LOG_EVERY").filter(|_| Instant::now() >= next) {
            said += 1;
            println!("out {said}");
            eprintln!("err {said}");
            next += Duration::from_millis(every);
        }
    }
}
