//! Which engine is meant: first what somebody named, else what this machine has. Pure; the reason
//! is kept with the choice.
//!
//! ```text
//! -H ▶ --context ▶ DOCKER_HOST ▶ DOCKER_CONTEXT ▶ current context ▶ this machine:
//!      a named state folder ▶ a daemon of keel's ▶ root's daemon of keel's ▶ Docker that answers
//!      ▶ keel's own
//! ```
//!
//! The first line is the order of Docker's client (`cli/command`, `resolveContextName`).

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Docker's name for "no context".
const DEFAULT: &str = "default";

/// What was said, and where.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `-H`
    pub host: Option<String>,
    /// `--context`
    pub context: Option<String>,
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub docker_context: Option<String>,
    /// `currentContext` of Docker's `config.json`, or why that file cannot be read.
    pub current: Option<Result<String, Failure>>,
}

/// What was said, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Host {
        host: String,
        why: String,
        warning: Option<String>,
    },
    Context {
        name: String,
        why: String,
    },
    /// Nothing was said: what this machine has.
    ThisMachine,
}

/// Understands what was said.
pub fn wish(said: Said) -> Result<Wish, Failure> {
    let Said { host, context, docker_host, docker_context, current } = said;
    if host.is_some() && context.is_some() {
        return Err(
            Failure::usage("-H and --context name two engines").hint("give one of them, not both")
        );
    }
    if let Some(host) = host {
        return Ok(Wish::Host { host, why: "-H".to_owned(), warning: None });
    }
    if let Some(name) = context.clone().filter(|name| name != DEFAULT) {
        return Ok(Wish::Context { why: format!("--context {name}"), name });
    }
    if let Some(host) = docker_host {
        // `--context default` is `DOCKER_HOST` too, and says that this is meant.
        let set = docker_context.or_else(|| current?.ok());
        let overridden = set.filter(|name| context.is_none() && name != DEFAULT);
        let warning = overridden.map(|name| {
            format!("DOCKER_HOST overrides the context `{name}`; --context {name} would use it")
        });
        return Ok(Wish::Host { host, why: "DOCKER_HOST".to_owned(), warning });
    }
    if context.is_some() {
        return Ok(Wish::ThisMachine);
    }
    if let Some(name) = docker_context {
        let why = format!("DOCKER_CONTEXT={name}");
        return Ok(if name == DEFAULT { Wish::ThisMachine } else { Wish::Context { name, why } });
    }
    match current.transpose()? {
        Some(name) if name != DEFAULT => {
            Ok(Wish::Context { why: format!("current docker context {name}"), name })
        }
        Some(_) | None => Ok(Wish::ThisMachine),
    }
}

/// Keel's own engine on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Its folder was named: by `--state-dir` or `KEEL_STATE`.
    Named(&'static str),
    /// It answers, or its folder has its state.
    There,
    Absent,
}

/// A socket where Docker listens usually.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    Absent,
    Answers,
    /// Why it does not.
    Silent(String),
}

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nearest {
    Own { why: String },
    Docker { socket: PathBuf, why: String },
}

