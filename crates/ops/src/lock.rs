//! One deploy at a time per stack: a config object in the engine, so the lock is where the services
//! are. One whose holder is dead, or that was not renewed, may be taken over.

use std::time::Duration;

use dockerapi::{Client, client::Kind, stamp};
use serde_json::{Value, json};

use crate::error::{Class, Error};

/// A lock that was not renewed for so long is nobody's.
const LIFETIME: Duration = Duration::from_secs(60);
const RENEWAL: Duration = Duration::from_secs(15);

/// A held lock; renewed until it is released.
#[derive(Debug)]
pub struct Lock {
    client: Client,
    name: String,
    renewing: tokio::task::JoinHandle<()>,
}

fn name(stack: &str) -> String {
    format!("evenkeel.{stack}.lock")
}

fn labels(stack: &str, what: &str) -> Value {
    json!({
        "evenkeel.kind": "lock",
        "evenkeel.stack": stack,
        "evenkeel.lock.what": what,
        "evenkeel.lock.pid": std::process::id().to_string(),
        "evenkeel.lock.host": hostname(),
        "evenkeel.lock.by": user(),
        "evenkeel.lock.renewed": stamp::text(stamp::now()),
    })
}

/// Takes the lock of a stack. A warning tells when a dead one was taken over.
pub async fn take(
    client: &Client,
    stack: &str,
    what: &str,
) -> Result<(Lock, Option<String>), Error> {
    let name = name(stack);
    let mut taken_over = None;
    for _ in 0..3 {
        let spec = json!({ "Name": name, "Labels": labels(stack, what), "Data": "bG9jaw==" });
        match client.create_blob(Kind::Config, &spec).await {
            Ok(_) => {
                let renewing = tokio::spawn(renew(client.clone(), name.clone()));
                return Ok((Lock { client: client.clone(), name, renewing }, taken_over));
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        let Ok(held) = client.blob(Kind::Config, &name).await else { continue };
        let label = |key: &str| {
            let value = held.pointer(&format!("/Spec/Labels/evenkeel.lock.{key}"));
            value.and_then(Value::as_str).unwrap_or("").to_owned()
        };
        let holder = format!(
            "{} by {} on {} (process {}) since {}",
            label("what"),
            label("by"),
            label("host"),
            label("pid"),
            label("renewed")
        );
        if !is_dead(&label("host"), &label("pid"), &label("renewed")) {
            return Err(Error::new(
                "deploy-locked",
                format!("stack `{stack}` is locked: {holder}"),
            )
            .hint("wait for it to end; a lock whose holder died is taken over by itself")
            .class(Class::Locked));
        }
        let _ = client.remove_blob(Kind::Config, &name).await;
        taken_over = Some(format!("the lock of an interrupted run was taken over: {holder}"));
    }
    Err(Error::new("deploy-locked", format!("stack `{stack}` is locked by several at once"))
        .hint("try again")
        .class(Class::Locked))
}

/// The holder is gone: its process on this host has ended, or it stopped renewing.
fn is_dead(host: &str, pid: &str, renewed: &str) -> bool {
    if host == hostname() {
        return !std::path::Path::new("/proc").join(pid).exists() || pid.is_empty();
    }
    stamp::parse(renewed).is_none_or(|at| stamp::now().since(at) > LIFETIME)
}

async fn renew(client: Client, name: String) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        let Ok(held) = client.blob(Kind::Config, &name).await else { continue };
        let mut spec = held["Spec"].clone();
        spec["Labels"]["evenkeel.lock.renewed"] = json!(stamp::text(stamp::now()));
        let version = held["Version"]["Index"].as_u64().unwrap_or(0);
        let _ = client.update_blob(Kind::Config, &name, version, &spec).await;
    }
}

impl Lock {
    pub async fn release(self) {
        self.renewing.abort();
        for _ in 0..20 {
            match self.client.remove_blob(Kind::Config, &self.name).await {
                Err(error) if error.is_passing() => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return,
            }
        }
    }
}

/// This machine's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who runs this.
pub fn user() -> String {
    let known = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|key| std::env::var(key).ok());
    known.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
