//! A throw-away Postgres: a cluster in a folder of its own, started on a loopback port, stopped
//! when dropped.
//!
//! It is made for trying and testing: nothing is synced to the disk, and starting it again in the
//! same folder begins with an empty database. Postgres refuses to run as root, so root runs it as
//! the user `postgres` (or `nobody`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub const USER: &str = "ala_user";
pub const DATABASE: &str = "ala_production";

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const INSTALL: &str = "apt-get install -y --no-install-recommends postgresql-15";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Postgres server is not installed (no `initdb` found); run `{INSTALL}`")]
    Missing,
    #[error("run Postgres as root: the system has no user `postgres` or `nobody`; add one")]
    NoUser,
    #[error("prepare the folder `{path}`: {source}", path = .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("run `{program}`: {source}", program = .program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("`{program}` failed: {said}", program = .program.display())]
    Failed { program: PathBuf, said: String },
    #[error("Postgres ended while starting; its log ends with: {said}")]
    Ended { said: String },
    #[error("Postgres was not ready within {START_TIMEOUT:?}; see `{log}`", log = .log.display())]
    NotReady { log: PathBuf },
}

/// A running server.
pub struct Postgres {
    server: Child,
    folder: PathBuf,
    /// Whether the folder is one of our choosing, to be removed when done.
    moved: bool,
    port: u16,
    password: String,
    programs: PathBuf,
}