/// Chooses among the engines of this machine; the first socket of Docker's that answers.
pub fn nearest(own: Own, sockets: &[(&Path, Socket)]) -> Nearest {
    match own {
        Own::Named(how) => return Nearest::Own { why: how.to_owned() },
        Own::There => return Nearest::Own { why: "keel's daemon of this machine".to_owned() },
        Own::Absent => {}
    }
    if let Some((path, _)) = sockets.iter().find(|(_, socket)| *socket == Socket::Answers) {
        let why = "Docker of this machine".to_owned();
        return Nearest::Docker { socket: path.to_path_buf(), why };
    }
    let silent = sockets.iter().find_map(|(path, socket)| match socket {
        Socket::Silent(reason) => Some((path, reason)),
        Socket::Absent | Socket::Answers => None,
    });
    let why = silent.map_or_else(
        || "no Docker here".to_owned(),
        |(path, reason)| format!("Docker at {} does not answer: {reason}", path.display()),
    );
    Nearest::Own { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn host(host: &str, why: &str) -> Wish {
        Wish::Host { host: host.to_owned(), why: why.to_owned(), warning: None }
    }

    fn context(name: &str, why: &str) -> Wish {
        Wish::Context { name: name.to_owned(), why: why.to_owned() }
    }

    #[test]
    fn what_is_named_closest_to_the_command_wins() {
        let mut said = Said {
            host: text("tcp://a:1"),
            context: None,
            docker_host: text("tcp://b:1"),
            docker_context: text("two"),
            current: Some(Ok("three".to_owned())),
        };
        assert_eq!(wish(said.clone()), Ok(host("tcp://a:1", "-H")));
        said.host = None;
        let named = Said { context: text("one"), ..said.clone() };
        assert_eq!(wish(named), Ok(context("one", "--context one")));
        let Ok(Wish::Host { host, why, warning }) = wish(said.clone()) else { panic!("a host") };
        assert_eq!((host.as_str(), why.as_str()), ("tcp://b:1", "DOCKER_HOST"));
        assert!(warning.is_some_and(|text| text.contains("overrides the context `two`")));
        said.docker_host = None;
        assert_eq!(wish(said.clone()), Ok(context("two", "DOCKER_CONTEXT=two")));
        said.docker_context = None;
        assert_eq!(wish(said.clone()), Ok(context("three", "current docker context three")));
        said.current = None;
        assert_eq!(wish(said), Ok(Wish::ThisMachine));
    }

    #[test]
    fn the_context_default_is_no_context() {
        let three = || Some(Ok("three".to_owned()));
        let said = Said { context: text("default"), current: three(), ..Said::default() };
        assert_eq!(wish(said.clone()), Ok(Wish::ThisMachine));
        let with_host = Said { docker_host: text("tcp://b:1"), ..said };
        assert_eq!(wish(with_host), Ok(host("tcp://b:1", "DOCKER_HOST")));
        let said = Said { docker_context: text("default"), current: three(), ..Said::default() };
        assert_eq!(wish(said), Ok(Wish::ThisMachine));
        let said = Said { current: Some(Ok("default".to_owned())), ..Said::default() };
        assert_eq!(wish(said), Ok(Wish::ThisMachine));
    }

    #[test]
    fn two_engines_named_at_once_are_a_mistake() {
        let said = Said { host: text("tcp://a:1"), context: text("one"), ..Said::default() };
        let failure = wish(said).expect_err("a conflict");
        assert_eq!(failure.exit, crate::failure::Exit::Usage);
    }

    #[test]
    fn an_unreadable_config_only_matters_where_it_decides() {
        let broken = || Some(Err(Failure::usage("broken")));
        let said = Said { docker_host: text("tcp://b:1"), current: broken(), ..Said::default() };
        assert_eq!(wish(said), Ok(host("tcp://b:1", "DOCKER_HOST")));
        assert!(wish(Said { current: broken(), ..Said::default() }).is_err());
    }

    #[test]
    fn keels_own_engine_comes_before_docker_where_there_is_one() {
        let (system, rootless) = (Path::new("/var/run/docker.sock"), Path::new("/r/docker.sock"));
        let both = [(system, Socket::Answers), (rootless, Socket::Answers)];
        let own = |why: &str| Nearest::Own { why: why.to_owned() };
        assert_eq!(nearest(Own::Named("KEEL_STATE"), &both), own("KEEL_STATE"));
        assert_eq!(nearest(Own::There, &both), own("keel's daemon of this machine"));
        let docker = |socket: &Path| Nearest::Docker {
            socket: socket.to_owned(),
            why: "Docker of this machine".to_owned(),
        };
        assert_eq!(nearest(Own::Absent, &both), docker(system));
        let denied = Socket::Silent("permission denied".to_owned());
        let second = [(system, denied.clone()), (rootless, Socket::Answers)];
        assert_eq!(nearest(Own::Absent, &second), docker(rootless));
        let none = [(system, denied), (rootless, Socket::Absent)];
        let why = "Docker at /var/run/docker.sock does not answer: permission denied";
        assert_eq!(nearest(Own::Absent, &none), own(why));
        assert_eq!(nearest(Own::Absent, &[]), own("no Docker here"));
    }
}
