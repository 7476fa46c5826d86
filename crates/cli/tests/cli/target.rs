//! Which engine is talked to, why, and in which version.

use std::fs;

use serde_json::Value;

use super::{Said, engine::Engine, keel, said, shown, site::Site};

/// Docker's settings with the context `prod` and that one as the current one.
struct Settings(tempfile::TempDir);

impl Settings {
    fn with_prod(host: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Docker's name for the folder: the SHA-256 of `prod`.
        let id = "6754af9632a2745e85c293e5aac0863370d9bd3330b9938c00cadfd215227d77";
        let place = folder.path().join("contexts/meta").join(id);
        fs::create_dir_all(&place).expect("made");
        let engine = serde_json::json!({ "Host": host, "SkipTLSVerify": false });
        let meta = serde_json::json!({ "Name": "prod", "Endpoints": { "docker": engine } });
        fs::write(place.join("meta.json"), meta.to_string()).expect("written");
        fs::write(folder.path().join("config.json"), r#"{"currentContext":"prod"}"#)
            .expect("written");
        Self(folder)
    }

    fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = keel(arguments);
        command.env("DOCKER_CONFIG", self.0.path()).envs(env.iter().copied());
        said(command.output().expect("runs"))
    }
}

#[test]
fn the_engine_and_why_it_is_this_one_are_told() {
    let (engine, other) = (Engine::start(), Engine::start());
    let settings = Settings::with_prod(engine.host());
    let line = |host: &str, why: &str| {
        format!("keel    0.1.0\nengine  engine 1.2.3 (API 1.47) at {host} ({why})\n")
    };
    let (prod, there) = (engine.host(), other.host());
    let told = |arguments: &[&str], env: &[(&str, &str)]| {
        let told = settings.run(arguments, env);
        assert_eq!(told.code, 0, "{}", told.err);
        told.out
    };
    assert_eq!(told(&["version"], &[]), line(prod, "current docker context prod"));
    let env = [("DOCKER_CONTEXT", "prod")];
    assert_eq!(told(&["version"], &env), line(prod, "DOCKER_CONTEXT=prod"));
    let env = [("DOCKER_HOST", there)];
    assert_eq!(told(&["version", "-H", there], &[]), line(there, "-H"));
    assert_eq!(told(&["version"], &env), line(there, "DOCKER_HOST"));
    assert_eq!(told(&["--context", "prod", "version"], &env), line(prod, "--context prod"));
    let json: Value = serde_json::from_str(&told(&["version", "--json"], &[])).expect("is JSON");
    assert_eq!(
        (&json["host"], &json["why"], &json["kind"], &json["api"]),
        (&prod.into(), &"current docker context prod".into(), &"other".into(), &"1.47".into())
    );
}

#[test]
fn docker_host_before_the_current_context_is_said() {
    let engine = Engine::start();
    let settings = Settings::with_prod("tcp://127.0.0.1:1");
    let said = settings.run(&["ls"], &[("DOCKER_HOST", engine.host())]);
    assert_eq!(said.code, 0, "{}", said.err);
    let warning =
        "warning: DOCKER_HOST overrides the context `prod`; --context prod would use it\n";
    assert_eq!(said.err, warning);
}

#[test]
fn a_context_that_is_not_there_and_two_engines_at_once_are_usage_errors() {
    let settings = Settings::with_prod("tcp://127.0.0.1:1");
    let unknown = settings.run(&["--context", "pord", "ls"], &[]);
    assert_eq!(unknown.code, 2);
    assert_eq!(
        unknown.err,
        "error[docker-context]: no docker context is called `pord`\nhint: there are default, prod\n"
    );
    let both = settings.run(&["-H", "tcp://127.0.0.1:1", "ls", "--context", "prod"], &[]);
    assert_eq!(both.code, 2);
    let daemon = settings.run(&["--context", "prod", "daemon"], &[]);
    assert_eq!(daemon.code, 2, "{}", daemon.err);
}

#[test]
fn an_engine_that_cannot_be_reached_is_named_with_the_reason_for_it() {
    let settings = Settings::with_prod("tcp://127.0.0.1:1");
    let said = settings.run(&["ls"], &[]);
    assert_eq!(said.code, 1);
    let start = "error[engine-not-reachable]: the engine at tcp://127.0.0.1:1 (current docker \
                 context prod) cannot be reached: ";
    assert!(said.err.starts_with(start), "{}", said.err);
}

#[test]
fn a_named_state_folder_means_keels_own_engine() {
    let said = super::run(&["--context", "default", "version"]);
    let engine = "the engine at unix:///nonexistent/keel/run/engine.sock (KEEL_STATE) cannot be \
                  reached";
    assert!(said.out.contains(engine), "{}", said.out);
    let site = Site::start();
    let own = site.run(&["version", "--state-dir", &shown(&site.path("state"))], &[]);
    assert!(own.out.contains("embedded engine 0.1.0 (API 1.47) at unix://"), "{}", own.out);
    assert!(own.out.ends_with("(KEEL_STATE)\n"), "{}", own.out);
}

#[test]
fn an_engine_older_than_19_03_is_refused_and_one_of_it_is_understood() {
    let ask = |engine: &Engine, arguments: &[&str]| {
        said(keel(arguments).env("DOCKER_HOST", engine.host()).output().expect("runs"))
    };
    let old = ask(&Engine::speaking("1.39"), &["ls"]);
    assert_eq!(old.code, 1);
    assert!(
        old.err.contains("(DOCKER_HOST) speaks API 1.39 at most; keel needs 1.40"),
        "{}",
        old.err
    );
    let engine = Engine::speaking("1.40");
    let mut service: Value = super::engine::service();
    service["ServiceStatus"] = Value::Null;
    engine.json("GET /services", &serde_json::json!([service]));
    let listed = ask(&engine, &["ls", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).expect("is JSON");
    assert_eq!((&listed[0]["running"], &listed[0]["desired"]), (&1.into(), &2.into()));
}

#[test]
fn a_newer_engine_is_spoken_to_in_the_newest_version_that_keel_knows() {
    let engine = Engine::speaking("1.99");
    engine.json("GET /v1.47/version", &serde_json::json!({ "Version": "99.0" }));
    let version = |oldest: &str| {
        let told = serde_json::json!({ "ApiVersion": "1.99", "MinAPIVersion": oldest });
        engine.json("GET /version", &told);
        said(keel(&["version"]).env("DOCKER_HOST", engine.host()).output().expect("runs")).out
    };
    assert!(version("1.44").contains("engine 99.0 (API 1.47)"), "{}", version("1.44"));
    let refused = version("1.60");
    assert!(refused.contains("speaks API 1.60 at least; this keel knows 1.47"), "{refused}");
}

#[test]
fn docker_without_a_swarm_is_told_how_to_make_one() {
    let engine = Engine::start();
    let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
                join\" to connect this node to swarm and try again.";
    let body = serde_json::json!({ "message": text }).to_string();
    engine.answer("GET /services", 503, body.into_bytes());
    let mut command = keel(&["ls"]);
    let refused = said(command.env("DOCKER_HOST", engine.host()).output().expect("runs"));
    assert_eq!(refused.code, 1);
    let expected = format!(
        "error[not-a-manager]: {text}\nhint: make it one: `docker swarm init` on that machine\n"
    );
    assert_eq!(refused.err, expected);
}
