//! What a scenario works with: the real docker client, the bare API, and looks at the tasks.

use std::{
    cell::RefCell,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use conformance::engine::{Engine, Kind};
use serde_json::Value;

use crate::film::Shot;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// What a command said and how it ended; 124 when it was ended after its time.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The output when it went well.
    pub fn fine(self) -> Result<String> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.out, self.err);
        Ok(self.out)
    }

    /// It failed, and said this.
    pub fn refused(self, expected: &str) -> Result<()> {
        ensure!(self.code != 0, "it went well: {}", self.out);
        let all = format!("{}{}", self.out, self.err);
        ensure!(all.contains(expected), "said nothing of {expected:?}: {all}");
        Ok(())
    }
}

/// One scenario's view of an engine.
pub struct Exam<'a> {
    pub engine: &'a Engine,
}

impl Exam<'_> {
    pub fn is_embedded(&self) -> bool {
        self.engine.kind == Kind::Embedded
    }

    /// `docker WORDS`, words separated by blanks.
    pub fn docker(&self, words: &str) -> Result<Said> {
        self.docker_within(words, PATIENCE)
    }

    pub fn docker_within(&self, words: &str, time: Duration) -> Result<Said> {
        self.client(&words.split_whitespace().collect::<Vec<_>>(), "", time)
    }

    /// The docker client with this on its standard input.
    pub fn client(&self, arguments: &[&str], input: &str, time: Duration) -> Result<Said> {
        let mut child = Command::new("timeout")
            .args(["--signal=INT", "--kill-after=5", &time.as_secs_f64().to_string(), "docker"])
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.engine.socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run docker")?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The bare API: status, head, body.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<(u16, String, String)> {
        let (status, head, body) = self.ask(method, path, body)?;
        Ok((status, head, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The status and the body as it is.
    pub fn bytes(&self, method: &str, path: &str) -> Result<(u16, Vec<u8>)> {
        self.ask(method, path, "").map(|(status, _, body)| (status, body))
    }

    /// The status, the head in lower case, the body as it is.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String, Vec<u8>)> {
        let mut stream = UnixStream::connect(&self.engine.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("an answer")?;
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = match head.contains("transfer-encoding: chunked") {
            true => dechunk(&bytes[end + 4..]),
            false => bytes[end + 4..].to_vec(),
        };
        Ok((status.context("a status")?, head, body))
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        let (status, _, body) = self.api("GET", path, "")?;
        ensure!(status == 200, "GET {path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Method, path and body are refused with this status and these words.
    pub fn refuses(&self, asked: (&str, &str, &str), wanted: (u16, &str)) -> Result<()> {
        let (status, _, body) = self.api(asked.0, asked.1, asked.2)?;
        ensure!(status == wanted.0, "{asked:?}: {status} {body}");
        let said: Value = serde_json::from_str(&body).with_context(|| format!("{body:?}"))?;
        let message = text(&said["message"]);
        let is_said = message.to_lowercase().contains(&wanted.1.to_lowercase());
        ensure!(!message.is_empty() && is_said, "{asked:?}: {body}");
        Ok(())
    }

    pub fn service(&self, name: &str) -> Result<Value> {
        self.get(&format!("/v1.41/services/{name}"))
    }

    /// Tasks of a service, oldest first.
    pub fn tasks(&self, service: &str) -> Result<Vec<Value>> {
        let path = format!("/v1.41/tasks?filters={{%22service%22:[%22{service}%22]}}");
        let mut tasks = self.get(&path)?.as_array().cloned().unwrap_or_default();
        tasks.sort_by_key(|task| task["CreatedAt"].as_str().map(str::to_owned));
        Ok(tasks)
    }

    /// Ids of the tasks that are wanted and run.
    pub fn running(&self, service: &str) -> Result<Vec<String>> {
        Ok(Shot::new(Value::Null, self.tasks(service)?).serving())
    }

    /// Looks at a service and its tasks until the last look fits.
    pub fn film(
        &self,
        service: &str,
        what: &str,
        is_last: impl Fn(&Shot) -> bool,
    ) -> Result<Vec<Shot>> {
        self.film_within(service, what, PATIENCE, is_last)
    }

    pub fn film_within(
        &self,
        service: &str,
        what: &str,
        patience: Duration,
        is_last: impl Fn(&Shot) -> bool,
    ) -> Result<Vec<Shot>> {
        let shots = RefCell::new(Vec::new());
        let what = format!("{service}: {what}");
        self.until_within(&what, patience, || {
            let shot = Shot::new(self.service(service)?, self.tasks(service)?);
            let is_over = is_last(&shot);
            shots.borrow_mut().push(shot);
            Ok(is_over.then_some(()))
        })?;
        Ok(shots.into_inner())
    }

    /// The client's command and what is seen while it runs.
    pub fn meanwhile<T>(&self, words: &str, look: impl FnOnce() -> Result<T>) -> Result<(Said, T)> {
        std::thread::scope(|scope| {
            let command = scope.spawn(|| self.docker(words));
            let seen = look();
            let said = command.join().map_err(|_| anyhow!("the client's thread panicked"))?;
            Ok((said?, seen?))
        })
    }

    /// Containers of a service's tasks.
    pub fn containers(&self, service: &str) -> Result<Vec<String>> {
        let label = format!("label=com.docker.swarm.service.name={service}");
        let ids = self.docker(&format!("ps -q --no-trunc --filter {label}"))?.fine()?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// The container of a service with one replica, once that runs.
    pub fn container(&self, service: &str) -> Result<String> {
        self.until_running(service, 1)?;
        self.containers(service)?.pop().context("a container")
    }

    /// Removes the services a scenario left; theirs begin with its id.
    pub fn clean(&self, scenario: &str) {
        let prefix = scenario.to_lowercase();
        let path = format!("/v1.41/services?filters={{%22name%22:[%22{prefix}%22]}}");
        let left = self.get(&path).ok();
        for service in left.iter().filter_map(Value::as_array).flatten() {
            let _ = self.api("DELETE", &format!("/v1.41/services/{}", text(&service["ID"])), "");
        }
    }

    /// Rows of `docker service ps`: name, image, desired state, state without its age, error.
    pub fn rows(&self, service: &str) -> Result<Vec<String>> {
        let format = "{{.Name}}|{{.Image}}|{{.DesiredState}}|{{.CurrentState}}|{{.Error}}";
        let arguments = ["service", "ps", service, "--no-trunc", "--format", format];
        let out = self.client(&arguments, "", PATIENCE)?.fine()?;
        let row = |line: &str| {
            let mut fields: Vec<&str> = line.split('|').collect();
            if let Some(state) = fields.get_mut(3) {
                *state = state.split_whitespace().next().unwrap_or_default();
            }
            fields.join("|")
        };
        Ok(out.lines().map(row).collect())
    }

    /// Looks again and again until it is so.
    pub fn until<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        self.until_within(what, PATIENCE, look)
    }

    fn until_within<T>(
        &self,
        what: &str,
        patience: Duration,
        look: impl Fn() -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            if started.elapsed() > patience {
                bail!("not seen within {} s: {what}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    pub fn until_running(&self, service: &str, count: usize) -> Result<Vec<String>> {
        self.until(&format!("{count} running of {service}"), || {
            Ok(Some(self.running(service)?).filter(|ids| ids.len() == count))
        })
    }

    pub fn until_state(&self, service: &str, state: &str) -> Result<Value> {
        self.until(&format!("{service} is {state}"), || {
            let service = self.service(service)?;
            Ok((service["UpdateStatus"]["State"] == state).then_some(service))
        })
    }

    /// A detached service of the scenarios' own; the rest of the words comes before the image.
    pub fn create(&self, name: &str, words: &str, image: &str) -> Result<()> {
        let words = format!(
            "service create --detach --no-resolve-image --stop-grace-period 3s --name {name} {words} {image}"
        );
        self.docker(&words)?.fine().map(drop)
    }

    pub fn update(&self, name: &str, words: &str) -> Result<()> {
        let words = format!("service update --detach --no-resolve-image {words} {name}");
        self.docker(&words)?.fine().map(drop)
    }
}

/// An id as Swarm makes them.
pub fn is_id(id: &str) -> bool {
    id.len() == 25 && id.bytes().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let start = end + 2;
        if size == 0 || start + size > bytes.len() {
            break;
        }
        content.extend_from_slice(&bytes[start..start + size]);
        bytes = bytes.get(start + size + 2..).unwrap_or_default();
    }
    content
}