/// The user the server runs as when we are root.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// The folder of the server's programs, when it is installed.
    pub fn programs() -> Option<PathBuf> {
        let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut versions: Vec<(u32, PathBuf)> = debian
            .filter_map(|entry| {
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let newest_first = versions.into_iter().rev().map(|(_, folder)| folder);
        newest_first
            .chain(std::env::split_paths(&path))
            .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
    }

    /// Starts an empty database in the folder, replacing what an earlier run left there; port 0
    /// takes a free one. A folder the server's user cannot reach (below root's home, say) is
    /// replaced by one below the temporary folder, removed when done; see [`Postgres::folder`].
    pub fn start(folder: &Path, port: u16) -> Result<Postgres, Error> {
        Self::start_for(folder, port, None)
    }

    /// As [`Postgres::start`], and also for the machines of a network: it listens on this machine's
    /// address there, and lets clients of that /24 in.
    pub fn start_for(
        folder: &Path,
        port: u16,
        also_on: Option<Ipv4Addr>,
    ) -> Result<Postgres, Error> {
        let programs = Postgres::programs().ok_or(Error::Missing)?;
        let owner = if rustix::process::geteuid().is_root() { Some(owner()?) } else { None };
        let wanted = folder;
        let folder = reachable(wanted, owner)?;
        let moved = std::path::absolute(wanted).is_ok_and(|wanted| wanted != folder);
        stop_leftover(&folder);
        prepare(&folder, owner)?;
        let port = if port == 0 { free_port(&folder)? } else { port };
        let password = password();
        initialise(&programs, &folder, owner, &password)?;
        if let Some(address) = also_on {
            let [a, b, c, _] = address.octets();
            let line = format!("host all all {a}.{b}.{c}.0/24 scram-sha-256\n");
            let path = folder.join("data/pg_hba.conf");
            let appended = File::options().append(true).open(&path);
            appended
                .and_then(|mut file| file.write_all(line.as_bytes()))
                .map_err(|source| Error::Folder { path, source })?;
        }
        let server = spawn(&programs, &folder, owner, port, also_on)?;
        let mut postgres = Postgres { server, folder, moved, port, password, programs };
        postgres.await_ready(owner)?;
        Ok(postgres)
    }

    /// Where the application finds its database, password included.
    pub fn url(&self) -> String {
        self.url_at(Ipv4Addr::LOCALHOST)
    }

    /// The same for clients of another network.
    pub fn url_at(&self, address: Ipv4Addr) -> String {
        format!("postgres://{USER}:{}@{address}:{}/{DATABASE}", self.password, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder in use: data in `data/`, the server's log in `postgres.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn password(&self) -> &str {
        &self.password
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Stops the server: open connections are ended, then, past a deadline, the process.
    pub fn stop(&mut self) {
        for (signal, patience) in [
            (Signal::INT, STOP_TIMEOUT),
            (Signal::QUIT, STOP_TIMEOUT),
            (Signal::KILL, STOP_TIMEOUT),
        ] {
            if matches!(self.server.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            if let Some(pid) = Pid::from_raw(self.server.id().cast_signed()) {
                let _ = kill_process(pid, signal);
            }
            await_true(patience, || matches!(self.server.try_wait(), Ok(Some(_)) | Err(_)));
        }
    }

    fn await_ready(&mut self, owner: Option<Owner>) -> Result<(), Error> {
        let log = self.folder.join("postgres.log");
        let mut asking = command(&self.programs.join("pg_isready"), owner);
        asking.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        asking.stdout(Stdio::null()).stderr(Stdio::null());
        let mut ended = false;
        let ready = await_true(START_TIMEOUT, || {
            ended = !matches!(self.server.try_wait(), Ok(None));
            ended || asking.status().is_ok_and(|status| status.success())
        });
        match (ended, ready) {
            (true, _) => Err(Error::Ended { said: last_lines(&log) }),
            (false, true) => Ok(()),
            (false, false) => Err(Error::NotReady { log }),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        if self.moved {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn owner() -> Result<Owner, Error> {
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(Owner { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    find("postgres").or_else(|| find("nobody")).ok_or(Error::NoUser)
}

/// The folder itself, or one below the temporary folder when the owner could not enter it.
fn reachable(folder: &Path, owner: Option<Owner>) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(folder)
        .map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    let open_to_all = |path: &Path| match fs::metadata(path) {
        Ok(metadata) => {
            metadata.permissions().mode() & 0o001 != 0
                || owner.is_some_and(|owner| owner.uid == metadata.uid())
        }
        Err(_) => true, // does not exist yet: it will be ours
    };
    if owner.is_none() || absolute.ancestors().skip(1).all(open_to_all) {
        return Ok(absolute);
    }
    let name = absolute.to_string_lossy().replace('/', "-");
    Ok(std::env::temp_dir().join(format!("throw-away-postgres{name}")))
}

/// Ends a server that a killed run left behind in the same folder.
fn stop_leftover(folder: &Path) {
    let data = folder.join("data");
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { return };
    // The number may be another process's by now; a process that ended has no arguments.
    let is_ours = || {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).split('\0').any(|argument| Path::new(argument) == data)
    };
    let Some(process) = Pid::from_raw(pid) else { return };
    for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
        if !is_ours() {
            return;
        }
        let _ = kill_process(process, signal);
        await_true(STOP_TIMEOUT, || !is_ours());
    }
}

fn prepare(folder: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: folder.to_owned(), source };
    match fs::remove_dir_all(folder.join("data")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::create_dir_all(folder).map_err(failed)?;
    if let Some(owner) = owner {
        // Folders made just now by a careful umask must let the owner through as well.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        chown(folder, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
    }
    Ok(())
}

fn free_port(folder: &Path) -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|a| a.port()).map_err(|source| Error::Folder { path: folder.to_owned(), source })
}

fn password() -> String {
    let mut random = [0_u8; 12];
    // A throw-away database on loopback; a poor password is better than none.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes the cluster with its one user and one database.
fn initialise(
    programs: &Path,
    folder: &Path,
    owner: Option<Owner>,
    password: &str,
) -> Result<(), Error> {
    let data = folder.join("data");
    let secret = folder.join("password");
    let failed = |source| Error::Folder { path: secret.clone(), source };
    fs::write(&secret, password).map_err(failed)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if let Some(owner) = owner {
        chown(&secret, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
    }
    let mut initdb = command(&programs.join("initdb"), owner);
    initdb.arg("-D").arg(&data).args(["-U", USER, "--auth=scram-sha-256", "-E", "UTF8"]);
    initdb.args(["--locale=C", "--no-sync"]).arg("--pwfile").arg(&secret);
    run(initdb, "")?;
    let _ = fs::remove_file(&secret);
    let mut single = command(&programs.join("postgres"), owner);
    single.args(["--single", "-F", "-D"]).arg(&data).arg("postgres");
    run(single, &format!("CREATE DATABASE {DATABASE};\n"))
}

fn spawn(
    programs: &Path,
    folder: &Path,
    owner: Option<Owner>,
    port: u16,
    also_on: Option<Ipv4Addr>,
) -> Result<Child, Error> {
    let log = folder.join("postgres.log");
    let open = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
    let (out, err) = open.map_err(|source| Error::Folder { path: log, source })?;
    let program = programs.join("postgres");
    let mut server = command(&program, owner);
    server.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let also = also_on.map_or(String::new(), |address| format!(",{address}"));
    for setting in [
        &*format!("listen_addresses=127.0.0.1{also}"),
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "shared_buffers=32MB",
        "max_connections=100",
        "log_checkpoints=off",
    ] {
        server.args(["-c", setting]);
    }
    // A group of its own: Ctrl-C in the terminal is for the program that started it.
    server.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
    server.spawn().map_err(|source| Error::Run { program, source })
}

fn command(program: &Path, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

fn run(mut command: Command, input: &str) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| Error::Run { program: program.clone(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that already ended tells why in its output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Failed { program, said: String::from_utf8_lossy(&said).trim().to_owned() })
}

fn last_lines(log: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(log).and_then(|file| file.take(64 * 1024).read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

fn await_true(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
