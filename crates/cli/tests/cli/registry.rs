//! A real registry (Debian's `docker-registry`) with TLS and passwords, and the docker client.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{Said, await_state, said, site::Site};

/// `alice` with the password `of-alice`, as `htpasswd -B` writes it.
const USERS: &str = "alice:$2y$05$32z7As7keqdq.SR38kAKx.rshqr2iiS1vvwTGvCUWZBQrzzvIfHjy\n";

struct Registry {
    folder: tempfile::TempDir,
    process: Child,
    host: String,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("keel-").tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let host = format!("127.0.0.1:{}", port.port());
        let path = |name: &str| folder.path().join(name);
        let (ca, certificate, key) = certificates();
        for (name, text) in [
            ("ca.crt", &ca),
            ("cert.pem", &certificate),
            ("key.pem", &key),
            ("users", &USERS.into()),
        ] {
            fs::write(path(name), text).expect("written");
        }
        let at = folder.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             http: {{addr: \"{host}\", tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {at}/users}}}}\n"
        );
        fs::write(path("config.yml"), config).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: `scripts/setup test` does it");
        await_state("the registry", || TcpStream::connect(&host).is_ok());
        Self { folder, process, host }
    }

    fn docker(&self, site: &Site, arguments: &[&str]) -> Said {
        self.docker_says(site, arguments, "")
    }

    fn docker_says(&self, site: &Site, arguments: &[&str], input: &str) -> Said {
        let socket = site.path("state/run/engine.sock");
        let mut child = Command::new("docker")
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.folder.path().join("client"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the docker client is installed: `scripts/setup test` does it");
        let mut pipe = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut pipe, input.as_bytes()).expect("written");
        drop(pipe);
        said(child.wait_with_output().expect("ends"))
    }

    fn log_in(&self, site: &Site, password: &str) -> Said {
        let arguments = ["login", "-u", "alice", "--password-stdin", self.host.as_str()];
        self.docker_says(site, &arguments, password)
    }

    fn trust(&self, site: &Site) {
        let folder = site.path("state/certs.d").join(&self.host);
        fs::create_dir_all(&folder).expect("made");
        fs::copy(self.folder.path().join("ca.crt"), folder.join("ca.crt")).expect("copied");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A throw-away CA, and a certificate of it for the loopback address.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&ca_key).expect("signed").pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = own.signed_by(&key, &issuer).expect("signed");
    (ca, certificate.pem(), key.serialize_pem())
}

