//! Crowds of clients, and some that misbehave: the engine's memory stays bounded, others are
//! answered as if nobody else were there, and a release goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Runtime,
};

use super::{PATIENCE, await_state, keel, said, site::Site};

/// What the engine may use with a thousand connections; alone it uses a tenth of that.
const MEMORY_KIB: u64 = 300 << 10;
/// The slowest of a hundred answers, on a busy machine with a debug build.
const SLOWEST: Duration = Duration::from_secs(2);

const CHATTY: &str = "n=0\nwhile :; do n=$((n+1)); \
    echo \"$GENERATION line $n, with some text so that it is as long as such lines are\"; \
    sleep 0.02; done\n";

/// This process has a descriptor for every client.
fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("may be raised to its maximum");
}

fn runtime() -> Runtime {
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    threads.expect("a runtime")
}

async fn say(socket: &Path, text: &str) -> UnixStream {
    loop {
        // A full backlog passes.
        let Ok(mut stream) = UnixStream::connect(socket).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.write_all(text.as_bytes()).await;
        return stream;
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: keel\r\n\r\n")
}

/// The engine's process, as its lock names it.
fn engine(site: &Site) -> PathBuf {
    let pid = fs::read_to_string(site.path("state/lock")).expect("a lock");
    Path::new("/proc").join(pid.trim())
}

fn memory_kib(engine: &Path) -> u64 {
    let text = fs::read_to_string(engine.join("smaps_rollup")).expect("readable");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a figure");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn descriptors(engine: &Path) -> usize {
    fs::read_dir(engine.join("fd")).expect("readable").count()
}

/// Clients that read what they follow; counts those that saw a line of the second version.
fn followers(runtime: &Runtime, socket: &Path, count: usize) -> Arc<AtomicUsize> {
    let saw = Arc::<AtomicUsize>::default();
    for _ in 0..count {
        let (socket, saw) = (socket.to_owned(), Arc::clone(&saw));
        runtime.spawn(async move {
            let logs = get("/services/site_work/logs?stdout=1&follow=1&tail=1");
            let mut stream = say(&socket, &logs).await;
            let (mut buffer, mut has_seen) = (vec![0; 1 << 16], false);
            while let Ok(count) = stream.read(&mut buffer).await {
                if count == 0 {
                    return;
                }
                let is_new = buffer[..count].windows(8).any(|part| part == b"v2 line ");
                if is_new && !std::mem::replace(&mut has_seen, true) {
                    saw.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    saw
}

#[test]
fn crowds_of_clients_do_not_disturb_the_others_nor_a_release() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: looking into the engine's memory needs root");
        return;
    }
    allow_many_descriptors();
    let site = Site::start();
    fs::write(site.path("run-good.sh"), CHATTY).expect("written");
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let (runtime, socket, engine) = (runtime(), site.path("state/run/engine.sock"), engine(&site));
    let before = descriptors(&engine);
    let saw = followers(&runtime, &socket, 200);
    let mut crowd = Vec::new();
    let logs = get("/services/site_work/logs?stdout=1&follow=1");
    let cut = "POST /configs/create HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{";
    for (count, text) in [
        (50, logs.as_str()),              // follow, and do not read
        (50, &get("/events?since=0")),    // subscribe, and do not read
        (20, cut),                        // begin a body
        (50, "GET /services HTTP/1.1\r"), // begin a head
        (1000, ""),                       // say nothing
    ] {
        for _ in 0..count {
            crowd.push(runtime.block_on(say(&socket, text)));
        }
    }
    let mut slowest = Duration::ZERO;
    let released = std::thread::scope(|scope| {
        let release = scope.spawn(|| site.deploy("v2", &[]));
        for _ in 0..100 {
            let started = Instant::now();
            assert_eq!(site.ask("GET", "/services").0, 200);
            slowest = slowest.max(started.elapsed());
        }
        release.join().expect("ran")
    });
    assert_eq!(released.code, 0, "{}", released.err);
    assert!(slowest < SLOWEST, "{slowest:?} for a list of services");
    await_state("the new version's lines at all who follow", || saw.load(Ordering::SeqCst) == 200);
    let memory = memory_kib(&engine);
    assert!(memory < MEMORY_KIB, "{memory} KiB");
    eprintln!("slowest answer {slowest:?}, memory {memory} KiB");
    drop(crowd);
    runtime.shutdown_timeout(PATIENCE);
    await_state("all descriptors given back", || descriptors(&engine) < before + 20);
}

#[test]
fn an_engine_with_few_descriptors_serves_and_releases_beside_silent_clients() {
    allow_many_descriptors();
    let site = Site::start();
    assert_eq!(site.run(&["daemon", "--stop"], &[]).code, 0);
    let mut limited = std::process::Command::new("/bin/sh");
    limited
        .args(["-c", "ulimit -n 160; exec \"$0\" daemon --background"])
        .arg(keel(&[]).get_program())
        .env("KEEL_STATE", site.path("state"));
    let started = said(limited.output().expect("runs"));
    assert_eq!(started.code, 0, "{}", started.err);
    let (runtime, socket) = (runtime(), site.path("state/run/engine.sock"));
    let silent: Vec<UnixStream> = (0..400).map(|_| runtime.block_on(say(&socket, ""))).collect();
    let released = site.deploy("v1", &[]);
    assert_eq!(released.code, 0, "{}", released.err);
    assert_eq!(site.ask("GET", "/services").0, 200);
    drop(silent);
}
