//! The whole way: the example application on a real Postgres under real traffic.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use load::{Plan, Postgres, Target};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Where the example's programs are, built now if need be.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_BIN_EXE_load")).parent().unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(ROOT).args(["build", "-q", "-p", "ala-backend", "-p", "ala-frontend"]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the example does not build");
    folder
});

/// A database of the test's own; without a server installed the test says so and passes.
fn postgres() -> Option<(Postgres, tempfile::TempDir)> {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    match Postgres::start(&folder.path().join("postgres"), 0) {
        Ok(postgres) => Some((postgres, folder)),
        Err(error @ load::postgres::Error::Missing) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A process of the example, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn backend(postgres: &Postgres, port: u16, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(PROGRAMS.join("ala-backend"));
        command.env("MIGRATIONS_DIR", format!("{ROOT}/examples/ala/backend/migrations"));
        command.env("DATABASE_URL", postgres.url()).env("PORT", port.to_string());
        command.envs([("HOST", "127.0.0.1"), ("JWT_SECRET", "test"), ("APP_VERSION", "1")]);
        command.envs([("TEST_USERNAME", "test"), ("TEST_PASSWORD", "test-password")]);
        command.envs(settings.iter().copied()).stdout(Stdio::null());
        Process(command.spawn().unwrap())
    }

    fn frontend(site: &Path, port: u16) -> Process {
        let mut build = Command::new(PROGRAMS.join("ala-frontend"));
        build.arg("build").arg(format!("{ROOT}/examples/ala/frontend/web")).arg(site);
        assert!(build.stdout(Stdio::null()).status().unwrap().success());
        let mut command = Command::new(PROGRAMS.join("ala-frontend"));
        command.arg("serve").arg(site).env("HOST", "127.0.0.1").env("PORT", port.to_string());
        Process(command.stdout(Stdio::null()).spawn().unwrap())
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn target(port: u16) -> Target {
    Target::parse(&format!("http://127.0.0.1:{port}")).unwrap()
}

/// The answer's first line.
async fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

async fn await_answer(port: u16, path: &str) {
    let patience = Duration::from_secs(60);
    let mut often = tokio::time::interval(Duration::from_millis(50));
    let answered = tokio::time::timeout(patience, async {
        while !ask(port, path).await.is_ok_and(|line| line.contains(" 200 ")) {
            often.tick().await;
        }
    });
    answered.await.unwrap_or_else(|_| panic!("no 200 from port {port}{path}"));
}

fn plan(port: u16, postgres: &Postgres, seconds: u64) -> Plan {
    let mut plan = Plan::new(vec![target(port)], 100);
    plan.database = Some(postgres.url());
    plan.duration = Some(Duration::from_secs(seconds));
    plan.websockets = 2;
    plan.websocket_life = Duration::from_millis(1500);
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_serves_every_kind_of_traffic_and_keeps_every_write() {
    let Some((postgres, folder)) = postgres() else { return };
    let (api, pages) = (free_port(), free_port());
    let _backend = Process::backend(&postgres, api, &[]);
    let _frontend = Process::frontend(&folder.path().join("site"), pages);
    await_answer(api, "/api/health").await;
    await_answer(pages, "/health").await;
    let mut plan = plan(api, &postgres, 3);
    plan.frontend = vec![target(pages)];
    let report = load::run(plan, std::future::pending()).await.unwrap();
    assert!(report.is_clean(), "{:?} {:?}", report.failures, report.websocket_cuts);
    assert_eq!(report.requests, 300);
    assert_eq!(report.by_kind.len(), 7, "{:?}", report.by_kind.keys());
    assert_eq!((report.writes.lost_writes, report.writes.duplicated_writes), (Some(0), Some(0)));
    assert!(report.writes.acknowledged_writes >= 70);
    assert!(report.websockets >= 2 && report.versions["1"] > 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_share_one_set_of_migrations() {
    let Some((postgres, _folder)) = postgres() else { return };
    let ports = [free_port(), free_port(), free_port()];
    let _backends = ports.map(|port| Process::backend(&postgres, port, &[]));
    for port in ports {
        await_answer(port, "/api/health").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_sends_a_write_twice_is_found_out() {
    let Some((postgres, _folder)) = postgres() else { return };
    let (api, proxy) = (free_port(), free_port());
    let _backend = Process::backend(&postgres, api, &[]);
    await_answer(api, "/api/health").await;
    let listener = TcpListener::bind(("127.0.0.1", proxy)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward_twice(stream, api));
        }
    });
    let mut plan = plan(proxy, &postgres, 1);
    plan.websockets = 0;
    plan.clients = 0;
    plan.slow_rate = 0.0;
    let report = load::run(plan, std::future::pending()).await.unwrap();
    let doubled = report.writes.duplicated_writes.unwrap();
    assert_eq!(doubled, report.writes.acknowledged_writes, "{:?}", report.failures);
    assert!(doubled > 0 && !report.is_clean());
    assert_eq!(report.failed, 0, "the client itself saw nothing wrong: {:?}", report.failures);
}

/// Passes on one request; a POST of a treatment goes out a second time and its answer is dropped.
async fn forward_twice(mut client: TcpStream, api: u16) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !is_complete(&request) {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let text =
        String::from_utf8_lossy(&request).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let times = if text.starts_with("POST /api/treatments") { 2 } else { 1 };
    let mut first = Vec::new();
    for time in 0..times {
        let mut backend = TcpStream::connect(("127.0.0.1", api)).await?;
        backend.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        backend.read_to_end(&mut answer).await?;
        if time == 0 {
            first = answer;
        }
    }
    client.write_all(&first).await
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.is_none_or(|(_, length)| body.len() >= length.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_removed_behind_our_back_is_lost() {
    let Some((postgres, _folder)) = postgres() else { return };
    let api = free_port();
    let _backend = Process::backend(&postgres, api, &[]);
    await_answer(api, "/api/health").await;
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let sabotage = "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN DELETE FROM treatments WHERE id = NEW.id; RETURN NULL; END';
        CREATE TRIGGER sabotage AFTER INSERT ON treatments FOR EACH ROW
            WHEN (NEW.patient LIKE '%5') EXECUTE FUNCTION drop_it()";
    client.batch_execute(sabotage).await.unwrap();
    let report = load::run(plan(api, &postgres, 2), std::future::pending()).await.unwrap();
    assert!(report.writes.lost_writes.unwrap() > 0);
    assert_eq!(report.writes.duplicated_writes, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_end_finishes_requests_and_websockets_where_a_rude_one_cuts_them() {
    let Some((postgres, _folder)) = postgres() else { return };
    for (settings, is_polite) in [(&[][..], true), (&[("RUDE", "1")][..], false)] {
        let api = free_port();
        let mut backend = Process::backend(&postgres, api, settings);
        await_answer(api, "/api/health").await;
        let mut plan = plan(api, &postgres, 60);
        plan.websockets = 4;
        plan.websocket_life = Duration::from_secs(3);
        plan.slow_rate = 20.0;
        plan.slow = Duration::from_secs(1);
        let stop = async {
            // Wait for the run to be in full swing, then end the service and the run together.
            let mut seconds = tokio::time::interval(Duration::from_secs(2));
            seconds.tick().await;
            seconds.tick().await;
            backend.terminate();
        };
        let report = load::run(plan, stop).await.unwrap();
        assert_eq!(report.writes.lost_writes, Some(0));
        assert_eq!(report.websockets_cut == 0, is_polite, "{:?}", report.websocket_cuts);
        let slow = report.by_kind["slow"].failed;
        assert_eq!(slow == 0, is_polite, "{:?}", report.failures);
        let code = backend.0.wait().unwrap().code();
        assert_eq!(code, Some(if is_polite { 0 } else { 143 }));
    }
}

#[test]
fn a_folder_the_server_could_not_enter_is_replaced_and_leaves_nothing_behind() {
    if Postgres::programs().is_none() || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs a Postgres server and root");
        return;
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let closed = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
    let postgres = Postgres::start(&closed.path().join("postgres"), 0).unwrap();
    let folder = postgres.folder().to_owned();
    assert!(!folder.starts_with(closed.path()) && folder.join("data").exists());
    drop(postgres);
    assert!(!folder.exists());
}

#[test]
fn a_throw_away_postgres_replaces_what_a_killed_run_left_behind() {
    let Some((mut first, folder)) = postgres() else { return };
    assert_eq!(first.folder(), folder.path().join("postgres"));
    let second = Postgres::start(&folder.path().join("postgres"), 0).unwrap();
    assert_eq!(second.folder(), first.folder());
    let arguments = std::fs::read(format!("/proc/{}/cmdline", first.pid())).unwrap();
    assert!(arguments.is_empty(), "the first server still runs");
    first.stop();
    drop(second);
    assert!(!folder.path().join("postgres/data/postmaster.pid").exists());
}