fn holds(folder: &Path, needle: &str) -> bool {
    fs::read_dir(folder).expect("a folder").flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[test]
fn an_image_goes_to_a_registry_and_a_service_comes_from_it_with_its_login() {
    let (site, registry) = (Site::start(), Registry::start());
    assert_eq!(site.deploy("v1", &[]).code, 0);
    let name = format!("{}/team/work:v1", registry.host);
    let docker = |arguments: &[&str]| registry.docker(&site, arguments);
    assert_eq!(docker(&["tag", "work:v1", &name]).code, 0);
    let unknown = docker(&["push", &name]);
    assert!(unknown.code != 0 && unknown.err.contains("certs.d"), "{}", unknown.err);
    registry.trust(&site);
    let anonymous = docker(&["push", &name]);
    assert!(anonymous.err.contains("push access denied"), "{}", anonymous.err);
    assert!(registry.log_in(&site, "wrong").err.contains("unauthorized"));
    let login = registry.log_in(&site, "of-alice");
    assert_eq!(login.code, 0, "{}", login.err);
    let pushed = docker(&["push", &name]);
    assert!(pushed.out.contains("digest: sha256:"), "{} {}", pushed.out, pushed.err);
    assert_eq!(docker(&["rmi", &name]).code, 0);
    assert_eq!(docker(&["service", "rm", "site_work"]).code, 0);
    await_state("the image's end", || docker(&["rmi", "work:v1"]).code == 0);

    let without = ["service", "create", "-d", "--no-resolve-image", "--restart-condition", "none"];
    assert_eq!(docker(&[&without[..], &["--name", "without", &name]].concat()).code, 0);
    await_state("the task without a login", || {
        let tasks = docker(&["service", "ps", "--no-trunc", "without"]).out;
        tasks.contains("Rejected") && tasks.contains(&format!("No such image: {name}: pull access"))
    });

    let with = ["service", "create", "-d", "--with-registry-auth", "--name", "with", name.as_str()];
    assert_eq!(docker(&with).code, 0);
    await_state("the task with a login", || {
        let states = docker(&["service", "ps", "--format", "{{.CurrentState}}", "with"]).out;
        states.contains("Running")
    });
    let shown = docker(&["service", "inspect", "with"]).out;
    assert!(shown.contains("work:v1@sha256:") && !shown.to_lowercase().contains("auth"), "{shown}");
    let digests = docker(&["images", "--digests", "--format", "{{.Repository}} {{.Digest}}"]).out;
    assert!(digests.contains("/team/work sha256:"), "{digests}");
    assert!(!holds(&site.path("state"), "of-alice"));
    // `alice:of-alice` and the beginning of the login in base64.
    assert!(!holds(&site.path("state"), "YWxpY2U6b2YtYWxpY2U"));
    assert!(!holds(&site.path("state"), "eyJ1c2VybmFtZSI6ImFsaWNl"));
}

#[test]
fn pull_save_and_load_work_with_the_docker_client() {
    let (site, registry) = (Site::start(), Registry::start());
    registry.trust(&site);
    assert_eq!(site.deploy("v1", &[]).code, 0);
    assert_eq!(registry.log_in(&site, "of-alice").code, 0);
    let name = format!("{}/work:v1", registry.host);
    let docker = |arguments: &[&str]| registry.docker(&site, arguments);
    assert_eq!(docker(&["tag", "work:v1", &name]).code, 0);
    assert_eq!(docker(&["push", "-q", &name]).code, 0);
    let id = docker(&["images", "-q", "--no-trunc", "work:v1"]).out;
    let archive = site.path("work.tar");
    let archive = archive.to_str().expect("text");
    assert_eq!(docker(&["save", "-o", archive, "work:v1", &name]).code, 0);

    let other = Site::start();
    registry.trust(&other);
    let docker = |arguments: &[&str]| registry.docker(&other, arguments);
    let missing = docker(&["pull", &format!("{}/work:v9", registry.host)]);
    assert!(missing.err.contains("manifest unknown"), "{}", missing.err);
    let pulled = docker(&["pull", &name]);
    assert!(pulled.out.contains("Pull complete"), "{} {}", pulled.out, pulled.err);
    assert!(docker(&["pull", &name]).out.contains("Image is up to date"));
    assert_eq!(docker(&["images", "-q", "--no-trunc", &name]).out, id);
    assert_eq!(docker(&["rmi", &name]).code, 0);
    assert_eq!(docker(&["images", "-aq"]).out, "");
    let loaded = docker(&["load", "-i", archive]);
    assert!(loaded.out.contains("Loaded image: work:v1"), "{} {}", loaded.out, loaded.err);
    assert_eq!(docker(&["images", "-q", "--no-trunc", "work:v1"]).out, id);
    assert!(docker(&["history", "work:v1"]).out.contains("keel build"));
    let found = |filter: &str| docker(&["images", "-q", "--filter", filter]).out.lines().count();
    assert_eq!(
        (found("reference=work"), found("reference=*:v2"), found("dangling=true")),
        (1, 0, 0)
    );
    let several = docker(&["rmi", id.trim()]);
    assert!(several.err.contains("must be forced"), "{}", several.err);
    assert_eq!(docker(&["rmi", "-f", id.trim()]).code, 0);
    assert_eq!(docker(&["images", "-aq"]).out, "");
}
