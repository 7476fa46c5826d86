//! An engine on another machine over ssh; the other machine is this one, behind a stand-in for
//! `ssh` that runs what it is told with a PATH of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::{Said, await_state, keel, said, shown, site::Site};

/// The machine over there.
struct Far {
    site: Site,
    folder: tempfile::TempDir,
}

impl Far {
    /// With these commands on its PATH.
    fn with(docker: Option<&str>, has_keel: bool) -> Self {
        let far = Self { site: Site::start(), folder: tempfile::tempdir().expect("a folder") };
        for part in ["near", "far"] {
            fs::create_dir(far.path(part)).expect("made");
        }
        symlink("/bin/sh", far.path("far/sh")).expect("a link");
        let log = shown(&far.path("log"));
        let path = shown(&far.path("far"));
        let state = shown(&far.site.path("state"));
        far.script(
            "near/ssh",
            &format!(
                "echo \"$$ $*\" >> {log}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
                 KEEL_STATE={state} PATH={path} exec /bin/sh -c \"exec $*\"\n"
            ),
        );
        if let Some(text) = docker {
            far.script("far/docker", text);
        }
        if has_keel {
            symlink(env!("CARGO_BIN_EXE_keel"), far.path("far/keel")).expect("a link");
        }
        far
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let file = self.path(name);
        fs::write(&file, format!("#!/bin/sh\n{text}")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn keel(&self, arguments: &[&str]) -> Command {
        let mut command = keel(&[&["-H", "ssh://ops@far.example:2222"], arguments].concat());
        command.env("PATH", self.path("near")).env_remove("SSH_ASKPASS");
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(self.keel(arguments).output().expect("runs"))
    }

    /// Process and arguments of each `ssh` that was started.
    fn logins(&self) -> Vec<(Pid, String)> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let line = |line: &str| {
            let (pid, arguments) = line.split_once(' ')?;
            Some((Pid::from_raw(pid.parse().ok()?)?, arguments.to_owned()))
        };
        log.lines().filter_map(line).collect()
    }
}

/// As Docker's own client joins the two: `docker system dial-stdio`.
fn docker_there() -> String {
    let keel = env!("CARGO_BIN_EXE_keel");
    format!("[ \"$*\" = \"system dial-stdio\" ] || exit 64\nexec {keel} dial-stdio\n")
}

#[test]
fn docker_on_the_other_machine_leads_to_its_engine_with_one_login() {
    let far = Far::with(Some(&docker_there()), false);
    assert_eq!(far.site.deploy("v1", &[]).code, 0);
    let listed = far.run(&["ls", "-q"]);
    assert_eq!((listed.code, listed.out.as_str()), (0, "site_work\n"), "{}", listed.err);
    let logins = far.logins();
    let expected = "-l ops -p 2222 -o ConnectTimeout=30 -o BatchMode=yes -T -- far.example sh -c \
                    'command -v keel >/dev/null && exec keel dial-stdio; exec docker system \
                    dial-stdio'";
    assert_eq!(logins.iter().map(|(_, said)| said.as_str()).collect::<Vec<_>>(), [expected]);
    await_state("the login ended", || test_kill_process(logins[0].0).is_err());
    let scaled = far.run(&["scale", "site_work=3"]);
    assert_eq!(scaled.code, 0, "{}", scaled.err);
    let engine = "embedded engine 0.1.0 at ssh://ops@far.example:2222 (-H)\n";
    assert!(scaled.err.starts_with(engine), "{}", scaled.err);
    assert!(far.logins().len() <= 3, "{:?}", far.logins());
    let again = far.run(&[
        "deploy",
        "-c",
        &shown(&far.site.path("docker-stack.yml")),
        "site",
        "--version",
        "v1",
        "--skip-build",
    ]);
    assert_eq!(again.code, 0, "{}", again.err);
}

#[test]
fn keel_on_the_other_machine_comes_before_docker_unless_it_leads_nowhere() {
    let far = Far::with(Some("exit 64\n"), true);
    let listed = far.run(&["ls"]);
    assert!(listed.code == 0 && listed.err.contains("no services yet"), "{}", listed.err);
    assert_eq!(far.logins().len(), 1);

    let far = Far::with(Some(&docker_there()), false);
    far.script("far/keel", "echo no engine >&2\nexit 1\n");
    let listed = far.run(&["ls"]);
    assert!(listed.code == 0 && listed.err.contains("no services yet"), "{}", listed.err);
    let ways: Vec<_> = far.logins().into_iter().map(|(_, said)| said).collect();
    assert_eq!(ways.len(), 2, "{ways:?}");
    assert!(ways[1].ends_with("far.example docker system dial-stdio"), "{ways:?}");
}

#[test]
fn what_neither_leads_to_is_said_in_their_words() {
    let far = Far::with(Some("echo Cannot connect to the Docker daemon >&2\nexit 1\n"), false);
    let refused = far.run(&["ls"]);
    assert_eq!(refused.code, 1);
    for part in [
        "the engine at ssh://ops@far.example:2222 (-H) cannot be reached: ",
        ": Cannot connect to the Docker daemon (exit 1 there)\n",
    ] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    far.script("far/keel", "echo no engine >&2\nexit 3\n");
    let both = ": no engine (exit 3 there); Cannot connect to the Docker daemon (exit 1 there)\n";
    let refused = far.run(&["ls"]);
    assert!(refused.err.contains(both), "{}", refused.err);
    for command in ["keel", "docker"] {
        fs::remove_file(far.path("far").join(command)).expect("gone");
    }
    let none = far.run(&["ls"]);
    assert!(
        none.err.contains(": neither `keel` nor `docker` is on the PATH there\n"),
        "{}",
        none.err
    );
    far.script("near/ssh", "echo 'ops@far: Permission denied (publickey).' >&2\nexit 255\n");
    let denied = far.run(&["ls"]);
    let end = "cannot be reached: ssh: ops@far: Permission denied (publickey).\n";
    assert!(denied.code == 1 && denied.err.contains(end), "{}", denied.err);
    fs::remove_file(far.path("near/ssh")).expect("gone");
    assert!(far.run(&["ls"]).err.contains("there is no `ssh` on the PATH"));
    for wrong in ["ssh://-oProxyCommand=x", "ssh://ops:hush@far"] {
        let refused = said(keel(&["-H", wrong, "ls"]).output().expect("runs"));
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(!refused.err.contains("hush"), "{}", refused.err);
    }
}

#[test]
fn a_followed_log_comes_through_and_its_login_ends_with_it() {
    let far = Far::with(Some(&docker_there()), false);
    assert_eq!(far.site.deploy("v1", &[]).code, 0);
    let mut command = far.keel(&["logs", "-f", "-q", "site_work"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("read"), "started");
    kill_process(Pid::from_child(&child), Signal::INT).expect("told to end");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    for (login, _) in far.logins() {
        await_state("the login ended", || test_kill_process(login).is_err());
    }
}

#[test]
fn bytes_are_joined_both_ways_and_an_end_of_one_leaves_the_other() {
    let far = Far::with(None, true);
    let mut command = keel(&["dial-stdio"]);
    command.env("KEEL_STATE", far.site.path("state")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    drop(input);
    let mut answer = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("read");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("OK"), "{answer}");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
