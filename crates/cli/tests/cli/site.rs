//! An engine of its own and a stack of one service that is a shell script.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::Value;

use super::{Said, await_state, keel, said};

/// `SCRIPT` chooses what a task does: `good` lives on, `bad` fails.
const STACK: &str = r#"
services:
  work:
    image: work:${VERSION}
    environment:
      GENERATION: "${VERSION}"
    healthcheck:
      test: ["CMD-SHELL", "test ! -e ${UNHEALTHY:-/nonexistent}"]
      interval: 200ms
      timeout: 2s
      retries: 2
    deploy:
      replicas: 2
      update_config:
        parallelism: 1
        delay: 0s
        monitor: 0s
        order: start-first
        failure_action: rollback
      restart_policy:
        condition: on-failure
        delay: 0s
        max_attempts: 1
        window: 60s
    x-evenkeel:
      progress_deadline: 60s
      artifact:
        files:
          /run.sh: run-${SCRIPT:-good}.sh
        entrypoint: ["/bin/sh", "/run.sh"]
"#;

/// An engine and a folder with a stack file.
pub struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("keel-").tempdir().expect("a folder");
        let site = Self { folder };
        fs::write(site.path("docker-stack.yml"), STACK).expect("written");
        fs::write(site.path("run-good.sh"), "echo started\nexec sleep 600\n").expect("written");
        fs::write(site.path("run-bad.sh"), "echo cannot work\nexit 7\n").expect("written");
        let started = site.run(&["daemon", "--background"], &[]);
        assert_eq!(started.code, 0, "{}", started.err);
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str], env: &[(&str, &str)]) -> std::process::Command {
        let mut command = keel(arguments);
        command
            .current_dir(self.folder.path())
            .env("KEEL_STATE", self.path("state"))
            .envs(env.iter().copied());
        command
    }

    pub fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        said(self.command(arguments, env).output().expect("runs"))
    }

    pub fn deploy(&self, version: &str, env: &[(&str, &str)]) -> Said {
        self.run(&["deploy", "site", "--version", version], env)
    }

    pub fn tasks(&self) -> Vec<Value> {
        let said = self.run(&["ps", "--json"], &[]);
        let all: Value = serde_json::from_str(&said.out).expect("is JSON");
        let all = all.as_array().cloned().expect("a list");
        all.into_iter().filter(|task| task["state"] == "running").collect()
    }

    /// The images of the tasks that run.
    pub fn runs(&self) -> Vec<String> {
        let image = |task: &Value| task["image"].as_str().unwrap_or("").to_owned();
        let mut images: Vec<String> = self.tasks().iter().map(image).collect();
        images.sort();
        images
    }

    /// Asks the engine over its socket: status and body.
    pub fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.ask_with(method, path, "")
    }

    /// The same with a body.
    pub fn ask_with(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut socket = UnixStream::connect(self.path("state/run/engine.sock")).expect("open");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: keel\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).expect("written");
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).expect("answered");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("is JSON")
    }

    /// A deploy whose new task never becomes healthy, caught in the middle.
    pub fn deploy_half(&self, version: &str) -> Child {
        let env = [("UNHEALTHY", "/bin/sh")];
        let mut command = self.command(&["deploy", "site", "--version", version], &env);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        let image = format!("work:{version}");
        await_state("a new task", || {
            let said = self.run(&["ps", "--json"], &[]);
            said.out.contains(&image)
        });
        child
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "--stop", "--all", "--yes"], &[]);
    }
}
