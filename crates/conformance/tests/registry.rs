//! `keel deploy` on a Docker daemon with a registry (Debian's `docker-registry`) that wants a login.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use conformance::{
    build,
    engine::{Engine, Kind, missing_for_dockerd},
    registry::{PASSWORD, Registry},
    until,
};

/// A stack of one service, whose image the registry is to have.
struct Site {
    folder: tempfile::TempDir,
    engine: Engine,
    keel: PathBuf,
}

impl Site {
    fn start(registry: &str, folder: tempfile::TempDir) -> Result<Self> {
        let keel = build("cli", None)?;
        let app = build("conformance", Some("semapp"))?;
        fs::copy(app, folder.path().join("app"))?;
        let stack = format!(
            "services:\n  app:\n    image: {registry}/team/app:${{VERSION}}\n    \
             x-evenkeel:\n      artifact: {{files: {{/app: app}}, entrypoint: [/app]}}\n"
        );
        fs::write(folder.path().join("docker-stack.yml"), stack)?;
        let engine = Engine::start(Kind::Dockerd, &keel)?;
        Ok(Self { folder, engine, keel })
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        Ok(Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DOCKER_HOST", format!("unix://{}", self.engine.socket.display()))
            .env("DOCKER_CONFIG", self.folder.path().join("client"))
            .env("KEEL_NO_HUB", "1")
            .stdin(Stdio::null())
            .output()?)
    }

    fn deploy(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = self.command(&self.keel, &[&["deploy", "site"], arguments].concat())?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(Path::new("docker"), arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {}: {said}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The image in the spec of the service.
    fn image(&self) -> Result<String> {
        let format = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
        self.docker(&["service", "inspect", "--format", format, "site_app"])
    }
}

#[test]
fn what_was_built_is_pushed_and_runs_by_its_digest() -> Result<()> {
    if let Some(missing) = missing_for_dockerd() {
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "no Docker daemon: {missing}");
        eprintln!("skipped: {missing}");
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("keel-").tempdir()?;
    let registry = Registry::start()?;
    let site = Site::start(&registry.host, folder)?;
    let name = |version: &str| format!("{}/team/app:{version}", registry.host);

    let (is_done, said) = site.deploy(&["--version", "v1"])?;
    ensure!(!is_done && said.contains("push-failed"), "without a login: {said}");
    ensure!(said.contains("docker login") && said.contains("nothing was changed"), "{said}");
    ensure!(site.docker(&["service", "ls", "-q"])?.is_empty(), "something was changed");

    // As `docker login` writes it: base64 of the name, a colon and the password.
    let login = format!(r#"{{"auths":{{"{}":{{"auth":"YWxpY2U6b2YtYWxpY2U="}}}}}}"#, registry.host);
    fs::create_dir_all(site.folder.path().join("client"))?;
    fs::write(site.folder.path().join("client/config.json"), login)?;
    let (is_done, said) = site.deploy(&["--version", "v1"])?;
    ensure!(is_done, "{said}");
    let first = site.image()?;
    ensure!(first.starts_with(&format!("{}@sha256:", name("v1"))), "{first}");
    let digest = first.split('@').nth(1).unwrap_or_default();
    let known = site.docker(&["image", "inspect", "--format", "{{.RepoDigests}}", &name("v1")])?;
    ensure!(known.contains(digest), "{known} is not {digest}");
    ensure!(!said.contains(PASSWORD) && !said.contains("YWxpY2U"), "the login is shown: {said}");

    // The same image under another tag is only in the registry: a node gets it with our login.
    site.docker(&["tag", &name("v1"), &name("v2")])?;
    site.docker(&["push", "-q", &name("v2")])?;
    site.docker(&["service", "rm", "site_app"])?;
    until("no image is left", || {
        let ids = site.docker(&["images", "-q", "--no-trunc"])?;
        for id in ids.lines() {
            // It is refused while the last container is there.
            let _ = site.docker(&["rmi", "-f", id]);
        }
        Ok(ids.is_empty())
    })?;
    let (is_done, said) = site.deploy(&["--version", "v2", "--skip-build"])?;
    ensure!(is_done, "{said}");
    ensure!(site.image()? == format!("{}@{digest}", name("v2")), "{}", site.image()?);

    // Without the registry it is brought as it is.
    let (is_done, said) = site.deploy(&["--version", "v3", "--no-push"])?;
    ensure!(is_done, "{said}");
    ensure!(site.image()? == name("v3"), "{}", site.image()?);
    Ok(())
}
