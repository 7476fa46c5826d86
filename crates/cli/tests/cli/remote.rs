//! The engine over TCP: only with TLS, only for clients with a certificate.

use std::{fs, net::TcpListener, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{Said, keel, said, shown};

/// An engine's state, an address for it, and certificates for both sides.
struct Place {
    folder: tempfile::TempDir,
    host: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("keel-").tempdir().expect("a folder");
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        let place = Self { folder, host: format!("tcp://{}", free.expect("a free port")) };
        place.certify("ours");
        place.certify("theirs");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder as `DOCKER_CERT_PATH` has it.
    fn certify(&self, who: &str) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let issuer = issuer.expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &issuer).expect("signed");
        let write = |name: &str, text: String| {
            fs::write(self.path(who).join(name), text).expect("written");
        };
        fs::create_dir(self.path(who)).expect("made");
        write("ca.pem", issuer.pem());
        write("cert.pem", cert.pem());
        write("key.pem", key.serialize_pem());
    }

    fn run(&self, arguments: &[&str], env: &[(&str, String)]) -> Said {
        let mut command = keel(arguments);
        command.env("KEEL_STATE", self.path("state")).envs(env.iter().cloned());
        said(command.output().expect("runs"))
    }

    fn start(&self) -> Said {
        let file = |name: &str| shown(&self.path("ours").join(name));
        let files = [file("ca.pem"), file("cert.pem"), file("key.pem")];
        let [ca, cert, key] = files.each_ref().map(String::as_str);
        let tls = ["--tls-ca", ca, "--tls-cert", cert, "--tls-key", key];
        self.run(&[&["daemon", "--background", "-H", &self.host], tls.as_slice()].concat(), &[])
    }

    /// As `who`, with the environment that the docker client reads as well.
    fn ask(&self, who: &str) -> Said {
        let env = [
            ("DOCKER_HOST", self.host.clone()),
            ("DOCKER_TLS_VERIFY", "1".to_owned()),
            ("DOCKER_CERT_PATH", shown(&self.path(who))),
        ];
        self.run(&["ls"], &env)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "--stop", "--all", "--yes"], &[]);
    }
}

#[test]
fn a_client_with_a_certificate_talks_to_an_engine_elsewhere() {
    let place = Place::new();
    let started = place.start();
    assert_eq!(started.code, 0, "{}", started.err);
    let seen = place.ask("ours");
    assert!(seen.code == 0 && seen.err.contains("no services yet"), "{}", seen.err);
    let stranger = place.ask("theirs");
    assert_eq!(stranger.code, 1);
    assert!(stranger.err.contains("certificate"), "{}", stranger.err);
    // Strangers who take the engine for what it is are turned away as well.
    fs::copy(place.path("ours/ca.pem"), place.path("theirs/ca.pem")).expect("copied");
    let stranger = place.ask("theirs");
    assert_eq!((stranger.code, stranger.out.as_str()), (1, ""), "{}", stranger.err);
    let plain = place.run(&["-H", &place.host, "ls"], &[]);
    assert_eq!(plain.code, 1);
    assert!(plain.err.contains("set DOCKER_TLS_VERIFY=1"), "{}", plain.err);
    let nowhere = place.ask("nowhere");
    assert!(nowhere.err.contains("nowhere/"), "{}", nowhere.err);
    assert!(nowhere.err.contains("hint: DOCKER_CERT_PATH names a folder"), "{}", nowhere.err);
}

#[test]
fn there_is_no_listening_on_tcp_without_tls() {
    let place = Place::new();
    let refused = place.run(&["daemon", "-H", &place.host], &[]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("would let everybody who reaches it"), "{}", refused.err);
    assert!(refused.err.contains("hint: add --tls-ca"), "{}", refused.err);
    fs::write(place.path("ours/key.pem"), "no key").expect("written");
    let unusable = place.start();
    assert_eq!(unusable.code, 1);
    assert!(unusable.err.contains("ours/key.pem` has no private key"), "{}", unusable.err);
}
