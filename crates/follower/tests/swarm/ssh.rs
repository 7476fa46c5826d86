//! A login on the manager: a real ssh server in its network, and a user whose `ssh` finds it.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use lab::{Node, until};

const SERVER: &str = "/usr/sbin/sshd";

/// The server; it ends when this is dropped.
pub struct Login {
    folder: tempfile::TempDir,
    server: Child,
    address: String,
}

impl Login {
    /// Whoever logs in there has `docker`, `keel` (if any) and this environment. None, with the reason
    /// told, where there is no server.
    pub fn open(node: &Node, keel: Option<&Path>, env: &str) -> Option<Self> {
        if !Path::new(SERVER).exists() {
            let reason = "`sshd` is missing: install openssh-server";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("not run: {reason}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            assert!(made.status().expect("ssh-keygen runs").success());
        }
        let commands = folder.path().join("bin");
        fs::create_dir(&commands).expect("made");
        let all = std::env::var_os("PATH").unwrap_or_default();
        let docker = std::env::split_paths(&all)
            .map(|folder| folder.join("docker"))
            .find(|path| path.is_file())
            .expect("a docker client");
        for (name, command) in [("docker", Some(docker.as_path())), ("keel", keel)] {
            if let Some(command) = command {
                symlink(command, commands.join(name)).expect("a link");
            }
        }
        let address = node.address.to_string();
        let server = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
             SetEnv PATH={}:/usr/bin:/bin {env}\n",
            path("host"),
            path("user.pub"),
            commands.display(),
        );
        fs::write(folder.path().join("sshd"), server).expect("written");
        let host = fs::read_to_string(folder.path().join("host.pub")).expect("a key");
        fs::write(folder.path().join("known"), format!("{address} {host}")).expect("written");
        let user = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n\
             StrictHostKeyChecking yes\n",
            path("user"),
            path("known"),
        );
        fs::write(folder.path().join("config"), user).expect("written");
        let near = folder.path().join("near");
        fs::create_dir(&near).expect("made");
        let text = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", path("config"));
        fs::write(near.join("ssh"), text).expect("written");
        fs::set_permissions(near.join("ssh"), fs::Permissions::from_mode(0o755)).expect("set");
        // Where the server locks itself up; the system's own makes it when it starts.
        fs::create_dir_all("/run/sshd").expect("made");
        let server = node
            .run_in(SERVER)
            .args(["-D", "-e", "-f", &path("sshd")])
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("sshd runs");
        let login = Self { folder, server, address };
        until("the ssh server", Duration::from_secs(20), || {
            let tried = TcpStream::connect((login.address.as_str(), 22));
            tried.map(drop).map_err(|error| format!("{error}: {}", login.log()))
        })
        .expect("it listens");
        Some(login)
    }

    /// `-H` for it.
    pub fn host(&self) -> String {
        format!("ssh://root@{}", self.address)
    }

    /// The search path of the user: its first `ssh` is the one that knows the way.
    pub fn path(&self) -> String {
        let near = self.folder.path().join("near").display().to_string();
        format!("{near}:{}", std::env::var("PATH").unwrap_or_default())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
